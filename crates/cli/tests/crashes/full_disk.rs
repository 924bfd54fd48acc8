//! No room in the middle of the work: a limit on the size of files, which any user can set for a child.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::books::Books;
use crate::places;
use crate::support::api::{Answer, Api};
use crate::support::{Server, TOKEN, adjutant};

/// A server whose files may not grow beyond this many blocks of 512 bytes.
fn confined(directory: &Path, blocks: u32) -> Command {
    let inner = adjutant(directory);
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""),
        ])
        .arg(inner.get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "error"])
        .current_dir(directory)
        .stdin(std::process::Stdio::null());
    for (name, value) in inner.get_envs().filter(|(_, value)| value.is_none()) {
        assert!(value.is_none());
        command.env_remove(name);
    }
    command.env("ADJUTANT_ADMIN_TOKEN", TOKEN);
    command
}

#[track_caller]
fn is_full(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.body["error"], "storage_full", "{answer:?}");
    assert_eq!(answer.body["retryable"], true);
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 0);
}

#[test]
fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::spawn(confined(at, 6_000), at);
    let api = Api::of(&server);
    let agent = json!({ "id": "ann", "session": "s", "max_load": 1 });
    api.post("/api/agents", &agent).unwrap().good();
    api.submit("first");
    let sync = json!({ "session": "s", "running": [] });
    assert_eq!(
        api.post("/api/agents/ann/sync", &sync).unwrap().good()["start"][0]["task"]["id"],
        "first"
    );

    let mut accepted = vec!["first".to_owned()];
    let text = "x".repeat(20_000);
    let mut refused = 0;
    for number in 0..400 {
        let id = format!("t{number}");
        let task = json!({ "id": id, "title": "x", "description": text, "project": "p" });
        let answer = api.post("/api/tasks", &task).unwrap();
        if answer.is_good() {
            accepted.push(id);
        } else {
            is_full(&answer);
            refused += 1;
        }
        // It goes on saying so, as often as it is asked.
        if refused == 20 {
            break;
        }
    }
    assert!(
        refused == 20 && accepted.len() > 20,
        "{refused} refused, {} accepted",
        accepted.len()
    );
    // It is well in that it lives and reads; what was refused is nowhere.
    assert_eq!(api.get("/v1/health")["status"], "ok");
    assert_eq!(api.pages("/api/tasks?limit=1000").len(), accepted.len());
    // The end of what runs may find room or not; what is answered holds.
    let end = json!({ "agent_id": "ann", "attempt": 1, "success": true, "tokens_in": 5, "output": text });
    let first = api.post("/api/tasks/first/complete", &end).unwrap();
    if !first.is_good() {
        is_full(&first);
    }
    assert_eq!(
        api.status("first"),
        if first.is_good() {
            "completed"
        } else {
            "in_progress"
        }
    );
    assert_eq!(server.terminate(), 0);

    let server = Server::start_in(at, &[]);
    let api = Api::of(&server);
    let mut found: Vec<String> = api
        .pages("/api/tasks?limit=1000")
        .iter()
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect();
    found.reverse();
    assert_eq!(found, accepted); // I5
    api.post("/api/tasks/first/complete", &end).unwrap().good();
    let next = api.post("/api/agents/ann/sync", &sync).unwrap().good()["start"][0]["task"]["id"].clone();
    assert_eq!(next, "t0");
    let end = json!({ "agent_id": "ann", "attempt": 1, "success": true, "tokens_in": 5 });
    api.post("/api/tasks/t0/complete", &end).unwrap().good();
    api.submit("new");
    let fleet = api.get("/api/limits/fleet");
    assert_eq!(server.terminate(), 0);
    Books::open(&places::store(at)).confirm(&fleet);
    println!(
        "full disk: {} tasks accepted, {refused} refused with 503 storage_full, 0 lost",
        accepted.len()
    );
}

#[test]
fn a_start_without_any_room_says_so_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_in(at, &[]);
    Api::of(&server).submit("kept");
    server.kill();
    let before = places::Image::of(at);
    let ran = Server::try_spawn(confined(at, 0), at).err().unwrap();
    ran.fails(1, "adjutant.db");
    drop(before);
    let server = Server::start_in(at, &[]);
    assert_eq!(Api::of(&server).status("kept"), "pending");
}
