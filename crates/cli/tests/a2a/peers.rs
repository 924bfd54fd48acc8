//! A server that gives its tasks to another server, as to an agent that is reached by A2A.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::python;
use crate::support::api::Api;
use crate::support::{Server, TOKEN, adjutant, eventually};

/// A server that goes to the other one with this token.
fn near(directory: &Path, token: &str) -> Server {
    let mut command = adjutant(directory);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--allow-private-peers"])
        .env("ADJUTANT_ADMIN_TOKEN", TOKEN)
        .env("ADJUTANT_PEER_FAR", token);
    Server::spawn(command, directory)
}

/// A token of the far server for those who give it work.
fn submitter(far: &Api) -> String {
    let made = far.done("/api/tokens", &json!({"name": "near", "roles": ["submit"]}));
    made["token"].as_str().unwrap().to_owned()
}

fn register(near: &Api, far: &Server) {
    let agent = json!({"id": "far", "protocol": "a2a", "url": far.url, "token_env": "ADJUTANT_PEER_FAR", "max_load": 2});
    near.done("/api/agents", &agent);
}

/// The attempts that an agent of the far server has taken.
fn taken(far: &Api) -> Vec<Value> {
    let given = far.sync("hand", &json!({"running": [], "wait": 1}));
    let starts = given["start"].as_array().unwrap().clone();
    let running: Vec<Value> = starts
        .iter()
        .map(|start| json!({"id": start["task"]["id"], "attempt": start["attempt"]}))
        .collect();
    far.sync("hand", &json!({"running": running}));
    starts
}

fn finish(far: &Api, start: &Value) {
    let id = start["task"]["id"].as_str().unwrap();
    let result = json!({"success": true, "output": start["task"]["description"], "attempt": start["attempt"],
        "model": "m", "tokens_in": 30, "tokens_out": 4, "cost": 2.5});
    far.done(&format!("/api/tasks/{id}/complete"), &result);
}

#[test]
fn a_server_is_an_agent_of_another_and_outlives_its_death() {
    let far = Server::start();
    let far_api = Api::of(&far);
    far_api.done("/api/agents", &json!({"id": "hand", "max_load": 2}));
    let token = submitter(&far_api);
    let home = TempDir::new().unwrap();
    let server = near(home.path(), &token);
    let api = Api::of(&server);
    register(&api, &far);
    api.done(
        "/api/tasks",
        &json!({"id": "x", "title": "X", "description": "made far away"}),
    );
    let start = eventually("the far server has it", || taken(&far_api).first().cloned());
    let noted = |api: &Api| {
        api.get("/api/tasks/x")["notes"]
            .as_array()
            .is_some_and(|notes| !notes.is_empty())
    };
    eventually("the near server has noted it", || noted(&api).then_some(()));
    server.kill();
    let server = near(home.path(), &token);
    let api = Api::of(&server);
    finish(&far_api, &start);
    eventually("it is completed", || {
        (api.status("x") == "completed").then_some(())
    });
    let task = api.get("/api/tasks/x");
    assert_eq!(
        (&task["attempt"], &task["result"]["output"]),
        (&json!(1), &json!("X\n\nmade far away"))
    );
    assert_eq!(
        (&task["usage"]["cost"], &task["usage"]["models"][0]["model"]),
        (&json!(2.5), &json!("m"))
    );
    assert_eq!(
        far_api.get("/api/tasks").as_array().unwrap().len(),
        1,
        "it was sent once"
    );
    assert_eq!(server.terminate(), 0);
}

#[test]
fn what_is_cancelled_near_is_cancelled_far() {
    let far = Server::start();
    let far_api = Api::of(&far);
    far_api.done("/api/agents", &json!({"id": "hand"}));
    let home = TempDir::new().unwrap();
    let server = near(home.path(), &submitter(&far_api));
    let api = Api::of(&server);
    register(&api, &far);
    api.done("/api/tasks", &json!({"id": "x", "title": "X"}));
    let start = eventually("the far server has it", || taken(&far_api).first().cloned());
    let id = start["task"]["id"].as_str().unwrap();
    api.done("/api/tasks/x/cancel", &json!({}));
    eventually("the far server has cancelled it", || {
        (far_api.status(id) == "cancelled").then_some(())
    });
}

