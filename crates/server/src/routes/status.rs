//! `/api/status`: the whole fleet at a glance.

use adjutant_core::command::{Answer, Command};
use adjutant_core::task::Status;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::extract::Query;
use crate::failure::Failure;
use crate::{reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_status))
}

/// The whole fleet at a glance
///
/// Agents with what is left of their allowances, and how many tasks are in each state. With `agents=false` no agents: who
/// asks often, or has a large fleet, reads them in pages from `/api/agents`.
#[utoipa::path(
    get, path = "/api/status", tag = "server",
    params(("agents" = Option<bool>, Query, description = "Whether to list agents; they are listed when absent")),
    responses((status = 200, body = wire::FleetStatus))
)]
async fn get_status(
    State(app): State<App>,
    caller: Caller,
    Query(params): Query,
) -> Result<Response, Failure> {
    let agents = if params.get("agents").is_none() || params.flag("agents")? {
        match app.ask(caller.actor, Command::FleetStatus).await? {
            Answer::Fleet(standings) => standings,
            other => return Err(unexpected(&other)),
        }
    } else {
        Vec::new()
    };
    let last_seq = app.handle.query(|reader| reader.last_seq()).await?;
    let counts = app.handle.task_counts().await?;
    Ok(reply::ok(&wire::FleetStatus {
        agents: agents.into_iter().map(view::ops::standing).collect(),
        tasks: Status::ALL
            .iter()
            .zip(counts)
            .map(|(status, count)| (status.name().to_owned(), count))
            .collect(),
        last_seq,
    }))
}
