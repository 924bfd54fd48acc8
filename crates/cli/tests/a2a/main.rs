//! A2A, spoken to the real binary by the official Python SDK, and by the binary to an agent of it.
//!
//! The interpreter that has the SDK (`pip install 'a2a-sdk[http-server]' uvicorn`) is named by `ADJUTANT_TEST_A2A_PYTHON`. Without it the test is
//! skipped, unless `ADJUTANT_REQUIRE_A2A=1`.

mod peers;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use support::api::Api;
use support::{Ran, Server};

/// The interpreter that has the SDK; without it the test is skipped, and says so.
fn python() -> Option<OsString> {
    let python = std::env::var_os("ADJUTANT_TEST_A2A_PYTHON").filter(|python| !python.is_empty());
    if python.is_none() {
        assert!(
            std::env::var("ADJUTANT_REQUIRE_A2A").as_deref() != Ok("1"),
            "ADJUTANT_REQUIRE_A2A=1, but ADJUTANT_TEST_A2A_PYTHON names no Python that has the package a2a-sdk"
        );
        eprintln!(
            "SKIPPED: the Python SDK of A2A was not tried: ADJUTANT_TEST_A2A_PYTHON names no Python that has the package \
             a2a-sdk"
        );
    }
    python
}

/// Does what comes, until it is told to stop: the output is the title.
fn echo(api: &Api, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let given = api.sync("echo", &json!({"running": [], "wait": 1}));
        for start in given["start"].as_array().unwrap() {
            let task = &start["task"];
            let result = json!({"success": true, "output": task["title"], "attempt": start["attempt"]});
            let id = task["id"].as_str().unwrap();
            api.done(&format!("/api/tasks/{id}/complete"), &result);
        }
    }
}

#[test]
fn the_python_sdk_gives_work_to_a_fleet() {
    let Some(python) = python() else { return };
    let server = Server::start();
    let api = Api::of(&server);
    api.done("/api/agents", &json!({"id": "echo", "capabilities": ["echo"]}));
    let made = api.done("/api/tokens", &json!({"name": "sdk", "roles": ["submit"]}));
    let stop = AtomicBool::new(false);
    let told = thread::scope(|scope| {
        scope.spawn(|| echo(&api, &stop));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/a2a/client.py");
        let told = Command::new(python)
            .arg(script)
            .env("ADJUTANT_URL", &server.url)
            .env("ADJUTANT_TOKEN", made["token"].as_str().unwrap())
            .env("NO_PROXY", "127.0.0.1")
            .output();
        stop.store(true, Ordering::Relaxed);
        told.unwrap()
    });
    let told = Ran::of(told);
    assert_eq!(told.code, 0, "{}\n{}", told.stdout, told.stderr);
    assert_eq!(told.stdout.trim(), "spoke A2A", "{}", told.stderr);
    let tasks = api.get("/api/tasks?status=completed");
    assert_eq!(tasks.as_array().unwrap().len(), 2);
    assert_eq!(tasks[0]["payload"], json!({"to": ["the", "world"]}));
}
