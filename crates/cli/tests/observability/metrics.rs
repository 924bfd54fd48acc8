//! The figures of a small story, and what an independent parser says of them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::figures::{Figures, OPEN_METRICS, scrape};
use crate::support::api::Api;
use crate::support::{Ran, Server};

/// Two agents, of whom one completes a task and fails another; a third task nobody can take.
pub(crate) fn story(server: &Server) {
    let api = Api::of(server);
    for agent in ["coder", "idler"] {
        let about = json!({"id": agent, "capabilities": [agent], "models": ["claude-opus"], "max_load": 2});
        api.done("/api/agents", &about);
    }
    for (id, label) in [("good", "coder"), ("bad", "coder"), ("waits", "painter")] {
        let task = json!({"id": id, "title": id, "labels": [label], "priority": "high", "max_retries": 1});
        api.done("/api/tasks", &task);
    }
    let given = api.sync("coder", &json!({"running": [], "wait": 10}));
    assert_eq!(given["start"].as_array().unwrap().len(), 2);
    let usage = json!({"agent_id": "coder", "job_id": "good", "attempt": 1, "model": "claude-opus",
        "tokens_in": 100, "tokens_out": 20, "tokens_cached": 5, "total": true});
    for _ in 0..2 {
        // Totals: what is said again is not new.
        api.done("/api/usage", &usage);
    }
    let good = json!({"success": true, "attempt": 1, "agent_id": "coder", "model": "claude-opus",
        "tokens_in": 120, "tokens_out": 30, "tokens_cached": 5, "cost": 12.5});
    api.done("/api/tasks/good/complete", &good);
    let bad = json!({"success": false, "attempt": 1, "agent_id": "coder", "error_message": "no"});
    api.done("/api/tasks/bad/complete", &bad);
}

