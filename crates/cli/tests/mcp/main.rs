//! The Model Context Protocol, spoken to the real binary: over HTTP and over stdin and stdout, in both revisions; by
//! this test, and by the official Python SDK.
//!
//! The interpreter that has the SDK (`pip install mcp`) is named by `ADJUTANT_TEST_MCP_PYTHON`. Without it that part is
//! skipped, unless `ADJUTANT_REQUIRE_MCP=1`.

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::api::Api;
use support::{Ran, Server, adjutant, eventually};

/// The revision without sessions.
const STATELESS: &str = "2026-07-28";
/// The revision with a handshake.
const HANDSHAKE: &str = "2025-11-25";
/// An answer that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token with these roles.
fn token(server: &Server, name: &str, roles: &[&str]) -> String {
    let made = Api::of(server).done("/api/tokens", &json!({"name": name, "roles": roles}));
    made["token"].as_str().unwrap().to_owned()
}

/// A message of a revision.
fn message(revision: &str, id: u64, method: &str, mut params: Value) -> Value {
    if revision == STATELESS {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
    }
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn hello(revision: &str) -> Value {
    json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
}

/// `adjutant mcp`, and whoever speaks to it.
struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: thread::JoinHandle<String>,
}

impl Bridge {
    fn start(directory: &Path, url: &str, token: &str) -> Self {
        let mut child = adjutant(directory)
            .arg("mcp")
            .env("ADJUTANT_URL", url)
            .env("ADJUTANT_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
            text
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            errors,
        }
    }

    fn of(server: &Server, token: &str) -> Self {
        Self::start(&server.directory, &server.url, token)
    }

    fn write(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    fn send(&mut self, message: &Value) {
        self.write(&message.to_string());
    }

    /// The next message, which must be one JSON text on a line of its own.
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The result of a request that nothing else is asked beside.
    fn ask(&mut self, revision: &str, id: u64, method: &str, params: Value) -> Value {
        self.send(&message(revision, id, method, params));
        let answer = self.next();
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// What a tool gives.
    fn call(&mut self, revision: &str, id: u64, tool: &str, arguments: &Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        self.ask(revision, id, "tools/call", params)
    }

    /// Ends stdin, and gives what the bridge left behind.
    fn end(mut self) -> Ran {
        drop(self.input.take());
        let code = eventually("the end of the bridge", || self.child.try_wait().unwrap());
        let rest: Vec<String> = self.lines.iter().collect();
        Ran {
            code: code.code().unwrap_or(-1),
            stdout: rest.join("\n"),
            stderr: self.errors.join().unwrap(),
        }
    }
}

#[test]
fn both_revisions_are_spoken_over_http() {
    let server = Server::start();
    let api = Api {
        token: token(&server, "planner", &["submit"]),
        ..Api::of(&server)
    };
    let welcome = api.done("/mcp", &message(HANDSHAKE, 1, "initialize", hello(HANDSHAKE)));
    assert_eq!(welcome["result"]["protocolVersion"], HANDSHAKE);
    let listed = api.done("/mcp", &message(HANDSHAKE, 2, "tools/list", json!({})));
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 7);
    let call = json!({"name": "create_task", "arguments": {"title": "x", "id": "t"}});
    let made = api.done("/mcp", &message(HANDSHAKE, 3, "tools/call", call));
    assert_eq!(made["result"]["structuredContent"]["task"]["id"], "t");
    assert_eq!(api.status("t"), "pending");

    for (method, params, name) in [
        ("server/discover", json!({}), ""),
        ("tools/list", json!({}), ""),
        ("tools/call", json!({"name": "list_tasks"}), "list_tasks"),
    ] {
        let body = message(STATELESS, 4, method, params).to_string();
        let headers = format!(
            "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {STATELESS}\r\nMcp-Method: {method}\r\n\
             {}",
            if name.is_empty() {
                String::new()
            } else {
                format!("Mcp-Name: {name}\r\n")
            }
        );
        let answer = raw(&api, &headers, &body);
        assert_eq!(answer["id"], 4, "{answer}");
        assert!(answer["error"].is_null(), "{method}: {answer}");
    }
}

/// Posts to `/mcp` with headers of its own, and gives the body.
fn raw(api: &Api, headers: &str, body: &str) -> Value {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(&api.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        api.address,
        api.token,
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(body).unwrap()
}

#[test]
fn both_revisions_are_spoken_over_stdin_and_stdout() {
    let server = Server::start();
    let api = Api::of(&server);
    for revision in [HANDSHAKE, STATELESS] {
        let name = revision.replace('-', "");
        let id = format!("task-{name}");
        let mut bridge = Bridge::of(&server, &token(&server, &name, &[&format!("agent:{name}")]));
        if revision == HANDSHAKE {
            let welcome = bridge.ask(revision, 1, "initialize", hello(revision));
            assert_eq!(welcome["protocolVersion"], HANDSHAKE);
            bridge.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        } else {
            let found = bridge.ask(revision, 1, "server/discover", json!({}));
            assert!(found["supportedVersions"].to_string().contains(STATELESS));
        }
        let listed = bridge.ask(revision, 2, "tools/list", json!({}));
        assert_eq!(listed["tools"].as_array().unwrap().len(), 8);
        bridge.call(revision, 3, "register", &json!({"capabilities": [name]}));
        api.done("/api/tasks", &json!({"id": id, "title": "x", "labels": [name]}));
        let given = bridge.call(revision, 4, "next_task", &json!({"wait": 10}));
        assert_eq!(given["structuredContent"]["tasks"][0]["task_id"], json!(id));
        let done = bridge.call(
            revision,
            5,
            "complete_task",
            &json!({"task_id": id, "attempt": 1, "success": true}),
        );
        assert_eq!(done["isError"], false, "{done}");
        assert_eq!(api.status(&id), "completed");
        let ended = bridge.end();
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (0, "", ""),
            "{ended:?}"
        );
    }
}

#[test]
fn a_wait_for_work_blocks_nothing_and_can_be_called_off() {
    let server = Server::start();
    let mut bridge = Bridge::of(&server, &token(&server, "a", &["agent:a"]));
    bridge.call(STATELESS, 1, "register", &json!({}));
    let wait = json!({"name": "next_task", "arguments": {"wait": 60}});
    bridge.send(&message(STATELESS, 2, "tools/call", wait.clone()));
    // Answered while the wait goes on: the first to come back.
    for id in 3..8 {
        bridge.call(STATELESS, id, "check_allowance", &json!({}));
    }
    bridge.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}));
    bridge.send(&message(STATELESS, 9, "tools/call", wait));
    Api::of(&server).submit("t");
    let answer = bridge.next();
    assert_eq!(
        answer["id"], 9,
        "a request that was called off is not answered: {answer}"
    );
    assert_eq!(answer["result"]["structuredContent"]["tasks"][0]["task_id"], "t");
}

