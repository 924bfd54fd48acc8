//! `/api/usage`: tokens and cost that agents report.

use adjutant_core::command::{Answer, Command};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, unexpected};
use crate::extract::{Input, Object};
use crate::failure::Failure;
use crate::{parse, reply};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(report_usage))
}

/// Report tokens and cost
///
/// A report is an increase, or with `total` the attempt's totals of that model, of which only the increase is booked.
#[utoipa::path(
    post, path = "/api/usage", tag = "limits",
    request_body = wire::UsageReport,
    responses((status = 200, body = wire::Acknowledgement))
)]
async fn report_usage(
    State(app): State<App>,
    input: Input<Object<wire::UsageReport>>,
) -> Result<Response, Failure> {
    let report = parse::usage::report(&input.body.0, &input.caller)?;
    match app
        .change(input.caller, Command::Report(report), input.idempotency)
        .await?
    {
        Answer::Done | Answer::Task(_) => Ok(reply::ok(&wire::Acknowledgement {
            message: "usage booked".to_owned(),
        })),
        other => Err(unexpected(&other)),
    }
}