#[test]
fn the_figures_of_a_small_story_are_right() {
    let server = Server::start();
    let before = Figures::of(&server);
    assert_eq!(
        before.at(r#"adjutant_attempts_ended_total{outcome="failed"}"#),
        0.0
    );
    story(&server);
    let figures = Figures::of(&server);
    for (series, expected) in [
        (r#"adjutant_tasks{status="pending"}"#, 1.0),
        (r#"adjutant_tasks{status="in_progress"}"#, 0.0),
        (r#"adjutant_tasks{status="completed"}"#, 1.0),
        (r#"adjutant_tasks{status="failed"}"#, 1.0),
        (r#"adjutant_agents{status="available"}"#, 2.0),
        (r#"adjutant_agents{status="busy"}"#, 0.0),
        ("adjutant_agent_load", 0.0),
        ("adjutant_waiting_agents", 0.0),
        ("adjutant_event_streams", 0.0),
        (r#"adjutant_events_total{type="task_created"}"#, 3.0),
        (r#"adjutant_events_total{type="task_dispatched"}"#, 2.0),
        (r#"adjutant_events_total{type="task_dead_lettered"}"#, 1.0),
        (r#"adjutant_dispatch_latency_seconds_count{priority="high"}"#, 2.0),
        (r#"adjutant_dispatch_latency_seconds_count{priority="low"}"#, 0.0),
        ("adjutant_attempts_started_total", 2.0),
        (r#"adjutant_attempts_ended_total{outcome="completed"}"#, 1.0),
        (r#"adjutant_attempts_ended_total{outcome="failed"}"#, 1.0),
        (r#"adjutant_attempts_ended_total{outcome="lost"}"#, 0.0),
        (
            r#"adjutant_attempt_duration_seconds_count{outcome="completed"}"#,
            1.0,
        ),
        (
            r#"adjutant_model_tokens_total{model="claude-opus",kind="input"}"#,
            120.0,
        ),
        (
            r#"adjutant_model_tokens_total{model="claude-opus",kind="output"}"#,
            30.0,
        ),
        (
            r#"adjutant_model_tokens_total{model="claude-opus",kind="cached"}"#,
            5.0,
        ),
        (r#"adjutant_model_cost_dollars_total{model="claude-opus"}"#, 0.125),
        (
            r#"adjutant_agent_tokens_total{agent="coder",kind="output"}"#,
            30.0,
        ),
        (r#"adjutant_agent_cost_dollars_total{agent="coder"}"#, 0.125),
        (r#"adjutant_store_errors_total{kind="full"}"#, 0.0),
        ("adjutant_turns_discarded_total", 0.0),
        (
            r#"adjutant_http_requests_total{method="POST",endpoint="/api/tasks",class="2xx"}"#,
            3.0,
        ),
        (
            &format!(
                r#"adjutant_build_info{{version="{}"}}"#,
                env!("CARGO_PKG_VERSION")
            ),
            1.0,
        ),
    ] {
        assert_eq!(figures.at(series), expected, "{series}");
    }
    assert!(figures.at(r#"adjutant_queue_age_seconds{priority="high"}"#) > 0.0);
    assert_eq!(figures.at(r#"adjutant_queue_age_seconds{priority="low"}"#), 0.0);
    let last = Api::of(&server).get("/api/status")["last_seq"].as_f64().unwrap();
    assert_eq!(figures.at("adjutant_event_seq"), last);
    let turns = figures.at("adjutant_turn_requests_count");
    assert!(figures.at("adjutant_turn_commit_seconds_count") >= 8.0);
    assert!(figures.at("adjutant_turn_commit_seconds_count") < turns);
    assert!(figures.at("process_start_time_seconds") > 1.7e9);
}

#[test]
fn tasks_are_counted_right_after_a_restart_and_when_they_are_taken_back_or_revived() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &[]);
    story(&server);
    assert_eq!(server.terminate(), 0);
    let server = Server::start_in(directory.path(), &[]);
    let count = |figures: &Figures, status| figures.at(&format!("adjutant_tasks{{status=\"{status}\"}}"));
    let figures = Figures::of(&server);
    assert_eq!(
        (count(&figures, "completed"), count(&figures, "failed")),
        (1.0, 1.0)
    );
    assert_eq!(
        figures.at(r#"adjutant_attempts_ended_total{outcome="completed"}"#),
        0.0
    );
    let api = Api::of(&server);
    api.done("/api/tasks/waits/cancel", &json!({}));
    api.done("/api/tasks/bad/retry", &json!({}));
    let figures = Figures::of(&server);
    assert_eq!(
        [
            "pending",
            "blocked",
            "in_progress",
            "completed",
            "failed",
            "cancelled"
        ]
        .map(|status| count(&figures, status)),
        [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    );
}

/// Asks the official parser, if there is an interpreter that has it.
fn check(format: &str, text: &str) -> Option<String> {
    let Some(python) =
        std::env::var_os("ADJUTANT_TEST_PROMETHEUS_PYTHON").filter(|python| !python.is_empty())
    else {
        assert!(
            std::env::var("ADJUTANT_REQUIRE_PROMETHEUS").as_deref() != Ok("1"),
            "ADJUTANT_REQUIRE_PROMETHEUS=1, but ADJUTANT_TEST_PROMETHEUS_PYTHON names no Python that has the package \
             prometheus-client"
        );
        eprintln!(
            "SKIPPED: the metrics ({format}) were not read by the parser of Prometheus: ADJUTANT_TEST_PROMETHEUS_PYTHON \
             names no Python that has the package prometheus-client"
        );
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/observability/check.py");
    let mut child = Command::new(python)
        .args([script, format])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let told = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(told.code, 0, "{}\n{text}", told.stderr);
    Some(told.stdout)
}

#[test]
fn the_parser_of_prometheus_reads_both_formats() {
    let server = Server::start();
    story(&server);
    // A label value with everything that must be escaped.
    let hostile =
        json!({"agent_id": "coder", "job_id": "good", "attempt": 1, "model": "a\"b\\c{}", "tokens_in": 1});
    Api::of(&server).done("/api/usage", &hostile);
    let (text, content_type) = scrape(&server, "text/plain");
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    if let Some(told) = check("plain", &text) {
        for line in [
            "adjutant_tasks gauge",
            "adjutant_dispatch_latency_seconds histogram",
            "adjutant_model_tokens counter",
        ] {
            assert!(told.lines().any(|told| told == line), "no `{line}` in {told}");
        }
    }
    let (text, content_type) = scrape(&server, OPEN_METRICS);
    assert_eq!(
        content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.ends_with("# EOF\n"));
    check("openmetrics", &text);
}
