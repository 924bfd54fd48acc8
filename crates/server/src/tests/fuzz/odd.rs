//! Bodies that are right, and what becomes of them when they are bent.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// A request that is right: method, path as it is routed, path, body.
pub(super) type Right = (&'static str, &'static str, &'static str, Value);

/// Every endpoint that takes a body, with one that it takes and that names every field.
pub(super) fn right() -> Vec<Right> {
    let completion = json!({"id": "t", "success": true, "output": "o", "artifacts": ["f"], "error_message": "e",
        "attempt": 1, "agent_id": "a", "model": "m", "tokens_in": 1, "tokens_out": 2, "tokens_cached": 3, "cost": 0.5,
        "rate_limited_until": "2026-11-24T18:30:00Z"});
    let task = json!({"id": "new", "title": "T", "description": "D", "priority": "high", "labels": ["l"],
        "prefers": ["p"], "model": "m", "project": "p", "repo": "o/n", "produces": "issue", "files": ["f"],
        "locks": ["k"], "payload": {"k": [1, null]}, "dependencies": ["free"], "estimated_tokens": 7, "timeout": "2m",
        "not_before": "2026-11-24T18:30:00Z", "max_retries": 1});
    let patch = json!({"status": "in_progress", "progress": 5, "notes": "n", "attempt": 1, "agent_id": "a"});
    let plan = json!({"priority": "low", "labels": ["l"], "prefers": ["p"], "not_before": null, "max_retries": 2,
        "estimated_tokens": 9});
    let agent = json!({"id": "b", "name": "B", "capabilities": ["c"], "models": ["m"], "max_load": 2,
        "metadata": {"k": [1]}, "session": "s"});
    let sync = json!({"session": "s", "n": 1, "running": [{"id": "t", "attempt": 1}], "done": [completion], "max": 1,
        "wait": 0});
    let limit = json!({"window": "day", "tokens": 5, "cost": 1.5, "jobs": 1, "concurrent": 1, "pull_requests": 1,
        "issues": 1, "hard": false});
    let allowance = json!({"agent_id": "a", "daily_token_limit": 1, "daily_job_limit": 1, "concurrent_jobs": 1,
        "max_job_duration": 60, "model_allowlist": ["m"]});
    let model = json!({"model": "m", "daily_token_budget": 1, "hourly_rate_limit": 1, "cost_ceiling": 1,
        "prices": {"input": 1, "output": 2.5, "cached": 0}});
    let repo =
        json!({"repo": "o/n", "max_daily_prs": 1, "max_daily_issues": 1, "cooldown_after_failure": "1h"});
    let usage = json!({"agent_id": "a", "job_id": "t", "model": "m", "tokens_in": 1, "tokens_out": 1,
        "tokens_cached": 1, "cost": 0.1, "total": true, "event": "usage", "attempt": 1});
    let speaks = json!({"attempt": 1, "agent_id": "a"});
    vec![
        ("POST", "/api/tasks", "/api/tasks", task.clone()),
        ("PATCH", "/api/tasks/{id}", "/api/tasks/t", patch),
        ("PATCH", "/api/tasks/{id}", "/api/tasks/free", plan),
        (
            "POST",
            "/api/tasks/{id}/claim",
            "/api/tasks/free/claim",
            json!({"agent_id": "c"}),
        ),
        (
            "POST",
            "/api/tasks/{id}/complete",
            "/api/tasks/t/complete",
            completion.clone(),
        ),
        ("POST", "/api/tasks/{id}/release", "/api/tasks/t/release", speaks),
        ("POST", "/api/tasks/{id}/cancel", "/api/tasks/t/cancel", json!({})),
        (
            "POST",
            "/api/tasks/{id}/output",
            "/api/tasks/t/output",
            json!({"text": "x", "attempt": 1, "agent_id": "a"}),
        ),
        ("POST", "/api/batch/tasks", "/api/batch/tasks", json!([task])),
        (
            "POST",
            "/api/batch/complete",
            "/api/batch/complete",
            json!([completion]),
        ),
        ("POST", "/api/agents", "/api/agents", agent),
        ("POST", "/api/agents/{id}/sync", "/api/agents/a/sync", sync),
        (
            "POST",
            "/api/agents/{id}/heartbeat",
            "/api/agents/a/heartbeat",
            json!({"session": "s"}),
        ),
        (
            "PUT",
            "/api/limits/{scope}",
            "/api/limits/fleet",
            json!({"scope": "fleet", "limits": [limit]}),
        ),
        (
            "PUT",
            "/api/allowances/{agent_id}",
            "/api/allowances/a",
            allowance,
        ),
        ("PUT", "/api/models/{model}", "/api/models/m", model),
        ("PUT", "/api/repos/{owner}/{name}", "/api/repos/o/n", repo),
        ("POST", "/api/usage", "/api/usage", usage),
        (
            "POST",
            "/api/tokens",
            "/api/tokens",
            json!({"name": "new", "roles": ["read"]}),
        ),
        (
            "POST",
            "/api/webhooks",
            "/api/webhooks",
            json!({"name": "new", "url": "https://192.0.78.1/", "events": ["task_created"]}),
        ),
    ]
}

/// Every name of a field that the contract has, and `body` for the whole.
pub(super) fn field_names() -> BTreeSet<String> {
    fn walk(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    names.insert(name.clone());
                    walk(value, names);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, names)),
            _ => {}
        }
    }
    let mut names: BTreeSet<String> = ["body", "use", "held_tokens", "held_cost", "active_jobs"]
        .map(str::to_owned)
        .into();
    for (.., body) in right() {
        walk(&body, &mut names);
    }
    names
}

