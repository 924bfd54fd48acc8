//! `serve --keep-finished …`: what is over goes while the server works, and nothing else does.

use std::path::Path;

use adjutant_client::Error;
use rusqlite::Connection;

use crate::load::{Load, client};
use crate::support::{Server, eventually, run};

/// Makes a store so many days older: a test cannot wait.
fn age(store: &Path, days: i64) {
    let db = Connection::open(store).unwrap();
    let micros = days * 86_400_000_000;
    let key = micros << 8;
    db.execute_batch(&format!(
        "BEGIN;
         UPDATE task SET key = key - {key}, claimed_at = claimed_at - {micros}, last_attempt = last_attempt - {micros},
             ready_since = ready_since - {micros}, updated_at = updated_at - {micros};
         UPDATE body SET task = task - {key};
         UPDATE ending SET task = task - {key};
         UPDATE attempt SET task = task - {key}, started_at = started_at - {micros}, ended_at = ended_at - {micros};
         UPDATE line SET task = task - {key}, hour = hour - {micros};
         UPDATE event SET task = task - {key}, at = at - {micros};
         COMMIT;"
    ))
    .unwrap();
    // The periods of a counter: the starts of its hour and its day.
    let counters: Vec<(String, Vec<u8>)> = db
        .prepare("SELECT scope, tallies FROM counter")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (scope, mut tallies) in counters {
        let numbers = tallies.len() / 24;
        for period in 0..2 {
            let start = &mut tallies[period * numbers * 8..][..8];
            let older = i64::from_le_bytes((&*start).try_into().unwrap()) - micros;
            start.copy_from_slice(&older.to_le_bytes());
        }
        db.execute(
            "UPDATE counter SET tallies = ?2 WHERE scope = ?1",
            (scope, tallies),
        )
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_while_the_server_works_and_the_books_balance() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    let load = Load::start(&server.url, "old").await;
    while load.said().completed.len() < 500 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let old = load.stop().await;
    assert_eq!(server.terminate(), 0);
    age(&at.join("adjutant.db"), 40);
    let last = run(at, &["doctor", "--json"]).json()["last_seq"]
        .as_u64()
        .unwrap();
    let keep = ["--keep-finished", "30d", "--keep-events", "30d"];
    let server = Server::start_in(at, &keep);
    let client = client(&server.url);
    let load = Load::start(&server.url, "young").await;
    let newest = old.completed.last().unwrap();
    eventually("the old tasks and events are gone", || {
        let store = run(at, &["doctor", "--json"]).json();
        assert_eq!(store["findings"], serde_json::json!([]));
        let first_kept = store["last_seq"].as_u64().unwrap() - store["events"].as_u64().unwrap() + 1;
        (first_kept > last && server.run(&["task", "show", newest]).code == 1).then_some(())
    });
    let young = load.stop().await;
    // What is younger is there, and who asks for old events begins at the first that is kept.
    for id in &young.submitted {
        client.get_task(id).await.unwrap();
    }
    let events = client.events(0, Some(1)).await.unwrap();
    assert!(events[0].seq > last, "{events:?}");
    for id in &old.completed {
        let error = client.get_task(id).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    let report = run(at, &["doctor", "--json"]).json();
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(server.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_forgets_leaves_books_that_balance() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    let load = Load::start(&server.url, "old").await;
    while load.said().completed.len() < 600 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    load.stop().await;
    server.terminate();
    age(&at.join("adjutant.db"), 40);
    let look = || {
        let report = run(at, &["doctor", "--json"]).json();
        assert_eq!(report["findings"], serde_json::json!([]));
        (
            report["tasks"].as_u64().unwrap(),
            report["events"].as_u64().unwrap(),
        )
    };
    let mut left = look();
    let mut steps = 0;
    // Each start forgets a few batches before it is killed, some of them in the middle.
    while left.0 > 20 || left.1 > 100 {
        Server::start_in(at, &["--keep-finished", "30d", "--keep-events", "30d"]).kill();
        let now = look();
        assert!(
            now.0 <= left.0 && now.1 <= left.1,
            "what was forgotten came back: {left:?} {now:?}"
        );
        left = now;
        steps += 1;
        assert!(steps < 500, "nothing is forgotten: {left:?}");
    }
    eprintln!("it took {steps} starts");
}

#[test]
fn too_little_is_refused_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (flag, value, message) in [
        ("--keep-finished", "1h", "keep_finished: must be at least 25h"),
        (
            "--keep-finished-count",
            "0",
            "keep_finished_count: must be at least 1",
        ),
        ("--keep-events", "1m", "keep_events: must be at least 1h"),
        (
            "--keep-events-count",
            "x",
            "--keep-events-count: `x` is not a whole number",
        ),
    ] {
        run(at, &["serve", flag, value]).fails(2, message);
    }
}
