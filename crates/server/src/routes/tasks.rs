//! `/api/tasks`: create, list, read, and what operators do with tasks.
//!
//! # Not here
//! What agents do with tasks: [`super::attempts`]. Many tasks at once: [`super::batch`].

use adjutant_core::command::{Answer, Command};
use adjutant_core::name::{AgentId, Label, ProjectName, TaskId};
use adjutant_core::rejection::Rejection;
use adjutant_core::task::{MAX_LIST, Priority, Status, TaskKey};
use adjutant_store::TaskFilter;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::header::LINK;
use http::{StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::access::sight::Sight;
use crate::app::{App, unexpected};
use crate::extract::{Input, MaybeObject, Nothing, Object, Query, Submission, TaskPath};
use crate::failure::Failure;
use crate::query::Params;
use crate::{page, parse, reply, view};

/// Items of a list when the request names no number.
pub(super) const DEFAULT_PAGE: usize = 100;
/// The most items of a list.
pub(super) const MAX_PAGE: usize = 1_000;
/// The parameter that says where a page goes on.
const CURSOR: &str = "cursor";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks, create_task))
        .routes(routes!(get_task))
        .routes(routes!(cancel_task))
        .routes(routes!(retry_task))
        .routes(routes!(hold_task))
        .routes(routes!(unhold_task))
        .routes(routes!(explain_task))
}

/// List tasks
///
/// In dispatch order with `status=pending`, newest first otherwise. A page may be shorter than `limit` and still have a
/// next one: when its tasks have more than 16 MiB of text, and for a token that only speaks for an agent, which is shown
/// what that agent holds, held or could run.
#[utoipa::path(
    get, path = "/api/tasks", tag = "tasks",
    params(
        ("status" = Option<String>, Query, pattern = "^(pending|blocked|in_progress|completed|failed|cancelled)?$", description = "In this state"),
        ("priority" = Option<String>, Query, pattern = "^(critical|high|medium|low)?$", description = "This urgent"),
        ("project" = Option<String>, Query, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,200}$", description = "Of this project"),
        ("claimed_by" = Option<String>, Query, pattern = "^[A-Za-z0-9._:-]{0,128}$", description = "Held by this agent, or by it at the end"),
        ("labels" = Option<String>, Query, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,200}$", description = "With all of these labels, separated by commas"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most tasks of the page; 100 when absent"),
        ("cursor" = Option<String>, Query, pattern = r"^([0-3]\.[0-9]{1,18})?$", description = "Where the page begins: taken from the `Link` header of the page before"),
    ),
    responses((status = 200, body = Vec<wire::Task>, headers(("Link" = String, description = "The next page: `<…>; rel=\"next\"`"))))
)]
async fn list_tasks(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(params): Query,
) -> Result<Response, Failure> {
    let filter = task_filter(&params)?;
    let sight = Sight::of(&app, &caller).await?;
    let mut page = app
        .handle
        .query(move |reader| page::read(reader, filter, page::MAX_BYTES))
        .await?;
    page.tasks.retain(|stored| sight.sees(&stored.task));
    let tasks = app.present_stored(&caller.actor, page.tasks).await?;
    let mut response = reply::ok(&tasks);
    if let Some(next) = page.next {
        response
            .headers_mut()
            .insert(LINK, page::next_link(&uri, CURSOR, &cursor_text(next))?);
    }
    Ok(response)
}

fn task_filter(params: &Params) -> Result<TaskFilter, Rejection> {
    let labels: Vec<String> = params.list("labels").into_iter().map(str::to_owned).collect();
    Ok(TaskFilter {
        status: params.choice("status", &Status::ALL, Status::name)?,
        priority: params.choice("priority", &Priority::ALL, Priority::name)?,
        project: parse::optional_name::<ProjectName>("project", params.get("project"))?,
        claimed_by: parse::optional_id::<AgentId>("claimed_by", params.get("claimed_by"))?,
        labels: parse::names::<Label>("labels", &labels, MAX_LIST)?,
        limit: page_size(params)?,
        after: params.get(CURSOR).map(cursor).transpose()?,
    })
}

/// How many items a list is to have.
pub(super) fn page_size(params: &Params) -> Result<usize, Rejection> {
    Ok(params.number("limit", 1..=MAX_PAGE)?.unwrap_or(DEFAULT_PAGE))
}

/// Where a page goes on: the rank of the priority, and the key of the last task before.
pub(crate) fn cursor(text: &str) -> Result<(Priority, TaskKey), Rejection> {
    text.split_once('.')
        .and_then(|(rank, key)| {
            Some((
                Priority::from_rank(rank.parse().ok()?)?,
                TaskKey(key.parse().ok()?),
            ))
        })
        .ok_or_else(|| Rejection::field(CURSOR, "must be taken from the Link header of the page before"))
}

/// A place in a list, as [`cursor`] reads it.
pub(crate) fn cursor_text((priority, key): (Priority, TaskKey)) -> String {
    format!("{}.{}", priority.rank(), key.0)
}