/// Values as text, since no reader could make some of them.
pub(super) fn odd_value() -> impl Strategy<Value = String> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let texts = [
        "null",
        "true",
        "0",
        "-0",
        "-1",
        "1.0",
        "1e3",
        "1e999",
        "-1e999",
        "1e-999",
        "0.1",
        "4294967296",
        "1000000000001",
        "9223372036854775808",
        "18446744073709551616",
        "123456789012345678901234567890",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        "{\"a\":1,\"a\":2}",
        "\"\"",
        "\" \"",
        "\".\"",
        "\"-\"",
        "\"a b\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00x\"",
        "\"\\ud83d\\ude00\"",
        "\"\u{202e}\u{feff}\"",
        "[\"\\u0000\"]",
        "{\"\\u0000\":1}",
        "[\"\\ud800\"]",
        "[1e999]",
        "\"99999999999999999999d\"",
        "\"-5s\"",
        "\"1970-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59.999999999Z\"",
        "\"1969-12-31T23:59:59Z\"",
        "\"\\\\u0000\"",
        "\"agent:*\"",
        "\"admin\"",
        "\"a/b/c\"",
        "\"completed\"",
        "[0]",
    ];
    let long = [
        nested(99),
        nested(101),
        nested(200),
        nested(5_000),
        format!("\"{}\"", "x".repeat(129)),
        format!("\"{}\"", "ä".repeat(500)),
        format!("\"{}\"", "ä".repeat(501)),
        format!("\"{}\"", "x".repeat(70_000)),
        format!("[{}]", vec!["\"a\""; 1_001].join(",")),
        format!("[{}]", vec!["{}"; 1_001].join(",")),
    ];
    let known: Vec<String> = texts.map(str::to_owned).into_iter().chain(long).collect();
    prop_oneof![
        4 => select(known),
        1 => any::<String>().prop_map(|text| Value::from(text).to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => any::<i128>().prop_map(|number| number.to_string()),
        1 => "[ -~]{0,12}",
    ]
}

/// A body that was right before one or two of its values were replaced, left out or said twice.
pub(super) fn bent(body: &Value, changes: &[(prop::sample::Index, u8, String)]) -> String {
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}/{name}");
                    found.push(path.clone());
                    leaves(value, &path, found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    let path = format!("{path}/{index}");
                    found.push(path.clone());
                    leaves(value, &path, found);
                }
            }
            _ => {}
        }
    }
    let mut places = Vec::new();
    leaves(body, "", &mut places);
    if places.is_empty() {
        return changes[0].2.clone();
    }
    // The value is first replaced by a mark, and the mark in the text then: some values cannot be in a tree.
    let (mut tree, mut marks) = (body.clone(), Vec::new());
    for (number, (at, how, value)) in changes.iter().enumerate() {
        if let Some(place) = tree.pointer_mut(&places[at.index(places.len())]) {
            let mark = format!("@{number}@");
            let before = std::mem::replace(place, Value::from(mark.clone()));
            let text = match how % 4 {
                0 => format!("{before}, \"title\": {value}"),
                1 => format!("{before}, \"unknown\": {value}"),
                _ => value.clone(),
            };
            marks.push((format!("\"{mark}\""), text));
        }
    }
    let mut text = tree.to_string();
    for (mark, value) in marks {
        text = text.replacen(&mark, &value, 1);
    }
    text
}
