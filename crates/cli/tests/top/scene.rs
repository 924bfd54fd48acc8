//! A small fleet with something of everything, and pictures of it that are the same each time.

use serde_json::json;

use crate::support::Server;
use crate::support::api::Api;

/// Agents and tasks in every state.
pub(crate) fn set(server: &Server) {
    let api = Api::of(server);
    api.put(
        "/api/models/sonnet",
        &json!({"prices": {"input": 300, "output": 1500, "cached": 30}}),
    );
    for (id, capabilities, models, most) in [
        ("ci-shell", json!(["shell", "test"]), json!([]), 4),
        (
            "mac-claude",
            json!(["code", "rust", "review"]),
            json!(["sonnet"]),
            2,
        ),
        ("mac-codex", json!(["code", "web"]), json!([]), 2),
        ("old-laptop", json!(["code", "swift"]), json!([]), 1),
    ] {
        api.done(
            "/api/agents",
            &json!({"id": id, "capabilities": capabilities, "models": models, "max_load": most}),
        );
    }
    api.done("/api/agents/old-laptop/drain", &json!({}));
    for task in [
        json!({"id": "old-idea", "title": "Rewrite it all", "labels": ["cobol"], "priority": "low"}),
        json!({"id": "flaky-test", "title": "Fix the flaky test", "labels": ["web"], "max_retries": 1}),
        json!({"id": "update-deps", "title": "Update the dependencies", "labels": ["web"], "project": "web"}),
        json!({"id": "fix-login", "title": "Fix the login page", "labels": ["rust"], "priority": "high",
            "project": "web", "model": "sonnet"}),
        json!({"id": "review-login", "title": "Review the login page", "labels": ["review"], "priority": "high",
            "project": "web", "dependencies": ["fix-login"]}),
        json!({"id": "nightly-tests", "title": "Run all tests", "labels": ["test"], "priority": "low"}),
        json!({"id": "migrate-db", "title": "Migrate the old reports", "labels": ["cobol"], "priority": "critical"}),
    ] {
        api.done("/api/tasks", &task);
    }
    for (agent, tasks) in [
        ("mac-codex", vec!["flaky-test", "update-deps"]),
        ("mac-claude", vec!["fix-login"]),
        ("ci-shell", vec!["nightly-tests"]),
    ] {
        let running: Vec<_> = tasks.iter().map(|id| json!({"id": id, "attempt": 1})).collect();
        api.sync(agent, &json!({"running": running}));
    }
    api.done(
        "/api/tasks/flaky-test/complete",
        &json!({"success": false, "error_message": "it passed twice", "attempt": 1}),
    );
    api.done(
        "/api/tasks/update-deps/complete",
        &json!({"success": true, "output": "3 updated", "attempt": 1, "model": "haiku", "tokens_in": 900,
            "tokens_out": 120}),
    );
    api.done("/api/tasks/old-idea/cancel", &json!({}));
    api.done(
        "/api/usage",
        &json!({"agent_id": "mac-claude", "job_id": "fix-login", "model": "sonnet", "tokens_in": 12000,
            "tokens_out": 3400, "total": true, "attempt": 1}),
    );
    let progress =
        json!({"progress": 40, "notes": "found the cause", "attempt": 1, "agent_id": "mac-claude"});
    let patched = api.ask("PATCH", "/api/tasks/fix-login", Some(&progress)).unwrap();
    patched.good();
    api.done(
        "/api/tasks/fix-login/output",
        &json!({"text": "reading src/login.rs\n", "attempt": 1, "agent_id": "mac-claude"}),
    );
}

/// The picture with what differs each time made the same, at the same place: the port, the time, ages.
pub(crate) fn still(screen: &str) -> String {
    let lines: Vec<String> = screen
        .lines()
        .map(|line| still_ages(&still_head(line)).trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn still_head(line: &str) -> String {
    let Some((before, rest)) = line.split_once("http://127.0.0.1:") else {
        return line.to_owned();
    };
    let (port, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
    let room = (port.len() + rest.len()).saturating_sub("7717".len());
    format!("{before}http://127.0.0.1:7717{:>room$}", "2026-11-24 18:30:00Z")
}

/// `12s` becomes ` 1s`.
fn still_ages(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for word in &mut words[1..] {
        let digits = word.strip_suffix(['s', 'm']).unwrap_or_default();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // What is shorter now is made up for before it.
            let room = word.len();
            *word = format!("{:>room$}", "1s");
        }
    }
    words.join(" ")
}
