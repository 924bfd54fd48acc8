//! `/metrics`: figures for Prometheus.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::extract::accepts;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::reply;

/// The text format of Prometheus.
const PLAIN: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
/// That of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_metrics))
}

/// Figures for Prometheus
///
/// In the text format of Prometheus, or in that of `OpenMetrics` where `Accept` names `application/openmetrics-text`.
/// Gauges are of the whole store, counters and histograms of what this server did since it was started.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, content((String = "text/plain"), (String = "application/openmetrics-text"))))
)]
async fn get_metrics(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    let open = accepts(&headers, "application/openmetrics-text");
    let text = Metrics::render(&app, open).await?;
    let content_type = if open { OPEN_METRICS } else { PLAIN };
    Ok(reply::with_type(StatusCode::OK, content_type, text))
}
