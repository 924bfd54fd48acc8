//! `/api/models/{model}`: the quota and the prices of a model.

use adjutant_core::command::{Command, PolicyChange};
use adjutant_core::limit::Scope;
use adjutant_core::name::ModelName;
use adjutant_wire as wire;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::App;
use crate::extract::{Input, JoinedPath, Object};
use crate::failure::Failure;
use crate::{parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_model, put_model))
}

/// Models whose name has a slash that is not percent-encoded.
pub(super) fn aliases() -> Router<App> {
    Router::new().route("/api/models/{model}/{variant}", get(get_model).put(put_model))
}

/// Read the quota and the prices of a model
#[utoipa::path(
    get, path = "/api/models/{model}", tag = "limits",
    params(("model" = String, Path, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}$", description = "The model")),
    responses((status = 200, body = wire::Model))
)]
async fn get_model(
    State(app): State<App>,
    caller: Caller,
    JoinedPath(path): JoinedPath,
) -> Result<Response, Failure> {
    let model: ModelName = parse::name("model", &path)?;
    let command = Command::GetPolicy(Scope::Model(model.clone()));
    let standing = app.standing(caller, command, None).await?;
    Ok(reply::ok(&view::limit::model(&model, &standing.policy)))
}

/// Replace the quota and the prices of a model
#[utoipa::path(
    put, path = "/api/models/{model}", tag = "limits",
    params(("model" = String, Path, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}$", description = "The model")),
    request_body = wire::Model,
    responses((status = 200, body = wire::Model))
)]
async fn put_model(
    State(app): State<App>,
    JoinedPath(path): JoinedPath,
    input: Input<Object<wire::Model>>,
) -> Result<Response, Failure> {
    let model: ModelName = parse::name("model", &path)?;
    let quota = parse::limit::model(&model, &input.body.0)?;
    let command = Command::SetPolicy(Scope::Model(model.clone()), PolicyChange::Model(quota));
    let standing = app.standing(input.caller, command, None).await?;
    Ok(reply::ok(&view::limit::model(&model, &standing.policy)))
}
