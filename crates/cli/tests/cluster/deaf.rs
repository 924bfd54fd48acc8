//! Words that are lost: servers that do not hear of each other's commits look at them every five seconds.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::{Database, shared};
use serde_json::{Value, json};

use crate::books;
use crate::follower::Follower;
use crate::servers::{Start, within};
use crate::support::Server;
use crate::support::api::Api;

/// What servers tell each other vanishes on its way.
const NO_WORDS: &str = "CREATE FUNCTION lost.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'";
/// How long it may take until a server has looked: twice as long as between two looks. Each round begins at the end of
/// the one before, which was such a look: with more than ten seconds between them the second round takes too long.
const BOUND: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// A function of ours is found before that of the system.
fn lose(database: &Database) {
    database.sql("CREATE SCHEMA lost");
    database.sql(NO_WORDS);
    let name = database.name();
    database.sql(&format!(
        "ALTER DATABASE {name} SET search_path = public, lost, pg_catalog"
    ));
}

fn waiting(api: &Api) -> Receiver<(Value, Instant)> {
    let api = api.clone();
    let (send, answer) = channel();
    thread::spawn(move || {
        let answer = api.sync("ann", &json!({ "session": "s", "running": [], "wait": 25 }));
        // The test may have failed meanwhile.
        let _ = send.send((answer, Instant::now()));
    });
    answer
}

fn two(start: &Start) -> (Vec<Server>, Vec<Api>) {
    [start.one(), start.one()].into_iter().unzip()
}

/// Nothing else happens at the second server: what it commits itself would tell it of what came before.
#[test]
fn events_of_which_no_word_came_are_told_to_readers() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    lose(&database);
    let (servers, apis) = two(&Start::on(&database, &directory, "120s"));
    let follower = Follower::after(&apis[1], 0).unwrap();
    for round in 0..ROUNDS {
        let id = format!("task{round}");
        let began = Instant::now();
        apis[0].submit(&id);
        let (_, event) = follower.next(PATIENCE).unwrap().unwrap();
        let took = began.elapsed();
        assert_eq!(
            (&event["type"], &event["task_id"]),
            (&json!("task_created"), &json!(id))
        );
        println!("deaf: told after {took:?}");
        assert!(took < BOUND, "{took:?}");
        // Nobody can take it, which is told as well.
        let (_, event) = follower.next(PATIENCE).unwrap().unwrap();
        assert_eq!(event["type"], "dispatch_failed_no_agent", "{event}");
    }
    drop(servers);
    books::check(&database);
}

/// The ttl is so long that an eighth of it is more than the bound.
#[test]
fn a_task_of_which_no_word_came_reaches_an_agent_that_waits() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    lose(&database);
    let (servers, apis) = two(&Start::on(&database, &directory, "120s"));
    apis[1].done(
        "/api/agents",
        &json!({ "id": "ann", "session": "s", "max_load": 1 }),
    );
    apis[1].sync("ann", &json!({ "session": "s", "running": [] }));
    for round in 0..ROUNDS {
        let id = format!("task{round}");
        let answer = waiting(&apis[1]);
        // It is to wait by then.
        thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        apis[0].submit(&id);
        within(PATIENCE, "the first server gives it to the agent", || {
            (apis[0].status(&id) == "in_progress").then_some(())
        });
        let given = began.elapsed();
        let (answer, at) = answer.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer["start"][0]["task"]["id"], id, "{answer}");
        println!("deaf: given after {given:?}, there after {:?}", at - began);
        assert!(at - began < BOUND, "{:?}", at - began);
        let end = json!({ "agent_id": "ann", "attempt": 1, "success": true });
        apis[0].done(&format!("/api/tasks/{id}/complete"), &end);
    }
    drop(servers);
    books::check(&database);
}
