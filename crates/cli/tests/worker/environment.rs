//! What a command sees of its worker, and what it can do with that: its own attempt, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::support::api::Api;
use crate::support::{Server, TOKEN, adjutant, write};
use crate::{Worker, task_when, text_of};

/// Writes its environment and its worker's down, says so, and waits.
const LOOK: &str = r"env -0 > its.env; cat /proc/$PPID/environ > worker.env 2> /dev/null
    echo $$ > looked; until [ -e go ]; do sleep 0.02; done";

fn variables(path: &Path) -> BTreeMap<String, String> {
    let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    text.split_terminator('\0')
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

#[test]
fn a_command_sees_the_token_of_its_attempt_and_nothing_else_of_its_worker() {
    let server = Server::start();
    let api = Api::of(&server);
    let token = server.run(&["token", "create", "host", "--role", "agent:w"]).ok();
    let token = token.trim();
    let ways: [(&str, &[&str]); 3] = [("variable", &[]), ("flag", &["--token", token]), ("file", &[])];
    for (way, flags) in ways {
        api.submit(way);
        let mut command = adjutant(&server.directory);
        command
            .args(flags)
            .args(["worker", "--id", "w", "--", "sh", "-c", LOOK])
            .env("ADJUTANT_URL", &server.url)
            .env("ADJUTANT_STORE", "sqlite:secret.db")
            .env("ADJUTANT_LOG_LEVEL", "error")
            .env("SAME", token)
            .env("HEADER", format!("Authorization: Bearer {token}"))
            .env("HARMLESS", "yes");
        if way == "variable" {
            command.env("ADJUTANT_TOKEN", token);
        }
        if way == "file" {
            // Where the variable is, the file is not looked at.
            write(&server.directory, "adjutant.token", token);
        } else {
            command.env("ADJUTANT_ADMIN_TOKEN", TOKEN).env("ALIAS", TOKEN);
        }
        let _worker = Worker::start(&server, "w", &mut command);
        text_of(&server.directory.join("looked"));
        let seen = variables(&server.directory.join("its.env"));
        let ours: Vec<&str> = seen
            .keys()
            .filter(|name| name.starts_with("ADJUTANT_"))
            .map(String::as_str)
            .collect();
        let expected = [
            "ADJUTANT_ATTEMPT",
            "ADJUTANT_TASK_ID",
            "ADJUTANT_TOKEN",
            "ADJUTANT_URL",
        ];
        assert_eq!(ours, expected, "{way}");
        assert_eq!(
            (
                seen["ADJUTANT_TASK_ID"].as_str(),
                seen["ADJUTANT_ATTEMPT"].as_str()
            ),
            (way, "1")
        );
        assert_eq!(seen["ADJUTANT_URL"], server.url);
        assert!(seen["ADJUTANT_TOKEN"].starts_with("att_"), "{way}");
        assert_eq!(seen["HARMLESS"], "yes");
        for (name, value) in &seen {
            assert!(!value.contains(token) && !value.contains(TOKEN), "{way}: {name}");
        }
        // Nor does it get at the worker's own environment; root gets at everything.
        let worker = std::fs::read(server.directory.join("worker.env")).unwrap();
        assert!(is_root() || worker.is_empty(), "{way}");
        write(&server.directory, "go", "");
        task_when(&api, way, |task| task["status"] == "completed");
        for file in ["go", "looked"] {
            std::fs::remove_file(server.directory.join(file)).unwrap();
        }
    }
}

#[test]
fn the_token_of_an_attempt_is_good_for_that_attempt_while_it_lives_and_for_nothing_else() {
    let server = Server::start();
    let api = Api::of(&server);
    api.submit("own");
    let _worker = Worker::script(&server, "w", &[], LOOK);
    text_of(&server.directory.join("looked"));
    api.submit("other");
    let seen = variables(&server.directory.join("its.env"));
    let child = Api {
        token: seen["ADJUTANT_TOKEN"].clone(),
        ..api.clone()
    };
    let body = json!({});
    let status = |method: &str, path: &str, body: &serde_json::Value| {
        let body = (method != "GET").then_some(body);
        child.ask(method, path, body).unwrap().status
    };
    let usage = json!({"agent_id": "w", "job_id": "own", "attempt": 1, "tokens_in": 7, "model": "m"});
    let done = json!({"success": true, "output": "done"});
    let own = [
        (
            "PATCH",
            "/api/tasks/own",
            json!({"progress": 40, "notes": "half"}),
        ),
        ("POST", "/api/usage", usage),
        ("POST", "/api/tasks/own/output", json!({"text": "so far"})),
    ];
    for (method, path, body) in &own {
        assert_eq!(status(method, path, body), 200, "{method} {path}");
    }
    let foreign = [
        ("GET", "/api/tasks", body.clone()),
        ("GET", "/api/tasks/other", body.clone()),
        ("POST", "/api/tasks", json!({"title": "more"})),
        ("POST", "/api/batch/tasks", json!([{"title": "more"}])),
        ("POST", "/api/tasks/other/claim", body.clone()),
        ("POST", "/api/tasks/own/claim", body.clone()),
        ("PATCH", "/api/tasks/other", json!({"progress": 1})),
        ("PATCH", "/api/tasks/own", json!({"progress": 1, "attempt": 2})),
        ("POST", "/api/tasks/other/complete", done.clone()),
        ("POST", "/api/tasks/other/output", json!({"text": "x"})),
        (
            "POST",
            "/api/usage",
            json!({"agent_id": "w", "job_id": "other", "tokens_in": 1}),
        ),
        ("POST", "/api/tasks/own/cancel", body.clone()),
        ("POST", "/api/tasks/other/cancel", body.clone()),
        ("POST", "/api/tasks/other/retry", body.clone()),
        ("POST", "/api/agents/w/sync", json!({"running": []})),
        ("POST", "/api/agents/w/heartbeat", body.clone()),
        ("POST", "/api/agents", json!({"id": "evil"})),
        ("DELETE", "/api/agents/w", body.clone()),
        ("GET", "/api/agents", body.clone()),
        ("GET", "/api/limits/fleet", body.clone()),
        (
            "PUT",
            "/api/allowances/w",
            json!({"agent_id": "w", "daily_token_limit": 0}),
        ),
        ("PUT", "/api/models/m", json!({"model": "m"})),
        ("GET", "/api/tokens", body.clone()),
        ("POST", "/api/tokens", json!({"name": "evil", "roles": ["admin"]})),
        ("GET", "/api/events", body.clone()),
        ("GET", "/api/status", body.clone()),
        ("GET", "/metrics", body.clone()),
    ];
    for (method, path, body) in &foreign {
        let status = status(method, path, body);
        assert!(matches!(status, 401 | 403), "{method} {path}: {status}");
    }
    assert_eq!(api.get("/api/tasks/own")["progress"], 40);
    assert_eq!(api.get("/api/tasks/other")["attempt"], 0);

    // It may complete its attempt; after that the token is good for nothing.
    assert_eq!(status("POST", "/api/tasks/own/complete", &done), 200);
    for (method, path, body) in own.iter().chain(&foreign) {
        let status = status(method, path, body);
        assert!(matches!(status, 401 | 403 | 409), "{method} {path}: {status}");
    }
    write(&server.directory, "go", "");
    let task = task_when(&api, "own", |task| task["status"] == "completed");
    assert_eq!(
        (&task["progress"], &task["usage"]["tokens_in"]),
        (&json!(100), &json!(7))
    );
    assert_eq!(task["result"]["output"], "done");
}