#[test]
fn what_cannot_be_passed_on_is_answered_and_takes_nothing_with_it() {
    let server = Server::start();
    let mut bridge = Bridge::of(&server, &token(&server, "a", &["agent:a"]));
    for (line, code) in [("{", -32700), ("[]", -32600), ("nothing", -32700)] {
        bridge.write(line);
        let answer = bridge.next();
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(code), &Value::Null),
            "{line}"
        );
    }
    bridge.write(&format!("{{\"x\": \"{}\"}}", "y".repeat(5 << 20)));
    assert_eq!(bridge.next()["error"]["code"], -32600);
    // An error of the protocol comes back as it is, and with its number.
    bridge.send(&message(HANDSHAKE, 1, "nowhere", json!({})));
    let answer = bridge.next();
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32601), &json!(1))
    );
    bridge.send(&json!({"jsonrpc": "1.0", "id": "x", "method": "tools/list"}));
    let answer = bridge.next();
    assert_eq!(
        (&answer["error"]["code"], &answer["id"]),
        (&json!(-32600), &json!("x"))
    );
    bridge.ask(HANDSHAKE, 2, "tools/list", json!({}));
}

#[test]
fn a_server_that_is_not_there_is_told_to_the_client_and_to_the_person() {
    let directory = tempfile::tempdir().unwrap();
    let mut bridge = Bridge::start(directory.path(), "http://127.0.0.1:1", "token");
    for id in 1..4 {
        bridge.send(&message(HANDSHAKE, id, "initialize", hello(HANDSHAKE)));
        let answer = bridge.next();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(-32000))
        );
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("127.0.0.1:1"), "{said}");
    }
    let ended = bridge.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");

    let server = Server::start();
    let mut bridge = Bridge::of(&server, "wrong");
    bridge.send(&message(HANDSHAKE, 1, "initialize", hello(HANDSHAKE)));
    assert_eq!(bridge.next()["error"]["code"], -32000);
    let ended = bridge.end();
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
}

