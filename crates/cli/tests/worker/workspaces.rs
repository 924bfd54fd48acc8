//! Workspaces: attempts that run at the same time do not disturb each other, and nothing that they did is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Worker;
use crate::support::api::Api;
use crate::support::{Server, eventually, write};

/// Does something with a repository.
#[track_caller]
fn git(repository: &Path, arguments: &[&str]) -> String {
    let ran = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C"])
        .arg(repository)
        .args(arguments)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{arguments:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

/// A repository with one file.
fn repository(server: &Server) -> PathBuf {
    let path = server.directory.join("shop");
    std::fs::create_dir(&path).unwrap();
    git(&path, &["init", "--quiet"]);
    write(&path, "readme", "hello\n");
    git(&path, &["add", "."]);
    git(&path, &["commit", "--quiet", "-m", "first"]);
    path
}

fn worker(server: &Server, repository: &Path, script: &str) -> Worker {
    let flags = [
        "--max-load",
        "2",
        "--workspace",
        "worktree",
        "--repository",
        repository.to_str().unwrap(),
    ];
    Worker::script(server, "coder", &flags, script)
}

#[track_caller]
fn ended(api: &Api, id: &str, status: &str) -> Value {
    eventually(id, || {
        let task = api.get(&format!("/api/tasks/{id}"));
        (task["status"] == status).then_some(task)
    })
}

#[test]
fn two_tasks_change_one_file_at_the_same_time_and_both_changes_are_kept() {
    let server = Server::start();
    let (api, shop) = (Api::of(&server), repository(&server));
    // Each waits for the other one, in directories of their own.
    let script = "echo $ADJUTANT_TASK_ID >> readme; echo new > $ADJUTANT_TASK_ID.txt; touch ../../$ADJUTANT_TASK_ID.here; \
        until [ -e ../../one.here -a -e ../../two.here ]; do sleep 0.05; done; cat readme";
    let _worker = worker(&server, &shop, script);
    for id in ["one", "two"] {
        api.submit(id);
    }
    for id in ["one", "two"] {
        let task = ended(&api, id, "completed");
        assert_eq!(task["result"]["output"], format!("hello\n{id}\n"));
        let branch = format!("adjutant/{id}/1");
        let artifacts = task["result"]["artifacts"].as_array().unwrap();
        assert_eq!(artifacts[0], format!("branch: {branch}"));
        assert!(
            artifacts[1].as_str().unwrap().starts_with("diff: 2 files"),
            "{artifacts:?}"
        );
        assert_eq!(
            git(&shop, &["show", &format!("{branch}:readme")]),
            format!("hello\n{id}\n")
        );
        assert_eq!(git(&shop, &["show", &format!("{branch}:{id}.txt")]), "new\n");
    }
    assert_eq!(
        git(&shop, &["status", "--porcelain"]),
        "",
        "the clone itself is as it was"
    );
    assert_eq!(git(&shop, &["worktree", "list"]).lines().count(), 1);
}

#[test]
fn what_a_killed_attempt_did_not_commit_is_still_there() {
    let server = Server::start();
    let (api, shop) = (Api::of(&server), repository(&server));
    let mut killed = worker(
        &server,
        &shop,
        "echo precious > unsaved; echo 1 > ../../begun; exec sleep 300",
    );
    api.submit("one");
    let root = server.directory.join("shop.workspaces");
    eventually("it runs", || root.join("begun").exists().then_some(()));
    killed.kill();
    let unsaved = root.join("one").join("1").join("unsaved");
    assert_eq!(std::fs::read_to_string(&unsaved).unwrap(), "precious\n");
    // Its attempt ends as lost with the new session, and the next one has a place of its own.
    let _worker = worker(&server, &shop, "test ! -e unsaved && echo other > unsaved");
    ended(&api, "one", "completed");
    assert_eq!(git(&shop, &["show", "adjutant/one/2:unsaved"]), "other\n");
    assert_eq!(std::fs::read_to_string(&unsaved).unwrap(), "precious\n");
}

#[test]
fn a_failed_attempt_says_where_its_work_is() {
    let server = Server::start();
    let (api, shop) = (Api::of(&server), repository(&server));
    let _worker = worker(&server, &shop, "echo half > done; exit 1");
    api.done(
        "/api/tasks",
        &json!({ "id": "one", "title": "one", "max_retries": 1 }),
    );
    let task = ended(&api, "one", "failed");
    let place = server.directory.join("shop.workspaces/one/1");
    let artifacts = task["result"]["artifacts"].as_array().unwrap();
    let told = format!("worktree: {}", std::fs::canonicalize(&place).unwrap().display());
    assert!(artifacts.contains(&json!(told)), "{artifacts:?} has no {told}");
    assert_eq!(std::fs::read_to_string(place.join("done")).unwrap(), "half\n");
}

#[test]
fn a_directory_of_its_own_is_empty_and_gone_after_a_success() {
    let server = Server::start();
    let api = Api::of(&server);
    let root = server.directory.join("rooms");
    let flags = ["--workspace", "dir", "--workspace-root", root.to_str().unwrap()];
    let _worker = Worker::script(&server, "coder", &flags, "ls -A | wc -l; pwd; touch x");
    api.submit("one");
    let task = ended(&api, "one", "completed");
    let output = task["result"]["output"].as_str().unwrap();
    let (count, place) = output.trim().split_once('\n').unwrap();
    assert_eq!(count.trim(), "0");
    assert!(place.ends_with("rooms/one/1"), "{place}");
    assert!(!root.join("one").exists());
}

#[test]
fn a_workspace_that_cannot_be_is_told_before_anything_runs() {
    let server = Server::start();
    let nowhere = server.directory.join("nowhere");
    let missing = [
        "--workspace",
        "worktree",
        "--repository",
        nowhere.to_str().unwrap(),
    ];
    for (flags, message) in [
        (&missing[..], "there is no directory"),
        (&["--workspace", "attic"], "--workspace"),
        (&["--repository", "."], "--repository: there are no workspaces"),
    ] {
        let (code, _, said) = Worker::script(&server, "coder", flags, "true").ended();
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(message), "{said}");
    }
}
