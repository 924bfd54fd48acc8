//! Traces of the real binary, as a collector gets them.

use std::collections::BTreeSet;
use std::path::Path;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::collector::{Collector, number, text};
use crate::support::api::Api;
use crate::support::{Server, TOKEN, adjutant, eventually};

/// A server with a variable in its environment.
fn server(directory: &Path, variable: &str, value: &str) -> Server {
    let mut command = adjutant(directory);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("ADJUTANT_ADMIN_TOKEN", TOKEN)
        .env(variable, value);
    Server::spawn(command, directory)
}

/// The task reaches the agent; gives the number of the attempt.
fn given(api: &Api) -> u64 {
    let given = api.sync("coder", &json!({"running": [], "wait": 10}));
    assert_eq!(given["start"][0]["task"]["id"], "t");
    given["start"][0]["attempt"].as_u64().unwrap()
}

/// The only span with this name, of this attempt.
#[track_caller]
fn only<'a>(spans: &'a [Span], name: &str, attempt: Option<i64>) -> &'a Span {
    let mut found = spans
        .iter()
        .filter(|span| span.name == name && number(&span.attributes, "adjutant.attempt") == attempt);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {attempt:?} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} {attempt:?} twice in {spans:#?}");
    first
}

#[test]
fn a_task_is_one_trace_also_over_a_restart_and_each_span_is_sent_once() {
    let collector = Collector::start();
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start_in(directory.path(), &["--otlp-endpoint", &collector.url]);
    let api = Api::of(&first);
    let about = json!({"id": "coder", "name": "The Coder", "models": ["claude-opus"]});
    api.done("/api/agents", &about);
    let task =
        json!({"id": "t", "title": "secret title", "labels": [], "model": "claude-opus", "project": "p"});
    api.done("/api/tasks", &task);
    assert_eq!(given(&api), 1);
    let bad = json!({"success": false, "attempt": 1, "agent_id": "coder", "error_message": "no"});
    api.done("/api/tasks/t/complete", &bad);
    assert_eq!(first.terminate(), 0);

    // What was committed by the first server was sent by it.
    assert_eq!(collector.received().spans.len(), 4);
    let second = server(directory.path(), "OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let api = Api::of(&second);
    api.done("/api/agents", &about);
    api.done("/api/tasks/t/retry", &json!({}));
    assert_eq!(given(&api), 2);
    let good = json!({"success": true, "attempt": 2, "agent_id": "coder", "model": "claude-opus",
        "tokens_in": 100, "tokens_out": 20, "tokens_cached": 5, "cost": 12.5});
    api.done("/api/tasks/t/complete", &good);
    let received = eventually("the last span", || {
        Some(collector.received()).filter(|received| received.spans.len() >= 7)
    });
    assert_eq!(second.terminate(), 0);

    let spans = received.spans;
    assert_eq!(spans.len(), 7, "{spans:#?}");
    assert!(received.services.iter().all(|service| service == "adjutant"));
    assert!(
        received
            .heads
            .iter()
            .all(|head| head.starts_with("post /v1/traces http/1.1\r\n")
                && head.contains("content-type: application/x-protobuf"))
    );
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!((traces.len(), ids.len()), (1, 7));
    assert!(
        spans
            .iter()
            .all(|span| span.start_time_unix_nano <= span.end_time_unix_nano)
    );
    assert!(
        spans
            .iter()
            .all(|span| text(&span.attributes, "adjutant.task.id").as_deref() == Some("t"))
    );
    assert!(
        !format!("{spans:?}").contains("secret title"),
        "what tasks say is not sent"
    );

    let submit = only(&spans, "submit_task", None);
    assert!(submit.parent_span_id.is_empty());
    assert_eq!(
        text(&submit.attributes, "gen_ai.request.model").unwrap(),
        "claude-opus"
    );
    assert_eq!(text(&submit.attributes, "adjutant.task.project").unwrap(), "p");
    for attempt in [1, 2] {
        let dispatch = only(&spans, "dispatch_task", Some(attempt));
        let invoke = only(&spans, "invoke_agent The Coder", Some(attempt));
        let settle = only(&spans, "settle_task", Some(attempt));
        assert_eq!(dispatch.parent_span_id, submit.span_id);
        assert_eq!(invoke.parent_span_id, dispatch.span_id);
        assert_eq!(settle.parent_span_id, invoke.span_id);
        assert_eq!(invoke.kind(), SpanKind::Client);
        for (name, expected) in [
            ("gen_ai.operation.name", "invoke_agent"),
            ("gen_ai.agent.id", "coder"),
            ("gen_ai.agent.name", "The Coder"),
            ("gen_ai.request.model", "claude-opus"),
            ("gen_ai.provider.name", "anthropic"),
        ] {
            assert_eq!(
                text(&invoke.attributes, name).as_deref(),
                Some(expected),
                "{name}"
            );
        }
    }
    let failed = only(&spans, "invoke_agent The Coder", Some(1));
    assert_eq!(failed.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(text(&failed.attributes, "error.type").unwrap(), "failed");
    let done = only(&spans, "invoke_agent The Coder", Some(2));
    assert_eq!(text(&done.attributes, "adjutant.outcome").unwrap(), "completed");
    for (name, expected) in [
        ("gen_ai.usage.input_tokens", 105),
        ("gen_ai.usage.cache_read.input_tokens", 5),
        ("gen_ai.usage.output_tokens", 20),
    ] {
        assert_eq!(number(&done.attributes, name), Some(expected), "{name}");
    }
    let settled = only(&spans, "settle_task", Some(2));
    assert_eq!(
        text(&settled.attributes, "adjutant.task.status").unwrap(),
        "completed"
    );
}

#[test]
fn an_agent_has_the_same_name_in_all_spans_also_over_a_restart() {
    let collector = Collector::start();
    let directory = tempfile::tempdir().unwrap();
    let work = |api: &Api, id: &str| {
        api.submit(id);
        api.sync("coder", &json!({"running": [], "wait": 10}));
        let done = json!({"success": true, "attempt": 1, "agent_id": "coder"});
        api.done(&format!("/api/tasks/{id}/complete"), &done);
    };
    let first = server(directory.path(), "ADJUTANT_OTLP_ENDPOINT", &collector.url);
    let api = Api::of(&first);
    api.done("/api/agents", &json!({"id": "coder", "name": "The Coder"}));
    work(&api, "a");
    work(&api, "b");
    assert_eq!(first.terminate(), 0);
    let second = server(directory.path(), "ADJUTANT_OTLP_ENDPOINT", &collector.url);
    work(&Api::of(&second), "c");
    assert_eq!(second.terminate(), 0);
    let spans = collector.received().spans;
    let named = spans.iter().filter(|span| span.name == "invoke_agent The Coder");
    assert_eq!((named.count(), spans.len()), (3, 12), "{spans:#?}");
}

#[test]
fn a_task_that_ends_without_an_attempt_has_its_end_in_its_trace() {
    let collector = Collector::start();
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path(), "ADJUTANT_OTLP_ENDPOINT", &collector.url);
    let api = Api::of(&server);
    api.submit("t");
    api.done("/api/tasks/t/cancel", &json!({}));
    assert_eq!(server.terminate(), 0);
    let spans = collector.received().spans;
    assert_eq!(spans.len(), 2);
    let (submit, settle) = (
        only(&spans, "submit_task", None),
        only(&spans, "settle_task", None),
    );
    assert_eq!(settle.parent_span_id, submit.span_id);
    assert_eq!(
        text(&settle.attributes, "adjutant.task.status").unwrap(),
        "cancelled"
    );
}

#[test]
fn a_collector_that_is_not_there_is_told_once_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = server(
        directory.path(),
        "ADJUTANT_OTLP_ENDPOINT",
        &format!("http://{nobody}"),
    );
    let api = Api::of(&server);
    for number in 0..20 {
        api.submit(&format!("t{number}"));
    }
    assert_eq!(api.get("/api/tasks").as_array().unwrap().len(), 20);
    server.signal("TERM");
    let ran = server.ended();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told = ran
        .stderr
        .lines()
        .filter(|line| line.contains("traces cannot be delivered"))
        .count()
        + ran
            .stderr
            .lines()
            .filter(|line| line.contains("the last traces could not be sent"))
            .count();
    assert!((1..=2).contains(&told), "{}", ran.stderr);
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let ran = crate::support::run(directory.path(), &["serve", "--otlp-endpoint", "collector:4318"]);
    ran.fails(
        2,
        "--otlp-endpoint: `collector:4318` must begin with http:// or https://",
    );
}
