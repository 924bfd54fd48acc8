//! What is written about the metrics names those that there are.

use std::collections::BTreeSet;
use std::path::Path;

use crate::figures::{Figures, scrape};
use crate::metrics::story;
use crate::support::Server;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

/// Names of our metrics, and of those of the process, in a text.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("adjutant_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// A server that has shown all that it can.
fn told() -> Server {
    let server = Server::start();
    story(&server);
    server
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
    let there = Figures::of(&told()).names();
    let dashboard = file("deploy/grafana/adjutant.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("the dashboard is JSON");
    for (name, text) in [
        ("the dashboard", dashboard),
        ("the alerts", file("deploy/prometheus/alerts.yml")),
    ] {
        let named = named(&text);
        assert!(named.len() > 5, "{name} names hardly anything");
        let strangers: Vec<_> = named.difference(&there).collect();
        assert!(strangers.is_empty(), "{name} names {strangers:?}");
    }
}

#[test]
fn the_document_has_a_row_for_each_metric_and_no_other() {
    let (text, _) = scrape(&told(), "*/*");
    let there: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let written: BTreeSet<(String, String)> = file("docs/observability.md")
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let kind = rest.split(" | ").next()?;
            let is_metric = named(name).contains(name);
            is_metric.then(|| (name.to_owned(), kind.to_owned()))
        })
        .collect();
    assert_eq!(written, there);
}
