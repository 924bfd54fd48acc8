//! `adjutant backup` and `adjutant restore`: a copy made under load is a store with which work goes on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use adjutant_core::attempt::StopReason;
use adjutant_core::task::Status;
use adjutant_wire::{Completion, Running, SyncRequest};

use crate::load::{Load, Worker, client, register, task};
use crate::support::{Ran, Server, adjutant, run, write};

/// Runs the binary beside the load, which goes on meanwhile.
async fn beside(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = adjutant(directory);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    Ran::of(output.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_from_a_backup_that_was_made_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    let load = Load::start(&server.url, "task").await;
    while load.said().completed.len() < 300 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.slowest();
    let before = load.said();
    let begin = Instant::now();
    let made = beside(at, &["backup", "--json", "copy.db"]).await.json();
    let (took, slowest) = (begin.elapsed(), load.slowest());
    eprintln!(
        "a backup of {} bytes took {took:?}; the slowest submission meanwhile {slowest:?}",
        made["bytes"]
    );
    assert!(
        slowest < Duration::from_secs(2),
        "commits waited for the backup: {slowest:?}"
    );
    let after = load.stop().await;
    assert!(after.submitted.len() > before.submitted.len());
    assert_eq!(server.terminate(), 0);

    let copy = at.join("copy.db");
    assert_eq!(made["bytes"].as_u64(), Some(copy.metadata().unwrap().len()));
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::create_dir(at.join("new")).unwrap();
    let store = ["--store", "sqlite:new/adjutant.db"];
    let restored = run(at, &[&["restore", "copy.db", "--json"], &store[..]].concat()).json();
    assert_eq!(restored["last_seq"], made["last_seq"]);
    assert!(
        run(at, &[&["doctor"], &store[..]].concat())
            .ok()
            .contains("sound")
    );

    let server = Server::start_in(at, &store);
    let client = client(&server.url);
    for id in &before.submitted {
        let task = client.get_task(id).await.unwrap();
        assert!(
            !before.completed.contains(id) || task.status == Status::Completed,
            "{id} is {:?}",
            task.status
        );
    }
    // A worker that starts anew works off what is left.
    client.deregister_agent("worker").await.unwrap();
    register(&client, "worker", 100).await;
    let mut worker = Worker::new(&client);
    while worker.round().await > 0 {}
    let status = client.status().await.unwrap();
    assert_eq!(status.tasks["completed"], made["tasks"].as_u64().unwrap());
    assert!(run(at, &[&["doctor", "--json"], &store[..]].concat()).json()["ok"] == true);
    assert_eq!(server.terminate(), 0);
    assert!(run(at, &[&["doctor", "--json"], &store[..]].concat()).json()["ok"] == true);
}

/// Attempts that began after the backup are not known to the restored server, and their numbers will be given again.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_began_after_the_backup_is_unknown_to_the_restored_server() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    let first = client(&server.url);
    first.create_task(&task("job"), None).await.unwrap();
    first.hold_task("job").await.unwrap();
    run(at, &["backup", "copy.db"]).ok();
    first.unhold_task("job").await.unwrap();
    register(&first, "worker", 1).await;
    let taken = first.sync("worker", &SyncRequest::default()).await.unwrap();
    assert_eq!(taken.start[0].attempt, 1);
    server.terminate();

    std::fs::create_dir(at.join("new")).unwrap();
    let store = ["--store", "sqlite:new/adjutant.db"];
    run(at, &[&["restore", "copy.db"], &store[..]].concat()).ok();
    let server = Server::start_in(at, &store);
    let client = client(&server.url);
    register(&client, "worker", 1).await;
    let listed = SyncRequest {
        running: vec![Running {
            id: "job".into(),
            attempt: 1,
        }],
        ..SyncRequest::default()
    };
    let answer = client.sync("worker", &listed).await.unwrap();
    assert_eq!(answer.stop[0].reason, StopReason::Unknown);
    let done = Completion {
        success: true,
        attempt: Some(1),
        agent_id: Some("worker".into()),
        ..Completion::default()
    };
    let refused = client.complete_task("job", &done).await.unwrap_err();
    assert!(refused.to_string().contains("has no attempt 1"), "{refused}");
    assert_eq!(client.get_task("job").await.unwrap().status, Status::Blocked);
}

#[test]
fn what_keeps_a_copy_from_being_made_or_put_back_is_told() {
    let server = Server::start();
    let at = &server.directory;
    run(at, &["backup", "copy.db"]).ok();
    write(at, "text.db", &"no database ".repeat(500));
    for (arguments, message) in [
        (vec!["backup", "copy.db"], "copy.db exists already"),
        (
            vec!["backup", "adjutant.db", "--force"],
            "adjutant.db belongs to the store itself",
        ),
        (
            vec!["backup", "no/such/place.db"],
            "no/such/place.db.part cannot be written",
        ),
        (
            vec!["backup", "x.db", "--store", "sqlite:none.db"],
            "none.db cannot be used",
        ),
        (
            vec!["backup", "x.db", "--store", "sqlite:text.db"],
            "text.db is not a store of this program",
        ),
        (
            vec!["restore", "copy.db"],
            "adjutant.db is in use by another process",
        ),
        (
            vec!["restore", "copy.db", "--store", "sqlite:text.db"],
            "text.db exists already",
        ),
        (
            vec!["restore", "text.db", "--store", "sqlite:new.db"],
            "text.db is not a store of this program",
        ),
        (
            vec!["restore", "none.db", "--store", "sqlite:new.db"],
            "none.db cannot be used",
        ),
    ] {
        run(at, &arguments).fails(1, message);
    }
    run(at, &["backup", "--force", "copy.db"]).ok();
    assert!(!at.join("new.db").exists() && !at.join("x.db").exists());
}