#[test]
fn requests_that_were_asked_before_the_end_are_answered_at_the_end() {
    let server = Server::start();
    let mut bridge = Bridge::of(&server, &token(&server, "a", &["agent:a"]));
    bridge.send(&message(HANDSHAKE, 1, "tools/list", json!({})));
    let ended = bridge.end();
    assert!(ended.stdout.contains("\"id\":1"), "{ended:?}");

    // A wait is nobody's any more.
    let mut bridge = Bridge::of(&server, &token(&server, "b", &["agent:b"]));
    bridge.call(HANDSHAKE, 1, "register", &json!({}));
    bridge.send(&message(
        HANDSHAKE,
        2,
        "tools/call",
        json!({"name": "next_task", "arguments": {"wait": 60}}),
    ));
    let begun = Instant::now();
    let ended = bridge.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn an_agent_that_thinks_for_long_is_kept_alive_by_its_bridge_and_no_longer_than_that() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &["--agent-ttl", "2s"]);
    let api = Api::of(&server);
    let mut bridge = Bridge::of(&server, &token(&server, "a", &["agent:a"]));
    bridge.call(STATELESS, 1, "register", &json!({}));
    api.submit("t");
    let given = bridge.call(STATELESS, 2, "next_task", &json!({"wait": 10}));
    assert_eq!(given["structuredContent"]["tasks"][0]["task_id"], "t");
    // Three leases long nothing is said by the model.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        let task = api.get("/api/tasks/t");
        assert_eq!(
            (&task["status"], &task["attempt"]),
            (&json!("in_progress"), &json!(1))
        );
        thread::sleep(Duration::from_millis(200));
    }
    bridge.end();
    eventually("the loss of the attempt", || {
        (api.get("/api/tasks/t")["retry_count"] == 1).then_some(())
    });
}

/// Tells the story of `client.py`, if there is an interpreter that can.
fn python(transport: &str, mode: &str, revision: &str) {
    let Some(python) = std::env::var_os("ADJUTANT_TEST_MCP_PYTHON").filter(|python| !python.is_empty())
    else {
        assert!(
            std::env::var("ADJUTANT_REQUIRE_MCP").as_deref() != Ok("1"),
            "ADJUTANT_REQUIRE_MCP=1, but ADJUTANT_TEST_MCP_PYTHON names no Python that has the package mcp"
        );
        eprintln!(
            "SKIPPED: the Python SDK over {transport} ({mode}) was not tried: ADJUTANT_TEST_MCP_PYTHON names no Python \
             that has the package mcp"
        );
        return;
    };
    let server = Server::start();
    let api = Api::of(&server);
    api.done("/api/agents", &json!({"id": "other", "capabilities": ["other"]}));
    api.done(
        "/api/tasks",
        &json!({"id": "theirs", "title": "x", "labels": ["other"]}),
    );
    let theirs = api.sync("other", &json!({"running": [], "wait": 5}));
    assert_eq!(theirs["start"][0]["task"]["id"], "theirs");
    api.done(
        "/api/tasks",
        &json!({"id": "mine", "title": "Greet", "description": "Say hello.", "labels": ["python"],
            "payload": {"to": ["the", "world"]}}),
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.py");
    let told = Command::new(python)
        .arg(script)
        .args([transport, mode])
        .env("ADJUTANT_URL", &server.url)
        .env("ADJUTANT_TOKEN", token(&server, "sdk", &["agent:sdk"]))
        .env("ADJUTANT_BINARY", env!("CARGO_BIN_EXE_adjutant"))
        .env("NAME", "sdk")
        .output()
        .unwrap();
    let told = Ran::of(told);
    assert_eq!(told.code, 0, "{}\n{}", told.stdout, told.stderr);
    assert_eq!(told.stdout.trim(), format!("spoke {revision}"), "{}", told.stderr);
    assert_eq!(api.status("mine"), "completed");
    assert_eq!(api.status("theirs"), "in_progress");
    assert_eq!(api.get("/api/allowances/sdk/usage")["tokens_used"], 30);
}

#[test]
fn the_python_sdk_shakes_hands_over_http() {
    python("http", "legacy", HANDSHAKE);
}

#[test]
fn the_python_sdk_discovers_over_http() {
    python("http", "auto", STATELESS);
}

#[test]
fn the_python_sdk_shakes_hands_over_stdin_and_stdout() {
    python("stdio", "legacy", HANDSHAKE);
}

#[test]
fn the_python_sdk_discovers_over_stdin_and_stdout() {
    python("stdio", "auto", STATELESS);
}
