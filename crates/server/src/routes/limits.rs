//! `/api/limits/{scope}`: what is limited in a scope, and what is used of it.

use adjutant_core::command::{Command, PolicyChange};
use adjutant_wire as wire;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::{App, Standing};
use crate::extract::{Input, JoinedPath, MaybeObject, Nothing, Object};
use crate::failure::Failure;
use crate::{parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_limits, put_limits))
        .routes(routes!(reset_limits))
}

/// Scopes with a slash that is not percent-encoded, such as `repo:owner/name`.
pub(super) fn aliases() -> Router<App> {
    Router::new()
        .route("/api/limits/{scope}/{name}", get(get_limits).put(put_limits))
        .route("/api/limits/{scope}/{name}/reset", post(reset_limits))
}

fn limits_reply(standing: &Standing) -> Response {
    reply::ok(&view::limit::scope(
        &standing.scope,
        &standing.policy,
        &standing.counter,
        standing.now,
    ))
}

/// Read the limits of a scope, and what is used of them
#[utoipa::path(
    get, path = "/api/limits/{scope}", tag = "limits",
    params(("scope" = String, Path, pattern = "^(fleet|agent:[A-Za-z0-9._:-]{1,128}|(project|model):[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}|repo:[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}/[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99})$", description = "`fleet`, `project:P`, `agent:A`, `model:M` or `repo:OWNER/NAME`")),
    responses((status = 200, body = wire::ScopeLimits))
)]
async fn get_limits(
    State(app): State<App>,
    caller: Caller,
    JoinedPath(path): JoinedPath,
) -> Result<Response, Failure> {
    let command = Command::GetPolicy(parse::limit::scope(&path)?);
    Ok(limits_reply(&app.standing(caller, command, None).await?))
}

/// Replace the limits of a scope
#[utoipa::path(
    put, path = "/api/limits/{scope}", tag = "limits",
    params(("scope" = String, Path, pattern = "^(fleet|agent:[A-Za-z0-9._:-]{1,128}|(project|model):[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}|repo:[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}/[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99})$", description = "`fleet`, `project:P`, `agent:A`, `model:M` or `repo:OWNER/NAME`")),
    request_body = wire::ScopeLimits,
    responses((status = 200, body = wire::ScopeLimits))
)]
async fn put_limits(
    State(app): State<App>,
    JoinedPath(path): JoinedPath,
    input: Input<Object<wire::ScopeLimits>>,
) -> Result<Response, Failure> {
    let scope = parse::limit::scope(&path)?;
    let limits = parse::limit::limits(&scope, input.body.0)?;
    let command = Command::SetPolicy(scope, PolicyChange::Limits(limits));
    Ok(limits_reply(&app.standing(input.caller, command, None).await?))
}

/// Start the periods of a scope anew
///
/// What was used counts no more; what runs, runs.
#[utoipa::path(
    post, path = "/api/limits/{scope}/reset", tag = "limits",
    params(("scope" = String, Path, pattern = "^(fleet|agent:[A-Za-z0-9._:-]{1,128}|(project|model):[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}|repo:[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}/[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99})$", description = "`fleet`, `project:P`, `agent:A`, `model:M` or `repo:OWNER/NAME`")),
    responses((status = 200, body = wire::ScopeLimits))
)]
async fn reset_limits(
    State(app): State<App>,
    JoinedPath(path): JoinedPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    let scope = parse::limit::scope(&path)?;
    let standing = app.reset(input.caller, scope, input.idempotency).await?;
    Ok(limits_reply(&standing))
}
