//! A power cut, as far as it can be played without a machine to switch off.
//!
//! Files are copied at a moment, and the copy is opened: a copy of a frozen server is what a killed one leaves. For a
//! power cut the copy gets torn as well: of what the commit in flight wrote, only some sectors arrive. What was
//! written before is there whole, because it was synced before the answer.
//!
//! # Not here
//! That it *was* synced, and a disk that says so and does not do it. Writes into the file itself (while the log is
//! moved into it) are not torn.

use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::books::{Books, COMPLETED};
use crate::load::{Crowd, agent, client};
use crate::places::{self, Image};
use crate::support::Server;
use crate::support::api::Api;

const LOG: &str = "adjutant.db-wal";
const SECTOR: usize = 512;
const MOMENTS: usize = 20;

#[test]
fn a_copy_at_any_moment_has_all_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let crowd = Crowd::new();
    let threads = [
        client(&crowd, "a"),
        client(&crowd, "b"),
        agent(&crowd, "ann"),
        agent(&crowd, "ben"),
    ];
    let server = Server::start_in(directory.path(), &[]);
    crowd.meet(Api::of(&server));
    let mut copies = Vec::new();
    for moment in 0..MOMENTS {
        thread::sleep(Duration::from_millis(30 + 17 * (moment as u64 % 7)));
        let (tasks, completed) = {
            let told = crowd.told.lock().unwrap();
            (told.tasks.clone(), told.completed.clone())
        };
        server.signal("STOP");
        copies.push((tasks, completed, Image::of(directory.path())));
        server.signal("CONT");
    }
    crowd.stop_submitting();
    crowd.stop_working();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(server);
    for (tasks, completed, image) in copies {
        let place = image.put();
        let stored = Books::open(&places::store(place.path())).tasks();
        assert!(tasks.iter().all(|id| stored.contains_key(id)), "I5");
        for (id, attempt) in &completed {
            assert_eq!(
                (stored[id].status, stored[id].attempt),
                (COMPLETED, *attempt),
                "I10: {id}"
            );
        }
    }
}

/// Whether a sector reached the disk, of so many.
type Arrival = fn(usize, usize) -> bool;

/// Which sectors of the commit in flight reached the disk.
const ARRIVALS: [(&str, Arrival); 6] = [
    ("none", |_, _| false),
    ("all but the first", |sector, _| sector > 0),
    ("all but the last", |sector, all| sector + 1 < all),
    ("the last one", |sector, all| sector + 1 == all),
    ("every other", |sector, _| sector % 2 == 0),
    ("some", |sector, all| (sector * 7919 + all) % 5 < 2),
];

/// The log as a power cut leaves it: sectors that did not arrive are zeros when a later one did.
fn torn(before: &Image, after: &Image, arrives: Arrival) -> Image {
    let synced = before.bytes(LOG).len();
    before.with(LOG, |log| {
        let new = &after.bytes(LOG)[synced..];
        assert_eq!(
            &after.bytes(LOG)[..synced],
            &log[..],
            "what was synced is not touched again"
        );
        let all = new.len().div_ceil(SECTOR);
        for (sector, bytes) in new.chunks(SECTOR).enumerate() {
            if arrives(sector, all) {
                let start = synced + sector * SECTOR;
                log.resize(start, 0);
                log.extend(bytes);
            }
        }
    })
}

#[test]
fn a_torn_commit_is_dropped_whole_and_what_was_answered_stays() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &[]);
    let api = Api::of(&server);
    api.submit("first");
    let mut images = vec![(1, Image::of(directory.path()))];
    let mut count = 1;
    for number in 0..8 {
        let size = if number % 2 == 0 { 1 } else { 12 };
        let batch = (0..size)
            .map(|part| json!({ "id": format!("{number}-{part}"), "title": "x", "description": "y".repeat(3_000) }))
            .collect();
        api.post("/api/batch/tasks", &batch).unwrap().good();
        count += size;
        // Nothing is in flight: a server without agents has nothing to do by itself.
        images.push((count, Image::of(directory.path())));
    }
    server.kill();
    let mut cuts = 0;
    for pair in images.windows(2) {
        let [(known, before), (_, after)] = pair else {
            unreachable!()
        };
        for (name, arrives) in ARRIVALS {
            let place = torn(before, after, arrives).put();
            let rows = Connection::open(places::store(place.path())).unwrap();
            let (tasks, sound): (i64, String) = (
                rows.query_row("SELECT count(*) FROM task", (), |row| row.get(0))
                    .unwrap(),
                rows.query_row("PRAGMA integrity_check", (), |row| row.get(0))
                    .unwrap(),
            );
            assert_eq!((tasks, sound.as_str()), (*known, "ok"), "{name}");
            cuts += 1;
        }
    }
    // The program itself takes none of them for damage.
    let [.., (known, before), (_, after)] = &images[..] else {
        unreachable!()
    };
    for (name, arrives) in ARRIVALS {
        let place = torn(before, after, arrives).put();
        let server = Server::start_in(place.path(), &[]);
        let tasks = Api::of(&server).pages("/api/tasks?limit=1000").len();
        assert_eq!(i64::try_from(tasks).unwrap(), *known, "{name}");
    }
    println!("power cuts: {cuts} torn commits dropped whole, 0 answered ones lost");
}
