//! Broken files: told at the start in one line, or the moment they are touched, and never answered from.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::places::{self, Image};
use crate::support::api::Api;
use crate::support::{Ran, Server, TOKEN, adjutant};

const FILE: &str = "adjutant.db";
const LOG: &str = "adjutant.db-wal";
const MARK: &str = "adjutant.db.mark";
const PAGE: usize = 4_096;
const FRAME: usize = PAGE + 24;

/// Starts the server on what is there.
fn start(directory: &Path) -> Result<Server, Ran> {
    let mut command = adjutant(directory);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "error"])
        .env("ADJUTANT_ADMIN_TOKEN", TOKEN);
    Server::try_spawn(command, directory)
}

/// The start is refused in one line that says what is wrong, and one or more that say how to mend it.
#[track_caller]
fn is_refused(what: &str, image: &Image, message: &str) {
    let place = image.put();
    let before = Image::of(place.path());
    let ran = start(place.path())
        .err()
        .unwrap_or_else(|| panic!("{what}: it started"));
    assert!(ran.stderr.contains("hint: "), "{what}: {ran:?}");
    ran.fails(1, message);
    let after = Image::of(place.path());
    for name in [FILE, LOG, MARK] {
        assert!(
            before.bytes(name) == after.bytes(name),
            "{what}: what is broken is left as it is, also {name}"
        );
    }
}

fn fill(api: &Api, round: u32) {
    api.post(
        "/api/agents",
        &json!({ "id": "ann", "session": "s", "max_load": 4 }),
    )
    .unwrap()
    .good();
    for number in 0..30 {
        let text = "what is to be done ".repeat(if number % 5 == 0 { 600 } else { 10 });
        let task =
            json!({ "id": format!("t{round}-{number}"), "title": "x", "description": text, "project": "p" });
        api.post("/api/tasks", &task).unwrap().good();
    }
    let running = json!({ "session": "s", "running": [] });
    let answer = api.post("/api/agents/ann/sync", &running).unwrap().good();
    for start in answer["start"].as_array().unwrap() {
        let id = start["task"]["id"].as_str().unwrap();
        let end =
            json!({ "agent_id": "ann", "attempt": 1, "success": true, "output": "done", "tokens_in": 5 });
        api.post(&format!("/api/tasks/{id}/complete"), &end)
            .unwrap()
            .good();
    }
}

/// All that can be read, question by question. What cannot be read is an error of the documented form, and no answer.
fn answers(api: &Api) -> Vec<Value> {
    let mut all = Vec::new();
    for task in 0..60 {
        all.push(format!("/api/tasks/t{}-{}", task / 30 + 1, task % 30));
    }
    for seq in (0..150).step_by(10) {
        all.push(format!("/api/events?since={seq}&limit=10"));
    }
    all.extend(
        [
            "/api/tasks?status=pending&limit=100",
            "/api/status",
            "/api/limits/fleet",
            "/api/limits/project:p",
        ]
        .map(str::to_owned),
    );
    all.iter()
        .map(|path| {
            let answer = api.ask("GET", path, None).unwrap();
            if answer.is_good() {
                return lasting(answer.body);
            }
            let known = [
                (500, "internal"),
                (503, "storage_unavailable"),
                (404, "task_not_found"),
            ];
            let error = answer.body["error"].as_str().unwrap_or_default();
            assert!(known.contains(&(answer.status, error)), "{path}: {answer:?}");
            Value::Null
        })
        .collect()
}

/// Without what passes with time, and what another answer tells.
fn lasting(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            for key in ["waiting", "agents", "use", "lease_expires_at"] {
                fields.remove(key);
            }
            answer
        }
        Value::Array(items) if items.first().is_some_and(|item| item["id"].is_string()) => {
            items.iter().map(|item| item["id"].clone()).collect()
        }
        _ => answer,
    }
}

struct Images {
    /// After a clean end: all is in the file.
    clean: Image,
    /// After a kill: something is in the log.
    killed: Image,
}

fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let server = Server::start_in(at, &[]);
        fill(&Api::of(&server), 1);
        assert_eq!(server.terminate(), 0);
        let clean = Image::of(at);
        assert!(clean.bytes(LOG).is_empty(), "a clean end leaves all in one file");
        let server = Server::start_in(at, &[]);
        fill(&Api::of(&server), 2);
        // The last thing that was answered is one that no event tells of.
        let limits = json!({ "limits": [{ "window": "day", "jobs": 77 }] });
        Api::of(&server)
            .ask("PUT", "/api/limits/project:p", Some(&limits))
            .unwrap()
            .good();
        server.kill();
        let killed = Image::of(at);
        assert!(killed.bytes(LOG).len() > 20 * FRAME);
        Images { clean, killed }
    })
}

