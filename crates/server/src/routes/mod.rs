//! Routes: one file for each resource, one function for each method of a path.
//!
//! A handler parses ([`crate::parse`]), asks the engine, and shows the answer ([`crate::view`]). It decides nothing.

mod agents;
mod allowances;
mod attempts;
mod batch;
mod events;
mod health;
mod limits;
pub(crate) mod mcp;
mod metrics;
mod models;
pub(crate) mod openapi;
mod repos;
pub(crate) mod sign_in;
mod status;
pub(crate) mod tasks;
mod tokens;
mod usage;
mod webhooks;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// All documented routes.
pub(crate) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::head())
        .merge(health::routes())
        .merge(tasks::routes())
        .merge(attempts::routes())
        .merge(batch::routes())
        .merge(agents::routes())
        .merge(limits::routes())
        .merge(allowances::routes())
        .merge(models::routes())
        .merge(repos::routes())
        .merge(usage::routes())
        .merge(status::routes())
        .merge(events::routes())
        .merge(tokens::routes())
        .merge(sign_in::routes())
        .merge(webhooks::routes())
        .merge(metrics::routes())
        .merge(openapi::routes())
}

/// Other ways to write documented paths: names with a slash that is not percent-encoded.
pub(crate) fn aliases() -> Router<App> {
    limits::aliases().merge(models::aliases())
}
