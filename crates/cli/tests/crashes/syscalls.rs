//! What the program asks of the system, and what it does when the system fails: seen and played by `strace`, which
//! takes no privileges. Where there is none nothing is tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::books::Books;
use crate::places;
use crate::support::api::Api;
use crate::support::{Server, TOKEN, adjutant};

/// A server under `strace` with these options, and where its calls are written down.
fn traced(directory: &Path, options: &[&str]) -> Option<Server> {
    // With -D the tracer is no parent, so that the server is the child and ends as one.
    let try_it = Command::new("strace")
        .args(["-D", "-f", "-o", "/dev/null", "true"])
        .output();
    if !try_it.is_ok_and(|tried| tried.status.success()) {
        eprintln!("not tested: there is no strace, or it may not trace");
        return None;
    }
    let inner = adjutant(directory);
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-y", "-o", "trace.txt"])
        .args(options)
        .arg(inner.get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "error"])
        .current_dir(directory)
        .stdin(std::process::Stdio::null());
    for (name, _) in inner.get_envs() {
        command.env_remove(name);
    }
    command.env("ADJUTANT_ADMIN_TOKEN", TOKEN);
    Some(Server::spawn(command, directory))
}

#[test]
fn no_answer_comes_before_its_commit_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let calls = ["-e", "trace=pwrite64,fdatasync,sendto,write,writev"];
    let Some(server) = traced(directory.path(), &calls) else {
        return;
    };
    let api = Api::of(&server);
    for number in 0..40 {
        api.submit(&format!("t{number}"));
    }
    assert_eq!(server.terminate(), 0);
    let trace = crate::support::eventually("the whole trace", || {
        fs::read_to_string(directory.path().join("trace.txt"))
            .ok()
            .filter(|text| text.contains("+++ exited"))
    });
    let (mut answers, mut unsynced, mut syncing) = (0, false, BTreeSet::new());
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap();
        let is_log = line.contains("adjutant.db-wal>");
        if line.contains("pwrite64(") && is_log {
            unsynced = true;
        }
        // Other threads may be seen between the beginning of a call and its end.
        if line.contains("fdatasync(") && is_log {
            syncing.insert(thread);
        }
        if line.contains("fdatasync") && line.ends_with("= 0") && syncing.remove(thread) {
            unsynced = false;
        }
        if line.contains("HTTP/1.1 201") {
            answers += 1;
            assert!(!unsynced, "answer {answers} came before its sync");
        }
    }
    assert_eq!(answers, 40);
}

#[test]
fn a_sync_that_fails_ends_the_server_and_the_next_start_has_all_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let fault = [
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=20",
    ];
    let Some(server) = traced(directory.path(), &fault) else {
        return;
    };
    let api = Api::of(&server);
    let mut accepted = Vec::new();
    for number in 0..100 {
        let id = format!("t{number}");
        match api.post("/api/tasks", &json!({ "id": id, "title": "x" })) {
            Ok(answer) if answer.is_good() => accepted.push(id),
            // Whether this one is there is not known, and nobody is told that it is.
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(_) => break,
        }
    }
    let ran = server.ended();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("the outcome of a commit is unknown"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("\nhint: start again: nothing that was accepted is lost"),
        "{ran:?}"
    );
    assert!(accepted.len() > 5 && accepted.len() < 99, "{}", accepted.len());
    let server = Server::start_in(directory.path(), &[]);
    let api = Api::of(&server);
    assert!(accepted.iter().all(|id| api.status(id) == "pending")); // I5
    api.submit("new");
    assert_eq!(server.terminate(), 0);
    Books::open(&places::store(directory.path()));
}

#[test]
fn a_write_that_fails_in_a_commit_is_rolled_back_and_the_server_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().canonicalize().unwrap().join("adjutant.db-wal");
    let fault = [
        "-P",
        log.to_str().unwrap(),
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:error=EIO:when=150..153",
    ];
    let Some(server) = traced(directory.path(), &fault) else {
        return;
    };
    let api = Api::of(&server);
    let mut refused = 0;
    for number in 0..40 {
        let task = json!({ "id": format!("t{number}"), "title": "x" });
        let answer = api.post("/api/tasks", &task).unwrap();
        if !answer.is_good() {
            assert_eq!(
                (answer.status, &answer.body["error"]),
                (503, &json!("storage_unavailable")),
                "{answer:?}"
            );
            assert!(answer.header("retry-after").is_some());
            refused += 1;
            // What was refused is not there.
            assert_eq!(
                api.ask("GET", &format!("/api/tasks/t{number}"), None)
                    .unwrap()
                    .status,
                404
            );
        }
    }
    assert!((1..=4).contains(&refused), "{refused}");
    assert_eq!(api.pages("/api/tasks?limit=1000").len(), 40 - refused);
    assert_eq!(server.terminate(), 0);
    assert_eq!(
        Books::open(&places::store(directory.path())).tasks().len(),
        40 - refused
    );
}