#[test]
fn a_log_that_lost_what_was_answered_is_noticed() {
    let killed = &images().killed;
    let length = killed.bytes(LOG).len();
    let lost = "has lost what was acknowledged: it ends at event ";
    is_refused(
        "half of it",
        &killed.with(LOG, |log| log.truncate(length / 2)),
        lost,
    );
    is_refused("its header only", &killed.with(LOG, |log| log.truncate(32)), lost);
    is_refused("nothing", &killed.with(LOG, Vec::clear), lost);
    is_refused("no file", &killed.without(LOG), lost);
    is_refused(
        "all but the last change, which no event tells of",
        &killed.with(LOG, |log| log.truncate(length - 1)),
        "has lost what was acknowledged: 1 changes that no event tells of are missing",
    );
    is_refused(
        "one bit of the last frame",
        &killed.with(LOG, |log| log[length - 100] ^= 4),
        "has lost what was acknowledged",
    );
    // Whoever knows what is gone may go on without it.
    let place = killed.without(LOG).put();
    fs::remove_file(place.path().join(MARK)).unwrap();
    let server = start(place.path()).unwrap();
    assert_eq!(Api::of(&server).pages("/api/tasks?limit=100").len(), 30);
}

#[test]
fn a_log_that_is_broken_in_its_middle_is_noticed_even_without_a_mark() {
    let killed = images().killed.without(MARK);
    for (what, at) in [
        ("early", 32 + 3 * FRAME + 700),
        ("a salt", 32 + 5 * FRAME + 9),
        ("a size", 32 + 6 * FRAME + 6),
    ] {
        is_refused(
            what,
            &killed.with(LOG, |log| log[at] ^= 1),
            "is damaged: its log is broken at frame ",
        );
    }
    for at in [0, 9, 17, 30] {
        is_refused(
            "its header",
            &killed.with(LOG, |log| log[at] ^= 1),
            "is damaged: the header of its log is broken",
        );
    }
}

#[test]
fn what_a_crash_leaves_at_the_end_of_a_log_is_no_damage() {
    let killed = &images().killed;
    let whole = {
        let place = killed.put();
        answers(&Api::of(&start(place.path()).unwrap()))
    };
    let frame = killed.bytes(LOG)[32..32 + FRAME].to_vec();
    for length in [1, 24, 700, FRAME] {
        // A commit that was cut short: frames that nothing completes.
        let place = killed.with(LOG, |log| log.extend(&frame[..length])).put();
        let server = start(place.path()).unwrap_or_else(|ran| panic!("{length}: {ran:?}"));
        assert!(answers(&Api::of(&server)) == whole, "{length}");
    }
    // What a transaction that was rolled back left behind one that a power cut tore.
    let last = killed.bytes(LOG)[killed.bytes(LOG).len() - FRAME..].to_vec();
    let place = killed
        .with(LOG, |log| log.extend([&last[..], &last[..]].concat()))
        .put();
    assert!(answers(&Api::of(&start(place.path()).unwrap())) == whole);
    // A mark that a power cut tore says nothing.
    let place = killed.with(MARK, |mark| mark.fill(0)).put();
    assert!(answers(&Api::of(&start(place.path()).unwrap())) == whole);
}

#[test]
fn a_file_that_was_put_back_from_a_copy_is_taken() {
    let Images { clean, killed } = images();
    let place = killed.without(LOG).put();
    // In its place, with the mark of the run that was killed beside it.
    fs::write(places::store(place.path()), clean.bytes(FILE)).unwrap();
    assert_eq!(
        Api::of(&start(place.path()).unwrap())
            .pages("/api/tasks?limit=100")
            .len(),
        30
    );
}

#[test]
fn a_store_that_was_removed_on_purpose_begins_anew() {
    let place = images().killed.without(LOG).without(FILE).put();
    let server = start(place.path()).unwrap();
    assert!(Api::of(&server).pages("/api/tasks").is_empty());
}

