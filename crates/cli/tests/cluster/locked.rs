//! Rows that somebody else has locked: whoever asks for something waits for a moment, and is answered as always. A turn
//! that has waited for too long, or that the database has ended because of a deadlock, is taken again.

use std::thread;
use std::time::Duration;

use adjutant_postgres_fixture::{Database, shared};
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::{Answer, Api};

const PATIENCE: Duration = Duration::from_secs(30);
/// How often a deadlock is tried for: on a machine that is too slow it is the time to wait for a lock that runs out.
const TRIES: usize = 10;

/// Waits, in SQL, until a server waits for a lock.
const UNTIL_SOMEBODY_WAITS: &str = "DO $$ BEGIN FOR i IN 1..4000 LOOP PERFORM pg_stat_clear_snapshot(); \
    IF EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()) \
    THEN RETURN; END IF; PERFORM pg_sleep(0.005); END LOOP; RAISE 'nobody has waited for the lock'; END $$";
const IS_HELD: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO $$%' \
    AND datname = current_database()";

/// Locks a row, and asks. When a server waits for the row, something more is done, and the lock goes.
fn ask_for_locked(database: &Database, id: &str, then: &str, ask: impl FnOnce() -> Answer) -> Answer {
    let lock = format!("SELECT key FROM task WHERE id = '{id}' FOR UPDATE");
    let hold =
        format!("BEGIN; SET LOCAL deadlock_timeout = '1min'; {lock}; {UNTIL_SOMEBODY_WAITS}; {then}; COMMIT");
    thread::scope(|scope| {
        let holding = scope.spawn(|| database.sql(&hold));
        within(PATIENCE, "the row is locked", || {
            (database.sql(IS_HELD) == "1").then_some(())
        });
        let answer = ask();
        holding.join().unwrap();
        answer
    })
}

/// All that can be asked for a task, and what is answered.
fn requests(id: &str) -> Vec<(&'static str, String, Value, u16)> {
    let path = |act: &str| format!("/api/tasks/{id}{act}");
    let submission = json!({ "id": format!("after-{id}"), "title": "x", "dependencies": [id] });
    vec![
        ("PATCH", path(""), json!({ "priority": "high" }), 200),
        ("POST", "/api/tasks".into(), submission, 201),
        ("POST", path("/hold"), json!({}), 200),
        ("POST", path("/unhold"), json!({}), 200),
        ("POST", path("/claim"), json!({ "agent_id": "ann" }), 200),
        (
            "POST",
            path("/output"),
            json!({ "text": "x", "agent_id": "ann" }),
            200,
        ),
        ("PATCH", path(""), json!({ "progress": 50, "attempt": 1 }), 200),
        (
            "POST",
            path("/complete"),
            json!({ "success": true, "agent_id": "ann", "attempt": 1 }),
            200,
        ),
    ]
}

/// Errors of the store after which turns were taken again.
fn busy(api: &Api) -> u64 {
    let metrics = api.get("/metrics");
    let mut lines = metrics.as_str().unwrap().lines();
    let line = lines.find(|line| line.starts_with("adjutant_store_errors_total{kind=\"busy\"}"));
    line.unwrap().split(' ').next_back().unwrap().parse().unwrap()
}

#[test]
fn a_request_for_a_locked_task_is_answered_when_the_lock_is_gone() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let (server, api) = Start::on(&database, &directory, "60s").one();
    // The second one is held for longer than turns wait for a lock.
    for (id, seconds) in [("moment", 0.3), ("longer", 1.5)] {
        api.submit(id);
        let before = busy(&api);
        for (method, path, body, status) in requests(id) {
            let hold = format!("SELECT pg_sleep({seconds})");
            let answer = ask_for_locked(&database, id, &hold, || {
                api.ask(method, &path, Some(&body)).unwrap()
            });
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        }
        assert_eq!(api.status(id), "completed");
        let busy = busy(&api) - before;
        println!("locked: {busy} turns were taken again for `{id}`");
        assert!(id == "moment" || busy > 0, "a turn was turned back");
    }
    assert_eq!(server.terminate(), 0);
    books::check(&database);
}

/// A server locks two tasks in their order, and somebody else has the second, and wants the first.
#[test]
fn a_turn_that_is_the_victim_of_a_deadlock_is_taken_again() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    // Before the time to wait for a lock is over, and long enough for the other one to come to its second lock.
    database.sql(&format!(
        "ALTER DATABASE {} SET deadlock_timeout = '600ms'",
        database.name()
    ));
    let (server, api) = Start::on(&database, &directory, "60s").one();
    let deadlocks =
        || database.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") != "0";
    for number in 0..TRIES {
        let ids = ["first", "second"].map(|name| format!("{name}{number}"));
        for id in &ids {
            api.submit(id);
            let claim = json!({ "agent_id": "ann" });
            api.done(&format!("/api/tasks/{id}/claim"), &claim);
        }
        let ends: Value = ids
            .iter()
            .map(|id| json!({ "id": id, "agent_id": "ann", "attempt": 1, "success": true }))
            .collect();
        let want = format!("SELECT key FROM task WHERE id = '{}' FOR UPDATE", ids[0]);
        let answer = ask_for_locked(&database, &ids[1], &want, || {
            api.post("/api/batch/complete", &ends).unwrap()
        });
        assert_eq!(answer.status, 200, "{answer:?}");
        for item in answer.body.as_array().unwrap() {
            assert_eq!(item["status"], 200, "{item}");
        }
        // It is told some time after it was.
        for _ in 0..30 {
            if deadlocks() {
                println!("locked: a deadlock in round {number}");
                assert_eq!(server.terminate(), 0);
                books::check(&database);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    panic!("there was no deadlock in {TRIES} rounds");
}
