//! `/v1/health`: whether the server is well.

use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::failure::Failure;
use crate::reply;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_health))
}

/// Whether the server is well
///
/// It answers 200 when it can read its store. No token is needed.
#[utoipa::path(get, path = "/v1/health", tag = "server", responses((status = 200, body = wire::Health)))]
async fn get_health(State(app): State<App>) -> Result<Response, Failure> {
    // Green means that the store can be read, not only that somebody listens.
    app.handle.query(|reader| reader.last_seq()).await?;
    Ok(reply::ok(&wire::Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}
