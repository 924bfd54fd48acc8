//! Waking: what one server commits is done on another one at once, and what was locked is not forgotten.
//!
//! The times are printed. What is asserted is far more than they should be: a slow machine is no error. What a sweep
//! would make good in the end is done in so many rounds, and in so little time, that there were not enough sweeps
//! for all of them.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::{Database, shared};
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::Api;

const ROUNDS: usize = 50;
/// What a sweep, every 5 s, would miss.
const BOUND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// Each server looks over all that waits so often, whether it was woken or not.
const SWEEP: Duration = Duration::from_secs(5);
/// Rounds in which only a sweep could make good what was forgotten, by two servers.
const SWEPT_ROUNDS: usize = 16;

/// That not each of the rounds was ended by a sweep. In a time t a server sweeps t / 5 s + 1 times at most, and so two
/// servers end 16 rounds in no less than (16 / 2 - 1) · 5 s = 35 s, of which chance takes nothing off. That a single
/// round of many was left to a sweep, and the sweep came within its bound of a second, has a chance of two in five.
#[track_caller]
fn not_by_sweeps(began: Instant, rounds: usize) {
    let took = began.elapsed();
    let sweeps = 2.0 * (took.as_secs_f64() / SWEEP.as_secs_f64() + 1.0);
    println!("wake: {rounds} rounds in {took:?}, in which servers sweep {sweeps:.1} times at most");
    assert!(f64::from(u32::try_from(rounds).unwrap()) > sweeps, "{took:?}");
}

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

/// One agent waits at the second of two servers, and gets a task in each round.
struct Rounds<'a> {
    apis: &'a [Api],
    began: Instant,
}

impl<'a> Rounds<'a> {
    fn begin(apis: &'a [Api]) -> Self {
        register(&apis[1], "ann", 1);
        Self {
            apis,
            began: Instant::now(),
        }
    }

    /// Waits until the agent has the task. `released` is when nothing stood in the way any more.
    fn meet(id: &str, answer: &Receiver<(Value, Instant)>, released: Instant) {
        let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer["start"][0]["task"]["id"], id, "{answer}");
        let time = at.saturating_duration_since(released);
        println!("wake: {time:?} after nothing stood in the way");
        assert!(time < BOUND, "{time:?}");
    }

    fn complete(&self, id: &str) {
        let end = json!({ "agent_id": "ann", "attempt": 1, "success": true });
        self.apis[1].done(&format!("/api/tasks/{id}/complete"), &end);
    }
}

#[test]
fn a_task_that_met_a_locked_agent_is_dispatched_when_the_lock_is_gone() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "60s");
    let (servers, apis): (Vec<_>, Vec<_>) = [start.one(), start.one()].into_iter().unzip();
    let rounds = Rounds::begin(&apis);
    for round in 0..SWEPT_ROUNDS {
        let id = format!("task{round}");
        // At first longer than turns wait for a lock.
        let seconds = if round == 0 { 2.5 } else { 0.3 };
        let answer = waiting(&apis[1], "ann", &json!([]));
        let_it_wait();
        let (released, submitted) = thread::scope(|scope| {
            let lock = format!(
                "BEGIN; SELECT id FROM agent WHERE id = 'ann' FOR UPDATE; SELECT pg_sleep({seconds}); COMMIT"
            );
            let database = &database;
            let locking = scope.spawn(move || {
                database.sql(&lock);
                Instant::now()
            });
            let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
            within(PATIENCE, "the agent is locked", || {
                (database.sql(asleep) == "1").then_some(())
            });
            let began = Instant::now();
            apis[round % 2].submit(&id);
            let submitted = began.elapsed();
            // The lock goes a moment before psql has ended.
            (locking.join().unwrap(), submitted)
        });
        Rounds::meet(&id, &answer, released);
        rounds.complete(&id);
        assert!(
            submitted < BOUND,
            "the lock of an agent holds up no submission: {submitted:?}"
        );
    }
    not_by_sweeps(rounds.began, SWEPT_ROUNDS);
    drop(servers);
    books::check(&database);
}

/// Who writes a new task goes no further until somebody opens a gate: the turn has decided, and is not committed.
struct Gate<'a>(&'a Database);

impl<'a> Gate<'a> {
    fn before(database: &'a Database) -> Self {
        database.sql(
            "CREATE SCHEMA gate; CREATE TABLE gate.shut (); \
             CREATE FUNCTION gate.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             WHILE EXISTS (SELECT FROM gate.shut) LOOP PERFORM pg_sleep(0.002); END LOOP; RETURN NULL; END $$; \
             CREATE TRIGGER gate AFTER INSERT ON task FOR EACH ROW EXECUTE FUNCTION gate.wait()",
        );
        Self(database)
    }

    fn shut(&self) {
        self.0.sql("INSERT INTO gate.shut DEFAULT VALUES");
    }

    /// Waits until somebody stands before it.
    fn meet(&self) {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' \
                     AND datname = current_database()";
        within(PATIENCE, "a submission is held up", || {
            (self.0.sql(waits) == "1").then_some(())
        });
    }

    /// Gives a moment before it is open.
    fn open(&self) -> Instant {
        let before = Instant::now();
        self.0.sql("DELETE FROM gate.shut");
        before
    }
}

/// A task whose turn has found no agent with room, and which is not committed yet, is not seen by the turn and the pass
/// that give an agent room meanwhile.
#[test]
fn a_task_that_is_not_committed_yet_reaches_an_agent_that_has_looked_already() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "60s");
    let (servers, apis): (Vec<_>, Vec<_>) = [start.one(), start.one()].into_iter().unzip();
    register(&apis[1], "other", 1);
    // It takes nothing.
    apis[1].done("/api/agents/other/drain", &json!({}));
    let rounds = Rounds::begin(&apis);
    apis[0].submit("task0");
    let answer = waiting(&apis[1], "ann", &json!([]));
    Rounds::meet("task0", &answer, Instant::now());
    let gate = Gate::before(&database);
    for round in 1..=SWEPT_ROUNDS {
        let (before, id) = (format!("task{}", round - 1), format!("task{round}"));
        gate.shut();
        thread::scope(|scope| {
            let submitting = scope.spawn(|| apis[0].submit(&id));
            gate.meet();
            rounds.complete(&before);
            let answer = waiting(&apis[1], "ann", &json!([]));
            let_it_wait();
            // Behind that sync there is another turn, which has an answer.
            apis[1].sync("other", &json!({ "session": "s", "running": [] }));
            assert!(answer.try_recv().is_err(), "there is nothing for it yet");
            let released = gate.open();
            submitting.join().unwrap();
            Rounds::meet(&id, &answer, released);
        });
    }
    not_by_sweeps(rounds.began, SWEPT_ROUNDS);
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
