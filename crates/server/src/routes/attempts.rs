//! `/api/tasks/{id}/…`: what agents do with tasks: claim, update, complete, release, print.

use adjutant_core::command::{Answer, Command};
use adjutant_core::task::Status;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, unexpected};
use crate::extract::{Input, MaybeObject, Object, TaskPath};
use crate::failure::Failure;
use crate::{parse, reply};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(update_task))
        .routes(routes!(claim_task))
        .routes(routes!(complete_task))
        .routes(routes!(release_task))
        .routes(routes!(get_output, append_output))
}

/// Change a task
///
/// Agents report progress, notes and the end of an attempt; operators change what a waiting task asks for.
#[utoipa::path(
    patch, path = "/api/tasks/{id}", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    request_body = wire::TaskPatch,
    responses((status = 200, body = wire::Task))
)]
async fn update_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<Object<wire::TaskPatch>>,
) -> Result<Response, Failure> {
    let patch = parse::task::task_patch(&id, input.body.0, &input.caller)?;
    let command = Command::Patch(id, Box::new(patch));
    let task = app.change_task(input.caller, command, None).await?;
    Ok(reply::ok(&task))
}

/// Take a task by its id
#[utoipa::path(
    post, path = "/api/tasks/{id}/claim", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    request_body(content = Option<wire::Claim>, description = "May be left out: then the token's name claims"),
    responses((status = 200, body = wire::TaskMessage))
)]
async fn claim_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<MaybeObject<wire::Claim>>,
) -> Result<Response, Failure> {
    let named = parse::optional_id("agent_id", input.body.0.agent_id.as_deref())?;
    if let Some(agent) = &named {
        input.caller.must_act_as(agent)?;
    }
    let agent = named.or_else(|| input.caller.own_agent());
    let task = app
        .change_task(input.caller, Command::Claim { id, agent }, input.idempotency)
        .await?;
    Ok(reply::ok(&wire::TaskMessage {
        task,
        message: "task claimed".to_owned(),
    }))
}

/// End an attempt
///
/// `success: false` is a failed attempt, which is retried while retries are left.
#[utoipa::path(
    post, path = "/api/tasks/{id}/complete", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    request_body = wire::Completion,
    responses((status = 200, body = wire::TaskMessage))
)]
async fn complete_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<Object<wire::Completion>>,
) -> Result<Response, Failure> {
    let completion = parse::completion::of_task(id, input.body.0, &input.caller)?;
    let command = Command::Complete {
        completions: vec![Ok(completion)],
        batch: false,
    };
    let task = app.change_task(input.caller, command, input.idempotency).await?;
    let message = completion_message(task.status).to_owned();
    Ok(reply::ok(&wire::TaskMessage { task, message }))
}

/// What became of a task whose attempt ended.
const fn completion_message(status: Status) -> &'static str {
    match status {
        Status::Completed => "task completed",
        Status::Failed => "attempt failed, and no retries are left",
        Status::Cancelled => "task cancelled",
        Status::Pending | Status::Blocked | Status::InProgress => "attempt ended, and the task goes on",
    }
}

/// Give a task back without a failure
#[utoipa::path(
    post, path = "/api/tasks/{id}/release", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    request_body(content = Option<wire::AttemptRef>, description = "May be left out: then it is the current attempt"),
    responses((status = 200, body = wire::Task))
)]
async fn release_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<MaybeObject<wire::AttemptRef>>,
) -> Result<Response, Failure> {
    let agent = parse::optional_id("agent_id", input.body.0.agent_id.as_deref())?;
    let speaker = input.caller.speaker(&id, input.body.0.attempt, agent)?;
    let command = Command::Release {
        id,
        attempt: speaker.attempt,
        agent: speaker.agent,
    };
    let task = app.change_task(input.caller, command, input.idempotency).await?;
    Ok(reply::ok(&task))
}

/// Read the live output of a task
///
/// The newest MiB of what its attempts printed.
#[utoipa::path(
    get, path = "/api/tasks/{id}/output", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Output))
)]
async fn get_output(State(app): State<App>, TaskPath(id): TaskPath) -> Result<Response, Failure> {
    let key = app.stored_task(id).await?.task.key;
    let text = app.handle.query(move |reader| reader.output(key)).await?;
    Ok(reply::ok(&wire::Output {
        text,
        attempt: None,
        agent_id: None,
    }))
}

/// Append live output
#[utoipa::path(
    post, path = "/api/tasks/{id}/output", tag = "attempts",
    params(("id" = String, Path, description = "The task")),
    request_body = wire::Output,
    responses((status = 200, body = wire::Acknowledgement))
)]
async fn append_output(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<Object<wire::Output>>,
) -> Result<Response, Failure> {
    let command = parse::usage::output(id, input.body.0, &input.caller)?;
    match app.change(input.caller, command, input.idempotency).await? {
        Answer::Done | Answer::Task(_) => Ok(reply::ok(&wire::Acknowledgement {
            message: "output kept".to_owned(),
        })),
        other => Err(unexpected(&other)),
    }
}