/// Create a task
///
/// It is there once this is answered, and it waits when nobody can take it yet.
#[utoipa::path(
    post, path = "/api/tasks", tag = "tasks",
    request_body = wire::NewTask,
    responses((status = 201, body = wire::Task))
)]
async fn create_task(
    State(app): State<App>,
    Submission(input): Submission<Object<wire::NewTask>>,
) -> Result<Response, Failure> {
    let command = Command::Submit {
        tasks: vec![Ok(parse::task::new_task(input.body.0)?)],
        batch: false,
    };
    let task = app.change_task(input.caller, command, input.idempotency).await?;
    Ok(reply::json(StatusCode::CREATED, &task))
}

/// Read a task
#[utoipa::path(
    get, path = "/api/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Task))
)]
async fn get_task(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Response, Failure> {
    let sight = Sight::of(&app, &caller).await?;
    let stored = app.stored_task(id).await?;
    sight.must_see(&stored.task)?;
    let task = app.present_stored_one(&caller.actor, stored).await?;
    Ok(reply::ok(&task))
}

async fn change(
    app: &App,
    input: Input<MaybeObject<Nothing>>,
    command: Command,
) -> Result<Response, Failure> {
    let task = app.change_task(input.caller, command, input.idempotency).await?;
    Ok(reply::ok(&task))
}

/// Cancel a task
#[utoipa::path(
    post, path = "/api/tasks/{id}/cancel", tag = "tasks",
    params(
        ("id" = String, Path, description = "The task"),
        ("cascade" = Option<bool>, Query, description = "And all tasks that depend on it"),
    ),
    responses((status = 200, body = wire::Task))
)]
async fn cancel_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    Query(params): Query,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    let cascade = params.flag("cascade")?;
    change(&app, input, Command::Cancel { id, cascade }).await
}

/// Start a failed or cancelled task afresh
///
/// A task in backoff is started at once.
#[utoipa::path(
    post, path = "/api/tasks/{id}/retry", tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Task))
)]
async fn retry_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Retry(id)).await
}

/// Keep a task from being dispatched
#[utoipa::path(
    post, path = "/api/tasks/{id}/hold", tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Task))
)]
async fn hold_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Hold(id)).await
}

/// End a hold
#[utoipa::path(
    post, path = "/api/tasks/{id}/unhold", tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Task))
)]
async fn unhold_task(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Unhold(id)).await
}

/// Say what each agent lacks for a task
#[utoipa::path(
    get, path = "/api/tasks/{id}/explain", tag = "tasks",
    params(("id" = String, Path, description = "The task")),
    responses((status = 200, body = wire::Explanation))
)]
async fn explain_task(
    State(app): State<App>,
    caller: Caller,
    TaskPath(id): TaskPath,
) -> Result<Response, Failure> {
    let stored = app.stored_task(id).await?;
    let id: TaskId = stored.task.id.clone();
    match app.ask(caller.actor, Command::Explain(stored.task)).await? {
        Answer::Explanation(explanation) => Ok(reply::ok(&view::ops::explanation(&id, *explanation))),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::rejection::Slug;

    use super::*;

    fn filter(query: &str) -> Result<TaskFilter, Rejection> {
        Params::parse(Some(query)).and_then(|params| task_filter(&params))
    }

    #[test]
    fn filters_are_read_and_default_to_a_hundred_of_everything() {
        let all = filter("").unwrap();
        assert_eq!((all.status, all.limit, all.after), (None, 100, None));
        let some =
            filter("status=in_progress&priority=high&project=p&claimed_by=a&labels=x,y&limit=2&cursor=1.-7")
                .unwrap();
        assert_eq!(
            (some.status, some.priority),
            (Some(Status::InProgress), Some(Priority::High))
        );
        assert_eq!(some.labels, ["x".into(), "y".into()]);
        assert_eq!(some.after, Some((Priority::High, TaskKey(-7))));
    }

    #[test]
    fn what_a_filter_cannot_be_is_refused_by_name() {
        for (query, name) in [
            ("status=done", "status"),
            ("priority=urgent", "priority"),
            ("claimed_by=a%20b", "claimed_by"),
            ("labels=a%0Ab", "labels[0]"),
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=9.1", "cursor"),
        ] {
            let refused = filter(query).unwrap_err();
            assert_eq!(refused.slug, Slug::InvalidField, "{query}");
            assert!(refused.message.starts_with(name), "{query}: {}", refused.message);
        }
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let uri = Uri::from_static("/api/tasks?status=pending&cursor=0.1&limit=2");
        let link = page::next_link(&uri, CURSOR, &cursor_text((Priority::Low, TaskKey(42)))).unwrap();
        assert_eq!(
            link,
            "</api/tasks?status=pending&limit=2&cursor=3.42>; rel=\"next\""
        );
        let uri = Uri::from_static("/api/tasks");
        assert_eq!(
            page::next_link(&uri, CURSOR, &cursor_text((Priority::Low, TaskKey(1)))).unwrap(),
            "</api/tasks?cursor=3.1>; rel=\"next\""
        );
    }
}
