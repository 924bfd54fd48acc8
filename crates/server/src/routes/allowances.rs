//! `/api/allowances/{agent_id}`: the limits of an agent as one thing, what is left and what was used.

use adjutant_core::command::{Answer, Command, PolicyChange};
use adjutant_core::limit::Scope;
use adjutant_core::name::ModelName;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::extract::{AllowancePath, Input, MaybeObject, Nothing, Object, Query};
use crate::failure::Failure;
use crate::{parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_allowance, put_allowance))
        .routes(routes!(reset_allowance))
        .routes(routes!(check_allowance))
        .routes(routes!(get_allowance_usage))
}

/// Read the allowance of an agent
#[utoipa::path(
    get, path = "/api/allowances/{agent_id}", tag = "limits",
    params(("agent_id" = String, Path, pattern = "^[A-Za-z0-9._:-]{1,128}$", description = "The agent, registered or not")),
    responses((status = 200, body = wire::Allowance))
)]
async fn get_allowance(
    State(app): State<App>,
    caller: Caller,
    AllowancePath(agent): AllowancePath,
) -> Result<Response, Failure> {
    let command = Command::GetPolicy(Scope::Agent(agent.clone()));
    let standing = app.standing(caller, command, None).await?;
    Ok(reply::ok(&view::limit::allowance(&agent, &standing.policy)))
}

/// Replace the allowance of an agent
#[utoipa::path(
    put, path = "/api/allowances/{agent_id}", tag = "limits",
    params(("agent_id" = String, Path, pattern = "^[A-Za-z0-9._:-]{1,128}$", description = "The agent, registered or not")),
    request_body = wire::Allowance,
    responses((status = 200, body = wire::Allowance))
)]
async fn put_allowance(
    State(app): State<App>,
    AllowancePath(agent): AllowancePath,
    input: Input<Object<wire::Allowance>>,
) -> Result<Response, Failure> {
    let allowance = parse::limit::allowance(&agent, &input.body.0)?;
    let command = Command::SetPolicy(Scope::Agent(agent.clone()), PolicyChange::Allowance(allowance));
    let standing = app.standing(input.caller, command, None).await?;
    Ok(reply::ok(&view::limit::allowance(&agent, &standing.policy)))
}

/// Start the periods of an agent anew
#[utoipa::path(
    post, path = "/api/allowances/{agent_id}/reset", tag = "limits",
    params(("agent_id" = String, Path, pattern = "^[A-Za-z0-9._:-]{1,128}$", description = "The agent, registered or not")),
    responses((status = 200, body = wire::Allowance))
)]
async fn reset_allowance(
    State(app): State<App>,
    AllowancePath(agent): AllowancePath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    let scope = Scope::Agent(agent.clone());
    let standing = app.reset(input.caller, scope, input.idempotency).await?;
    Ok(reply::ok(&view::limit::allowance(&agent, &standing.policy)))
}

/// Whether an agent may start something, and what is left
///
/// An agent that nobody knows has what the default allows.
#[utoipa::path(
    get, path = "/api/allowances/{agent_id}/check", tag = "limits",
    params(
        ("agent_id" = String, Path, pattern = "^[A-Za-z0-9._:-]{1,128}$", description = "The agent, registered or not"),
        ("model" = Option<String>, Query, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,200}$", description = "With this model"),
    ),
    responses((status = 200, body = wire::AllowanceCheck))
)]
async fn check_allowance(
    State(app): State<App>,
    caller: Caller,
    AllowancePath(agent): AllowancePath,
    Query(params): Query,
) -> Result<Response, Failure> {
    caller.must_see(&agent)?;
    let model = parse::optional_name::<ModelName>("model", params.get("model"))?;
    match app.ask(caller.actor, Command::Check { agent, model }).await? {
        Answer::Check(check) => Ok(reply::ok(&view::agent::check(check))),
        other => Err(unexpected(&other)),
    }
}

/// What an agent used today
#[utoipa::path(
    get, path = "/api/allowances/{agent_id}/usage", tag = "limits",
    params(("agent_id" = String, Path, pattern = "^[A-Za-z0-9._:-]{1,128}$", description = "The agent, registered or not")),
    responses((status = 200, body = wire::AllowanceUsage))
)]
async fn get_allowance_usage(
    State(app): State<App>,
    caller: Caller,
    AllowancePath(agent): AllowancePath,
) -> Result<Response, Failure> {
    caller.must_see(&agent)?;
    let command = Command::GetPolicy(Scope::Agent(agent.clone()));
    let standing = app.standing(caller, command, None).await?;
    Ok(reply::ok(&view::limit::usage(
        &agent,
        &standing.counter,
        standing.now,
    )))
}
