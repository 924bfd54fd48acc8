//! `adjutant migrate-store`: work that began on one kind of store goes on, on the other, as if nothing had happened.

mod support;

use std::path::Path;

use adjutant_client::Client;
use adjutant_core::task::Status;
use adjutant_wire::{Completion, NewAgent, NewTask, Running, SyncRequest};
use support::{Server, TOKEN, run};

fn client(server: &Server) -> Client {
    Client::new(&server.url, Some(TOKEN.into())).unwrap()
}

fn task(id: &str) -> NewTask {
    NewTask {
        id: Some(id.into()),
        title: format!("the task {id}"),
        ..NewTask::default()
    }
}

fn done() -> Completion {
    Completion {
        success: true,
        attempt: Some(1),
        agent_id: Some("worker".into()),
        ..Completion::default()
    }
}

/// Says that this runs, and gives what else is to run.
async fn sync(client: &Client, running: &[&str]) -> Vec<String> {
    let running = running.iter().map(|id| Running {
        id: (*id).to_owned(),
        attempt: 1,
    });
    let request = SyncRequest {
        running: running.collect(),
        wait: Some(1.0),
        ..SyncRequest::default()
    };
    let answer = client.sync("worker", &request).await.unwrap();
    assert!(answer.stop.is_empty(), "{answer:?}");
    answer.start.into_iter().map(|start| start.task.id).collect()
}

fn migrate(at: &Path, from: &str, to: &str) -> support::Ran {
    run(at, &["migrate-store", "--from", from, "--to", to])
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_in_a_database_and_back_in_a_file() {
    let Some(cluster) = adjutant_postgres_fixture::shared() else {
        return;
    };
    let database = cluster.database();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (file, url) = ("sqlite:adjutant.db", database.url());

    let server = Server::start_in(at, &["--store", file]);
    let first = client(&server);
    let worker = NewAgent {
        id: "worker".into(),
        max_load: Some(1),
        ..NewAgent::default()
    };
    first.register_agent(&worker).await.unwrap();
    first.create_task(&task("one"), None).await.unwrap();
    assert_eq!(sync(&first, &[]).await, ["one"]);
    first.complete_task("one", &done()).await.unwrap();
    first.create_task(&task("two"), None).await.unwrap();
    assert_eq!(sync(&first, &[]).await, ["two"]);
    first.create_task(&task("three"), Some("once")).await.unwrap();
    migrate(at, file, url).fails(1, "--from: the store adjutant.db is in use by another process");
    assert_eq!(server.terminate(), 0);

    let moved = run(at, &["migrate-store", "--json", "--from", file, "--to", url]).json();
    assert_eq!(
        (&moved["tasks"], &moved["attempts"], &moved["agents"]),
        (&3.into(), &2.into(), &1.into())
    );
    assert_eq!(moved["events"], moved["last_seq"]);
    migrate(at, file, url).fails(
        1,
        "--to: the store is not empty: it has tasks, agents, events, tokens",
    );

    let server = Server::start_in(at, &["--store", url]);
    let second = client(&server);
    // What ran goes on, what was asked for is not done twice, and what waited is dispatched.
    assert_eq!(sync(&second, &["two"]).await, <[String; 0]>::default());
    let again = second.create_task(&task("three"), Some("once")).await.unwrap();
    assert_eq!(again.id, "three");
    second.complete_task("two", &done()).await.unwrap();
    assert_eq!(sync(&second, &[]).await, ["three"]);
    migrate(at, url, "sqlite:back.db").fails(1, "--from: the database is in use by running servers: 1");
    assert_eq!(server.terminate(), 0);

    let told = migrate(at, url, "sqlite:back.db").ok();
    assert!(
        told.starts_with("sqlite:back.db: 3 tasks, 3 attempts, ") && told.contains(", 1 agents, in "),
        "{told}"
    );
    let store = ["--store", "sqlite:back.db"];
    let sound = run(at, &[&["doctor"], &store[..]].concat()).ok();
    assert!(sound.contains("sound; 3 tasks, 3 attempts"), "{sound}");
    let server = Server::start_in(at, &store);
    let third = client(&server);
    assert_eq!(sync(&third, &["three"]).await, <[String; 0]>::default());
    third.complete_task("three", &done()).await.unwrap();
    for id in ["one", "two", "three"] {
        assert_eq!(third.get_task(id).await.unwrap().status, Status::Completed);
    }
    assert_eq!(server.terminate(), 0);
    run(at, &[&["doctor"], &store[..]].concat()).ok();
}

#[test]
fn what_cannot_be_moved_is_told_with_the_flag_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let nowhere = "postgres://nobody:geheim@127.0.0.1:1/nothing";
    for (from, to, code, message) in [
        (
            "adjutant.db",
            nowhere,
            2,
            "--from: `adjutant.db` does not name a kind of store",
        ),
        (
            "sqlite:a.db",
            "mysql:x",
            2,
            "--to: `mysql:` is not a kind of store",
        ),
        (
            "sqlite:a.db",
            "sqlite:b.db",
            2,
            "--to: both stores are sqlite: files",
        ),
        (
            nowhere,
            "postgres://other/nothing",
            2,
            "--to: both stores are databases",
        ),
        (
            "sqlite:none.db",
            nowhere,
            1,
            "--from: the store none.db cannot be used",
        ),
        (
            nowhere,
            "sqlite:new.db",
            1,
            "--from: the database `nothing` on 127.0.0.1 cannot be used",
        ),
    ] {
        let ran = migrate(at, from, to);
        ran.fails(code, message);
        assert!(
            ran.stderr.contains("hint: ") && !ran.stderr.contains("geheim"),
            "{ran:?}"
        );
    }
    let left: Vec<_> = std::fs::read_dir(at).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
