//! kill -9 of the server in a loop, while clients submit and agents work.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::books::{Books, COMPLETED};
use crate::load::{Crowd, agent, client, operator};
use crate::places;
use crate::support::api::Api;
use crate::support::{Program, Server, adjutant, eventually};

const KILLS: usize = 40;
const AGENTS: [&str; 3] = ["ann", "ben", "cid"];
const STATES: [&str; 6] = [
    "pending",
    "blocked",
    "in_progress",
    "completed",
    "failed",
    "cancelled",
];

/// What the API says when all is done.
struct Said {
    /// The lists that each task stands in.
    states: BTreeMap<String, Vec<&'static str>>,
    limits: Vec<Value>,
    usage: Vec<Value>,
}

impl Said {
    fn ask(api: &Api) -> Self {
        let mut states: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for state in STATES {
            for task in api.pages(&format!("/api/tasks?status={state}&limit=1000")) {
                let id = task["id"].as_str().unwrap().to_owned();
                states.entry(id).or_default().push(state);
            }
        }
        let agents = AGENTS.map(|agent| format!("agent:{agent}"));
        let scopes = ["project:p", "fleet", "model:m"]
            .map(str::to_owned)
            .into_iter()
            .chain(agents);
        Self {
            states,
            limits: scopes
                .map(|scope| api.get(&format!("/api/limits/{scope}")))
                .collect(),
            usage: AGENTS
                .map(|agent| api.get(&format!("/api/allowances/{agent}/usage")))
                .into(),
        }
    }
}

#[test]
fn a_server_killed_in_a_loop_loses_nothing_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let crowd = Crowd::new();
    let mut threads: Vec<_> = ["a", "b", "c"].map(|name| client(&crowd, name)).into();
    threads.push(operator(&crowd));
    threads.extend(AGENTS.map(|name| agent(&crowd, name)));
    let mut pause = 97;
    for kill in 0..KILLS {
        let server = Server::start_in(at, &[]);
        crowd.meet(Api::of(&server));
        // A spread of moments, the same in every run: from the midst of the first requests on.
        pause = pause * 61 % 499;
        let load = if kill % 4 == 0 { pause / 20 } else { pause };
        thread::sleep(Duration::from_millis(load));
        server.kill();
        if kill % 4 == 3 {
            // This one does not get as far as answering: it is killed while it recovers what the last one left.
            let mut early = adjutant(at);
            early
                .args(["serve", "--listen", "127.0.0.1:0"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let early = Program::start(&mut early);
            thread::sleep(Duration::from_millis(pause / 16));
            drop(early);
        }
    }
    let server = Server::start_in(at, &[]);
    let api = Api::of(&server);
    crowd.meet(api.clone());
    crowd.stop_submitting();
    eventually("the end of all work", || {
        let open = |state| api.get(&format!("/api/tasks?status={state}&limit=1"));
        let nothing = Value::Array(Vec::new());
        (open("pending") == nothing && open("in_progress") == nothing).then_some(())
    });
    crowd.stop_working();
    for thread in threads {
        thread.join().unwrap();
    }
    let said = Said::ask(&api);
    assert_eq!(server.terminate(), 0);
    check(&crowd, &said, &Books::open(&places::store(at)));
}

fn check(crowd: &Crowd, said: &Said, books: &Books) {
    let told = crowd.told.lock().unwrap();
    let stored = books.tasks();
    // I5
    let lost: Vec<_> = told
        .tasks
        .iter()
        .filter(|id| !said.states.contains_key(*id))
        .collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    let torn: Vec<_> = said
        .states
        .iter()
        .filter(|(_, states)| states.len() != 1)
        .collect();
    assert!(torn.is_empty(), "in more than one state: {torn:?}");
    // I10
    let done = |id: &str, attempt: i64| stored[id].status == COMPLETED && stored[id].attempt == attempt;
    let undone: Vec<_> = told
        .completed
        .iter()
        .filter(|(id, attempt)| !done(id, **attempt))
        .collect();
    assert!(undone.is_empty(), "acknowledged and undone: {undone:?}");
    let (completions, starts) = (books.events("task_completed"), books.events("task_dispatched"));
    for (id, task) in &stored {
        assert_eq!(
            (task.status, completions[id]),
            (COMPLETED, 1),
            "{id} is done, once"
        );
        assert_eq!(starts[id], task.attempt, "{id}: each start is told once");
    }
    // I9
    said.usage.iter().for_each(|usage| books.confirm_usage(usage));
    for limits in &said.limits {
        books.confirm(limits);
        let open = (&limits["active_jobs"], &limits["held_tokens"]);
        assert_eq!(open, (&0.into(), &0.into()), "{limits}");
    }
    let attempts: i64 = stored.values().map(|task| task.attempt).sum();
    assert_eq!(books.used("fleet").0, attempts);
    // What no event tells of.
    let limit = said.limits[0]["limits"][0]["tokens"].as_u64().unwrap();
    assert!(
        limit >= told.limit && told.limit > 0,
        "{} was set, {limit} is",
        told.limit
    );
    println!(
        "kill -9 of the server: {KILLS} kills at work and {} at the start survived; {} tasks accepted, {} completions acknowledged, {} requests cut \
         off; {} lost, {} doubled",
        KILLS / 4,
        told.tasks.len(),
        told.completed.len(),
        crowd.cut_off.load(Ordering::Relaxed),
        lost.len(),
        completions.values().filter(|times| **times > 1).count(),
    );
}

/// The log is moved into the file when it has grown to 64 MiB. The file grows by that, and at no other time.
#[test]
fn a_server_killed_while_it_moves_its_log_loses_nothing() {
    const ROUNDS: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let text = "x".repeat(1_000_000);
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        let server = Server::start_in(at, &[]);
        let api = Api::of(&server);
        let length = || places::store(at).metadata().unwrap().len();
        let before = length();
        let client = thread::spawn({
            let text = text.clone();
            move || {
                let mut accepted = Vec::new();
                for number in 0.. {
                    let ids: Vec<String> = (0..6).map(|part| format!("{round}-{number}-{part}")).collect();
                    let task = |id| json!({ "id": id, "title": "x", "description": text });
                    let batch = ids.iter().map(task).collect();
                    match api.post("/api/batch/tasks", &batch) {
                        Ok(answer) => {
                            answer.good();
                            accepted.extend(ids);
                        }
                        Err(_) => break,
                    }
                }
                accepted
            }
        });
        let end = Instant::now() + Duration::from_secs(30);
        while length() == before {
            assert!(Instant::now() < end, "the log was never moved");
            thread::sleep(Duration::from_micros(200));
        }
        server.kill();
        accepted.extend(client.join().unwrap());
    }
    let server = Server::start_in(at, &[]);
    let api = Api::of(&server);
    for id in [accepted.first().unwrap(), accepted.last().unwrap()] {
        assert_eq!(api.get(&format!("/api/tasks/{id}"))["description"], text);
    }
    assert_eq!(server.terminate(), 0);
    let stored = Books::open(&places::store(at)).tasks();
    assert!(accepted.iter().all(|id| stored.contains_key(id)), "I5");
    println!(
        "kill -9 while the log is moved: {ROUNDS} kills survived; {} tasks accepted, 0 lost",
        accepted.len()
    );
}
