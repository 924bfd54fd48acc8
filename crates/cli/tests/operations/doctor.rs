//! `adjutant doctor`: what it says of a sound store and of a broken one.

use rusqlite::Connection;

use crate::support::{Server, run, write};

#[test]
fn a_sound_store_is_called_sound_while_a_server_works_on_it_and_after() {
    let server = Server::start();
    server.run(&["task", "add", "one"]).ok();
    let at = server.directory.clone();
    let running = run(&at, &["doctor"]).ok();
    assert!(
        running.contains("sound; 1 tasks, 0 attempts, 0 ledger lines, 2 events"),
        "{running}"
    );
    let report = run(&at, &["doctor", "--json"]).json();
    assert_eq!(
        (&report["ok"], &report["tasks"], &report["last_seq"]),
        (&true.into(), &1.into(), &2.into())
    );
    assert_eq!(report["findings"], serde_json::json!([]));
}

#[test]
fn a_broken_store_is_called_broken_in_a_line_each_with_the_ids() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    for title in ["one", "two"] {
        server.run(&["task", "add", title, "--id", title]).ok();
    }
    server.terminate();
    let db = Connection::open(at.join("adjutant.db")).unwrap();
    db.execute_batch(
        "UPDATE task SET status = 2, claimed_by = 'x', attempt = 3 WHERE id = 'one'; DELETE FROM event WHERE seq = 1",
    )
    .unwrap();
    drop(db);
    let ran = run(at, &["doctor"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    for line in [
        "wrong: missing row: task one is at attempt 3, which does not exist",
        "wrong: I1 leases: task one is in progress, and its attempt 3 is not live",
        "wrong: events: events 1 to 1 are missing",
        "sqlite:./adjutant.db: NOT SOUND, 3 findings; 2 tasks, 0 attempts, 0 ledger lines, 3 events",
    ] {
        assert!(
            ran.stdout.lines().any(|told| told == line),
            "{line}: {}",
            ran.stdout
        );
    }
    let ran = run(at, &["doctor", "--json"]);
    assert_eq!(ran.code, 1);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["findings"][0]["severity"], "wrong");
}

#[test]
fn what_is_no_store_is_not_examined() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    run(at, &["doctor"]).fails(1, "adjutant.db cannot be used");
    assert!(!at.join("adjutant.db").exists());
    write(at, "text.db", &"no database ".repeat(500));
    run(at, &["doctor", "--store", "sqlite:text.db"]).fails(1, "is not a store of this program");
}