#[test]
fn a_token_that_the_server_does_not_have_is_named() {
    let far = Server::start();
    let home = TempDir::new().unwrap();
    let server = Server::start_in(home.path(), &["--allow-private-peers"]);
    let api = Api::of(&server);
    register(&api, &far);
    api.done("/api/tasks", &json!({"id": "x", "title": "X", "max_retries": 1}));
    eventually("it has failed", || (api.status("x") == "failed").then_some(()));
    let reason = api.get("/api/tasks/x")["fail_reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        reason.contains("token_env: this server has no environment variable ADJUTANT_PEER_FAR"),
        "{reason}"
    );
}

#[test]
fn a_hundred_tasks_are_done_once_each() {
    let far = Server::start();
    let far_api = Api::of(&far);
    far_api.done("/api/agents", &json!({"id": "hand", "max_load": 10}));
    let home = TempDir::new().unwrap();
    let server = near(home.path(), &submitter(&far_api));
    let api = Api::of(&server);
    let agent = json!({"id": "far", "protocol": "a2a", "url": far.url, "token_env": "ADJUTANT_PEER_FAR", "max_load": 10});
    api.done("/api/agents", &agent);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let given = far_api.sync("hand", &json!({"running": [], "wait": 1}));
                for start in given["start"].as_array().unwrap() {
                    finish(&far_api, start);
                }
            }
        });
        for index in 0..100 {
            api.submit(&format!("t{index}"));
        }
        let left = |status: &str| {
            api.get(&format!("/api/tasks?status={status}"))
                .as_array()
                .unwrap()
                .len()
        };
        eventually("all are done", || {
            (left("pending") + left("in_progress") == 0).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
    });
    let done = api.pages("/api/tasks?status=completed");
    assert_eq!(done.len(), 100);
    assert!(done.iter().all(|task| task["attempt"] == 1));
    assert_eq!(far_api.pages("/api/tasks").len(), 100);
}

/// An agent of the official SDK; killed when it is dropped.
struct Shouter {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Shouter {
    fn start(binding: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/a2a/agent.py");
        let mut child = Command::new(python()?)
            .arg(script)
            .arg(binding)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = said.next().expect("the agent starts").unwrap();
        Some(Self { child, said, url })
    }
}

impl Drop for Shouter {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn an_agent_of_the_python_sdk_works_for_the_fleet() {
    for binding in ["rest", "rpc"] {
        let Some(mut shouter) = Shouter::start(binding) else {
            return;
        };
        let home = TempDir::new().unwrap();
        let server = Server::start_in(home.path(), &["--allow-private-peers"]);
        let api = Api::of(&server);
        let add = [
            "agent",
            "add",
            "shouter",
            "--a2a",
            &shouter.url,
            "--capabilities",
            "shout",
            "--max-load",
            "3",
        ];
        assert!(
            server
                .run(&add)
                .ok()
                .starts_with("shouter is reached at http://127.0.0.1:")
        );
        for (id, title) in [("good", "hello"), ("bad", "fail"), ("long", "wait")] {
            let task = json!({"id": id, "title": title, "labels": ["shout"], "max_retries": 1});
            api.done("/api/tasks", &task);
        }
        eventually("one is done, one has failed", || {
            (api.status("good") == "completed" && api.status("bad") == "failed").then_some(())
        });
        let good = api.get("/api/tasks/good");
        assert_eq!(good["result"]["output"], "HELLO", "{binding}: {good}");
        assert_eq!(
            api.get("/api/tasks/bad")["fail_reason"],
            "lost my voice",
            "{binding}"
        );
        let remark = |task: Value| task["notes"].to_string().contains("drawing breath");
        eventually("it says that it works", || {
            remark(api.get("/api/tasks/long")).then_some(())
        });
        api.done("/api/tasks/long/cancel", &json!({}));
        assert_eq!(shouter.said.next().unwrap().unwrap(), "cancelled", "{binding}");
    }
}
