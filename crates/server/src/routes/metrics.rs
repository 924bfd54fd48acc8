//! `/metrics`: counts for Prometheus, read when they are asked for.

use std::fmt::Write as _;

use adjutant_core::agent::AgentStatus;
use adjutant_core::command::{Answer, Command};
use adjutant_core::task::Status;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::failure::Failure;
use crate::reply;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_metrics))
}

/// Counts for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, content_type = "text/plain", body = String))
)]
async fn get_metrics(State(app): State<App>, caller: Caller) -> Result<Response, Failure> {
    let command = Command::ListAgents {
        status: None,
        capabilities: Vec::new(),
    };
    let agents = match app.ask(caller.actor, command).await? {
        Answer::Agents(agents) => agents,
        other => return Err(unexpected(&other)),
    };
    let (counts, last_seq) = app
        .handle
        .query(|reader| Ok((reader.counts()?, reader.last_seq()?)))
        .await?;
    let by_status = AgentStatus::ALL.map(|status| {
        let count = agents.iter().filter(|agent| agent.status() == status).count();
        (status.name(), u64::try_from(count).unwrap_or(u64::MAX))
    });
    let load = agents.iter().map(|agent| u64::from(agent.load())).sum();
    let tasks = Status::ALL
        .map(Status::name)
        .into_iter()
        .zip(counts)
        .collect::<Vec<_>>();
    Ok(reply::with_type(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        render(&tasks, &by_status, load, last_seq),
    ))
}

/// The text format of Prometheus.
fn render(tasks: &[(&str, u64)], agents: &[(&str, u64)], load: u64, last_seq: u64) -> String {
    let mut text = String::with_capacity(1_024);
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let by_status = |counts: &[(&str, u64)]| -> Vec<(String, u64)> {
        counts
            .iter()
            .map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count))
            .collect()
    };
    let plain = |value| [(String::new(), value)];
    metric("adjutant_tasks", "gauge", "Tasks by status.", &by_status(tasks));
    metric(
        "adjutant_agents",
        "gauge",
        "Agents by status.",
        &by_status(agents),
    );
    metric(
        "adjutant_agent_load",
        "gauge",
        "Attempts that occupy agents.",
        &plain(load),
    );
    metric(
        "adjutant_events_total",
        "counter",
        "Events committed so far.",
        &plain(last_seq),
    );
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    metric(
        "adjutant_build_info",
        "gauge",
        "The version that runs.",
        &[(version, 1)],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_its_help_and_type_before_its_samples() {
        let text = render(&[("pending", 3)], &[("busy", 1)], 2, 7);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            &lines[..3],
            [
                "# HELP adjutant_tasks Tasks by status.",
                "# TYPE adjutant_tasks gauge",
                "adjutant_tasks{status=\"pending\"} 3"
            ]
        );
        assert!(lines.contains(&"adjutant_events_total 7") && lines.contains(&"adjutant_agent_load 2"));
        assert!(text.ends_with('\n'));
    }
}
