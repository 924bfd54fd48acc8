//! `/api/batch/*`: many tasks at once, in one transaction; a bad item fails alone.

use adjutant_core::command::{Answer, Command};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, unexpected};
use crate::extract::{Batch, Input, Submission};
use crate::failure::Failure;
use crate::{parse, reply};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_tasks))
        .routes(routes!(complete_tasks))
}

/// Create many tasks
///
/// At most 1,000, which may depend on each other. Each item has a `status` and a `task` or an `error`; after 64 MiB of
/// tasks the others have their `status` alone.
#[utoipa::path(
    post, path = "/api/batch/tasks", tag = "tasks",
    request_body = Vec<wire::NewTask>,
    responses((status = 200, body = Vec<wire::BatchItem>))
)]
async fn create_tasks(
    State(app): State<App>,
    Submission(input): Submission<Batch<wire::NewTask>>,
) -> Result<Response, Failure> {
    let tasks = input
        .body
        .0
        .into_iter()
        .map(|item| item.and_then(parse::task::new_task))
        .collect();
    let command = Command::Submit { tasks, batch: true };
    match app.change(input.caller, command, input.idempotency).await? {
        Answer::Batch(items) => Ok(reply::ok(&app.present_items(items, StatusCode::CREATED).await?)),
        other => Err(unexpected(&other)),
    }
}

/// End many attempts
///
/// At most 1,000. Each item has a `status` and a `task` or an `error`; after 64 MiB of tasks the others have their
/// `status` alone.
#[utoipa::path(
    post, path = "/api/batch/complete", tag = "attempts",
    request_body = Vec<wire::Completion>,
    responses((status = 200, body = Vec<wire::BatchItem>))
)]
async fn complete_tasks(
    State(app): State<App>,
    input: Input<Batch<wire::Completion>>,
) -> Result<Response, Failure> {
    let caller = &input.caller;
    let completions = input
        .body
        .0
        .into_iter()
        .map(|item| item.and_then(|completion| parse::completion::named(completion, caller)))
        .collect();
    let command = Command::Complete {
        completions,
        batch: true,
    };
    match app.change(input.caller, command, input.idempotency).await? {
        Answer::Batch(items) => Ok(reply::ok(&app.present_items(items, StatusCode::OK).await?)),
        other => Err(unexpected(&other)),
    }
}
