//! Two servers on one database: what happened is counted and traced once, whoever looks.

use std::collections::BTreeSet;

use serde_json::json;

use crate::collector::Collector;
use crate::figures::Figures;
use crate::support::api::Api;
use crate::support::{Server, eventually};

#[test]
fn what_two_servers_commit_is_counted_and_traced_once() {
    let Some(cluster) = adjutant_postgres_fixture::shared() else {
        return; // The fixture said so.
    };
    let database = cluster.database();
    let collector = Collector::start();
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--store", database.url(), "--otlp-endpoint", &collector.url];
    let (one, other) = (
        Server::start_in(directory.path(), &arguments),
        Server::start_in(directory.path(), &arguments),
    );
    let (here, there) = (Api::of(&one), Api::of(&other));
    here.done("/api/agents", &json!({"id": "coder", "max_load": 9}));
    for id in ["a", "b", "c", "d"] {
        let api = if id < "c" { &here } else { &there };
        api.submit(id);
    }
    // The agent lives at one server, and what it does is reported to either.
    let mut running = BTreeSet::new();
    while running.len() < 4 {
        let told: Vec<_> = running.iter().map(|id| json!({"id": id, "attempt": 1})).collect();
        let given = here.sync("coder", &json!({"running": told, "wait": 5}));
        let start = given["start"].as_array().unwrap();
        running.extend(
            start
                .iter()
                .map(|start| start["task"]["id"].as_str().unwrap().to_owned()),
        );
    }
    for id in &running {
        let api = if id.as_str() < "b" { &here } else { &there };
        let done = json!({"success": true, "attempt": 1, "agent_id": "coder", "model": "m", "tokens_in": 10});
        api.done(&format!("/api/tasks/{id}/complete"), &done);
    }
    // What stands still is told alike by both, at the latest one reading later.
    let both = eventually("the same figures from both", || {
        let both = [Figures::of(&one), Figures::of(&other)];
        let completed = |figures: &Figures| figures.at(r#"adjutant_tasks{status="completed"}"#);
        both.iter()
            .all(|figures| completed(figures) == 4.0)
            .then_some(both)
    });
    let sum = |series: &str| both.iter().map(|figures| figures.at(series)).sum::<f64>();
    assert_eq!(sum(r#"adjutant_events_total{type="task_created"}"#), 4.0);
    assert_eq!(sum("adjutant_attempts_started_total"), 4.0);
    assert_eq!(sum(r#"adjutant_attempts_ended_total{outcome="completed"}"#), 4.0);
    assert_eq!(
        sum(r#"adjutant_dispatch_latency_seconds_count{priority="medium"}"#),
        4.0
    );
    let ended = r#"adjutant_attempts_ended_total{outcome="completed"}"#;
    assert!(
        both.iter().all(|figures| figures.at(ended) > 0.0),
        "both took part"
    );
    assert_eq!((one.terminate(), other.terminate()), (0, 0));

    let spans = collector.received().spans;
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!((traces.len(), ids.len(), spans.len()), (4, 16, 16), "{spans:#?}");
    // Every parent is there, though another server may have sent it.
    assert!(
        spans
            .iter()
            .all(|span| span.parent_span_id.is_empty() || ids.contains(&span.parent_span_id))
    );
}