#[test]
fn a_file_that_was_cut_off_is_noticed() {
    let Images { clean, killed } = images();
    let length = clean.bytes(FILE).len();
    for left in [
        length - PAGE,
        length - 1,
        length / 2,
        length / 2 + 77,
        PAGE,
        1_000,
        1,
        0,
    ] {
        let image = clean.with(FILE, |file| file.truncate(left));
        is_refused(&format!("{left} bytes of {length}"), &image, "is damaged: ");
    }
    for left in [length / 2, length / 2 + 77, PAGE, 1_000, 1, 0] {
        let image = killed.with(FILE, |file| file.truncate(left));
        is_refused(
            &format!("{left} bytes of {length}, with a log"),
            &image,
            "is damaged: ",
        );
    }
    is_refused(
        "none at all",
        &killed.without(FILE),
        "is damaged: it is missing or next to empty, and its log (-wal) is there",
    );
}

/// What became of a file that was damaged.
enum Fate {
    /// It was refused, in a line.
    Told,
    /// It was taken, and every answer is right.
    Harmless,
    /// It was taken, and so many answers were an error or wrong.
    Taken(usize),
}

fn fate(image: &Image, whole: &[Value]) -> Fate {
    let place = image.put();
    match start(place.path()) {
        Err(ran) => {
            ran.fails(1, "error: ");
            assert!(ran.stderr.contains("hint: "), "{ran:?}");
            Fate::Told
        }
        Ok(server) => {
            let found = answers(&Api::of(&server));
            match found
                .iter()
                .zip(whole)
                .filter(|(one, other)| one != other)
                .count()
            {
                0 => Fate::Harmless,
                changed => Fate::Taken(changed),
            }
        }
    }
}

/// Damages a clean file in many ways, one at a time. SQLite keeps no checksums of pages, so that what lies inside of a
/// value can change without anybody's notice. What can be asked for: the rest is told, nothing panics, and what is
/// taken harms no more than a value, which stands in a few answers at the most.
fn damage_one_by_one(what: &str, damages: impl Iterator<Item = Image>) -> (usize, usize, usize) {
    let place = images().clean.put();
    let whole = answers(&Api::of(&start(place.path()).unwrap()));
    let (mut told, mut harmless, mut taken) = (0, 0, 0);
    for (number, image) in damages.enumerate() {
        match fate(&image, &whole) {
            Fate::Told => told += 1,
            Fate::Harmless => harmless += 1,
            Fate::Taken(changed) => {
                assert!(changed <= 2, "{what} {number}: {changed} answers changed");
                taken += 1;
            }
        }
    }
    println!(
        "{what}: {told} told at the start, {harmless} changed no answer that was asked for, {taken} changed a value unnoticed"
    );
    (told, harmless, taken)
}

#[test]
fn a_page_that_was_lost_is_told_unless_it_is_the_end_of_a_long_value() {
    let clean = &images().clean;
    let pages = clean.bytes(FILE).len() / PAGE;
    let lost = (0..pages).map(|page| clean.with(FILE, |file| file[page * PAGE..][..PAGE].fill(0)));
    let (_, harmless, taken) = damage_one_by_one("lost pages", lost);
    // Each of six long texts has such a page.
    assert!((harmless, taken) == (0, 6), "{harmless} harmless, {taken} taken");
}

#[test]
fn a_flipped_bit_is_told_or_harms_one_value() {
    let clean = &images().clean;
    let mut at = 12_345;
    let flips = (0..60).map(|_| {
        // The same places in every run, all over the file.
        at = (at * 48_271) % 2_147_483_647;
        clean.with(FILE, |file| {
            let byte = at % file.len();
            file[byte] ^= 1 << (at % 8);
        })
    });
    damage_one_by_one("flipped bits", flips);
}

#[test]
fn damage_that_comes_while_it_runs_ends_the_server_at_the_first_touch() {
    let place = images().clean.put();
    let server = start(place.path()).unwrap();
    let length = images().clean.bytes(FILE).len();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(places::store(place.path()))
        .unwrap();
    file.seek(SeekFrom::Start(PAGE as u64)).unwrap();
    file.write_all(&vec![0; length - PAGE]).unwrap();
    // A reader opens pages of its own. It gets no answer, or is told that there is none; nothing is made up.
    if let Ok(answer) = Api::of(&server).ask("GET", "/api/tasks?limit=100", None) {
        assert_eq!(answer.status, 503, "{answer:?}");
        let error = answer.body["error"].as_str().unwrap();
        // The server may be on its way out already.
        assert!(
            matches!(error, "storage_unavailable" | "shutting_down"),
            "{answer:?}"
        );
    }
    let ran = server.ended();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("\nerror: the store ./adjutant.db is damaged: "),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("\nhint: ") && !ran.stderr.contains("panic"),
        "{ran:?}"
    );
    is_refused("the next start", &Image::of(place.path()), "is damaged: ");
}
