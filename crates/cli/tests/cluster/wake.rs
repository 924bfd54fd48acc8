//! Waking: what one server commits is done on another one at once, and what was locked is not forgotten.
//!
//! The times are printed. What is asserted is far more than they should be: a slow machine is no error.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::shared;
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::Api;

const ROUNDS: usize = 50;
/// What a sweep, every 5 s, would miss.
const BOUND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A sync that waits. Gives its answer and when that came.
fn waiting(api: &Api, agent: &str, running: &Value) -> Receiver<(Value, Instant)> {
    let (api, agent) = (api.clone(), agent.to_owned());
    let body = json!({ "session": "s", "running": running, "wait": 15 });
    let (send, answer) = channel();
    thread::spawn(move || {
        let answer = api.sync(&agent, &body);
        // The test may have failed meanwhile.
        let _ = send.send((answer, Instant::now()));
    });
    answer
}

fn register(api: &Api, agent: &str, max_load: u32) {
    let body = json!({ "id": agent, "session": "s", "max_load": max_load });
    api.done("/api/agents", &body);
    api.sync(agent, &json!({ "session": "s", "running": [] }));
}

/// Long enough for a sync to have arrived and to wait. If it has not, it is answered all the same.
fn let_it_wait() {
    thread::sleep(Duration::from_millis(60));
}

#[test]
fn a_task_reaches_an_agent_that_waits_at_another_server() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    register(&apis[1], "ann", 1);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let id = format!("task{round}");
        let answer = waiting(&apis[1], "ann", &json!([]));
        let_it_wait();
        let began = Instant::now();
        apis[0].submit(&id);
        let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer["start"][0]["task"]["id"], id, "{answer}");
        times.push(at - began);
        let end = json!({ "agent_id": "ann", "attempt": 1, "success": true });
        apis[2].done(&format!("/api/tasks/{id}/complete"), &end);
    }
    times.sort_unstable();
    println!(
        "wake: from a submission at one server to the agent at another one: median {:?}, 90 % {:?}, longest {:?}",
        times[ROUNDS / 2],
        times[ROUNDS * 9 / 10],
        times[ROUNDS - 1]
    );
    assert!(times[ROUNDS - 1] < BOUND, "{times:?}");
    drop(servers);
    books::check(&database);
}

#[test]
fn a_task_that_met_a_locked_agent_is_dispatched_when_the_lock_is_gone() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    register(&apis[1], "ann", 1);
    for (round, submitter) in [0, 1, 2].into_iter().enumerate() {
        let id = format!("task{round}");
        let answer = waiting(&apis[1], "ann", &json!([]));
        let_it_wait();
        let (released, submitted) = thread::scope(|scope| {
            // Longer than turns wait for a lock.
            let lock =
                "BEGIN; SELECT id FROM agent WHERE id = 'ann' FOR UPDATE; SELECT pg_sleep(2.5); COMMIT";
            let locking = scope.spawn(|| {
                database.sql(lock);
                Instant::now()
            });
            let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
            within(PATIENCE, "the agent is locked", || {
                (database.sql(asleep) == "1").then_some(())
            });
            let began = Instant::now();
            apis[submitter].submit(&id);
            let submitted = began.elapsed();
            (locking.join().unwrap(), submitted)
        });
        let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer["start"][0]["task"]["id"], id, "{answer}");
        // The lock goes a moment before psql has ended.
        let time = at.saturating_duration_since(released);
        println!("wake: {time:?} after the lock was gone; the submission took {submitted:?}");
        assert!(time < BOUND, "{time:?}");
        assert!(
            submitted < BOUND,
            "the lock of an agent holds up no submission: {submitted:?}"
        );
        let end = json!({ "agent_id": "ann", "attempt": 1, "success": true });
        apis[2].done(&format!("/api/tasks/{id}/complete"), &end);
    }
    drop(servers);
    books::check(&database);
}

/// Room that comes at one server is used for what another one has.
#[test]
fn a_limit_that_is_raised_at_one_server_lets_an_agent_at_another_one_work() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    let limit = |jobs: u32| {
        let limits = json!({ "limits": [{ "window": "total", "jobs": jobs }] });
        apis[0].put("/api/limits/project:p", &limits);
    };
    limit(1);
    register(&apis[1], "ann", 0);
    let task = |id: &str| json!({ "id": id, "title": id, "project": "p" });
    apis[2].done("/api/tasks", &task("first"));
    apis[2].done("/api/tasks", &task("second"));
    let running = json!([{ "id": "first", "attempt": 1 }]);
    let (answer, _) = waiting(&apis[1], "ann", &json!([]))
        .recv_timeout(PATIENCE)
        .unwrap();
    assert_eq!(answer["start"][0]["task"]["id"], "first", "{answer}");
    let answer = waiting(&apis[1], "ann", &running);
    let_it_wait();
    let began = Instant::now();
    limit(2);
    let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
    assert_eq!(answer["start"][0]["task"]["id"], "second", "{answer}");
    println!(
        "wake: {:?} from a raised limit to the agent at another server",
        at - began
    );
    assert!(at - began < BOUND, "{:?}", at - began);
    drop(servers);
    books::check(&database);
}

/// What is used up at one server stops what runs at another one.
#[test]
fn a_limit_that_is_reached_at_one_server_stops_an_agent_at_another_one() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (servers, apis) = Start::on(&database, &directory, "60s").three();
    let limits = json!({ "limits": [{ "window": "total", "tokens": 1_000 }] });
    apis[0].put("/api/limits/project:p", &limits);
    for (place, agent) in ["ann", "ben"].into_iter().enumerate() {
        register(&apis[place], agent, 1);
        apis[2].done(
            "/api/tasks",
            &json!({ "id": agent, "title": agent, "project": "p" }),
        );
    }
    let mut tasks = ["ann", "ben"].into_iter().enumerate().map(|(place, agent)| {
        let (answer, _) = waiting(&apis[place], agent, &json!([]))
            .recv_timeout(PATIENCE)
            .unwrap();
        let id = answer["start"][0]["task"]["id"].as_str().unwrap().to_owned();
        let running = json!([{ "id": id, "attempt": 1 }]);
        apis[place].sync(agent, &json!({ "session": "s", "running": running }));
        (id, running)
    });
    let ((of_ann, _), (_, of_ben)) = (tasks.next().unwrap(), tasks.next().unwrap());
    let answer = waiting(&apis[1], "ben", &of_ben);
    let_it_wait();
    let began = Instant::now();
    let usage = json!({ "agent_id": "ann", "job_id": of_ann, "attempt": 1, "model": "m",
        "tokens_in": 2_000, "tokens_out": 0, "event": "usage" });
    apis[0].done("/api/usage", &usage);
    let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
    println!(
        "wake: {:?} from a limit that is reached to the agent at another server",
        at - began
    );
    assert_eq!(answer["stop"][0]["reason"], "limit", "{answer}");
    assert!(at - began < BOUND, "{:?}", at - began);
    drop(servers);
    books::check(&database);
}
