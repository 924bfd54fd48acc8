//! kill -9 of workers in a loop, while the server lives.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::books::{Books, COMPLETED};
use crate::places;
use crate::support::api::Api;
use crate::support::{Program, Server, eventually};

const WORKERS: [&str; 2] = ["wim", "wes"];
const KILLS: usize = 8;
const TASKS: usize = 24;

/// A worker whose command writes down what it began and what it finished. What a killed worker leaves behind ends by
/// itself within a moment.
fn worker(server: &Server, id: &str) -> Program {
    let script = "echo $ADJUTANT_TASK_ID $ADJUTANT_ATTEMPT >> begun.txt; sleep 0.4; \
        echo $ADJUTANT_TASK_ID $ADJUTANT_ATTEMPT >> finished.txt";
    Program::start(
        server
            .command()
            .args(["worker", "--id", id, "--max-load", "2", "--", "sh", "-c", script])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}

/// How often each attempt of each task stands in a file.
fn written(directory: &Path, name: &str) -> BTreeMap<(String, i64), usize> {
    let mut times = BTreeMap::new();
    for line in std::fs::read_to_string(directory.join(name))
        .unwrap_or_default()
        .lines()
    {
        let (id, attempt) = line.split_once(' ').unwrap();
        *times
            .entry((id.to_owned(), attempt.parse().unwrap()))
            .or_default() += 1;
    }
    times
}

#[test]
fn tasks_of_killed_workers_are_done_by_the_next_and_nothing_is_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    let api = Api::of(&server);
    for number in 0..TASKS {
        let task = json!({ "id": format!("t{number}"), "title": "x", "max_retries": 20, "project": "p" });
        api.post("/api/tasks", &task).unwrap().good();
    }
    let mut workers: Vec<Program> = WORKERS.iter().map(|id| worker(&server, id)).collect();
    for kill in 0..KILLS {
        let begun = written(at, "begun.txt").len();
        eventually("another start", || {
            (written(at, "begun.txt").len() > begun).then_some(())
        });
        // Somewhere within an attempt.
        thread::sleep(Duration::from_millis(100 + 40 * (kill as u64 % 5)));
        // kill -9; the next one has the same id.
        drop(workers.remove(0));
        workers.push(worker(&server, WORKERS[kill % 2]));
    }
    // Fencing: whoever still speaks for an attempt that a newer one has replaced changes nothing.
    let fenced = eventually("a second attempt", || {
        let running = api.get("/api/tasks?limit=1000");
        running
            .as_array()
            .unwrap()
            .iter()
            .find(|task| task["attempt"].as_i64() > Some(1))
            .cloned()
    });
    let (id, holder) = (fenced["id"].as_str().unwrap(), &fenced["claimed_by"]);
    let stale = json!({ "agent_id": holder, "attempt": 1, "success": true, "output": "stale" });
    let refused = api.post(&format!("/api/tasks/{id}/complete"), &stale).unwrap();
    assert_eq!(refused.status, 409, "{refused:?}");
    eventually("all work", || {
        (api.pages("/api/tasks?status=completed&limit=1000").len() == TASKS).then_some(())
    });
    for worker in workers {
        worker.terminate();
    }
    let fleet = api.get("/api/limits/fleet");
    let result = api.get(&format!("/api/tasks/{id}"))["result"]["output"].clone();
    assert_ne!(result, "stale", "I8");
    assert_eq!(server.terminate(), 0);

    let books = Books::open(&places::store(at));
    books.confirm(&fleet);
    assert_eq!(fleet["active_jobs"], 0);
    let tasks = books.tasks();
    let (begun, finished) = (written(at, "begun.txt"), written(at, "finished.txt"));
    let (starts, ends) = (books.events("task_dispatched"), books.events("task_completed"));
    let failures = books.events("task_attempt_failed");
    for (id, task) in &tasks {
        assert_eq!(
            (task.status, ends[id], starts[id]),
            (COMPLETED, 1, task.attempt),
            "{id}"
        );
        assert_eq!(
            task.retries,
            task.attempt - 1,
            "{id}: each attempt but the last was lost, and counts"
        );
        assert_eq!(failures.get(id).copied().unwrap_or(0), task.retries, "{id}");
        assert_eq!(
            finished.get(&(id.clone(), task.attempt)),
            Some(&1),
            "{id}: the attempt that counts did its work"
        );
    }
    assert!(
        begun.values().all(|times| *times == 1),
        "no attempt is begun twice: {begun:?}"
    );
    let attempts: i64 = tasks.values().map(|task| task.attempt).sum();
    assert_eq!(books.used("project:p").0, attempts);
    let lost = attempts - i64::try_from(TASKS).unwrap();
    assert!(lost > 0, "the kills hit something");
    println!(
        "kill -9 of workers: {KILLS} kills, {TASKS} tasks completed once each, {lost} attempts lost and made up for"
    );
}
