//! Tasks: the queue, one task, and dead letters.

use std::collections::HashMap;

use adjutant_core::command::{Answer, Command};
use adjutant_core::name::TaskId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::{Priority, Status, TaskKey};
use adjutant_dashboard::frame::Place;
use adjutant_dashboard::queue::{Class, Classes};
use adjutant_dashboard::task::{MOST_TEXT, Text};
use adjutant_dashboard::{Abilities, dead_letters, queue, task};
use adjutant_store::{StoredTask, TaskFilter};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect};

use super::{NoPage, PAGE, Page, Visit};
use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::extract::TaskPath;
use crate::failure::Failure;
use crate::query::Params;
use crate::routes::tasks::{cursor, cursor_text};
use crate::{page, view};

/// After so many bytes of text a page of tasks ends: it shows their titles, and reads the rest with them.
const MOST_BYTES: usize = 2 << 20;
/// Tasks at the head of the line that are counted by what they ask for.
const LOOKED_AT: usize = 200;
/// Kinds of demands that are listed.
const MOST_CLASSES: usize = 12;
/// Events of a task's page.
const EVENTS: usize = 100;

/// Where a list of tasks goes on.
type Cursor = Option<(Priority, TaskKey)>;

/// `/dashboard/queue`.
pub(super) async fn show_queue(State(app): State<App>, visit: Visit) -> Page {
    let status = visit.params.choice("status", &Status::ALL, Status::name)?;
    let after = position(&visit.params)?;
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let load = async move { queue_content(&owned, &caller, abilities, status, after).await };
    visit.answer(&app, "Tasks", Place::Queue, load).await
}

async fn queue_content(
    app: &App,
    caller: &Caller,
    abilities: Abilities,
    status: Option<Status>,
    after: Cursor,
) -> Result<adjutant_dashboard::Markup, Failure> {
    let filter = TaskFilter {
        status,
        limit: PAGE,
        after,
        ..TaskFilter::default()
    };
    let is_line = status == Some(Status::Pending);
    let (first_in_line, ready_since, classes) = if is_line {
        let ready_since = app.handle.query(|reader| reader.ready_since()).await?;
        (
            first_in_line(app, caller).await?,
            ready_since,
            Some(classes(app).await?),
        )
    } else {
        (Vec::new(), [None; 4], None)
    };
    let (tasks, next) = read(app, caller, filter).await?;
    let base = match status {
        Some(status) => format!("{}?status={}", Place::Queue.path(), status.name()),
        None => Place::Queue.path().to_owned(),
    };
    let (first, next) = pages(&base, after, next);
    Ok(queue::content(&queue::Queue {
        now: app.handle.now(),
        counts: app.task_counts().await?,
        status,
        first_in_line,
        ready_since,
        classes,
        tasks,
        first,
        next,
        abilities,
    }))
}

/// The first in line of each priority.
async fn first_in_line(app: &App, caller: &Caller) -> Result<Vec<wire::Task>, Failure> {
    let first = app
        .handle
        .query(|reader| {
            let mut first = Vec::new();
            for priority in Priority::ALL {
                let filter = TaskFilter {
                    status: Some(Status::Pending),
                    priority: Some(priority),
                    limit: 1,
                    ..TaskFilter::default()
                };
                first.extend(reader.tasks(&filter)?.tasks);
            }
            Ok(first)
        })
        .await?;
    app.present_stored(&caller.actor, first).await
}

/// What the first in line ask for.
async fn classes(app: &App) -> Result<Classes, Failure> {
    let filter = TaskFilter {
        status: Some(Status::Pending),
        limit: LOOKED_AT,
        ..TaskFilter::default()
    };
    let found = app
        .handle
        .query(move |reader| page::read(reader, filter, MOST_BYTES))
        .await?;
    let mut counts: HashMap<_, usize> = HashMap::new();
    for StoredTask { task, .. } in &found.tasks {
        *counts.entry(&task.class.demand).or_default() += 1;
    }
    let mut classes: Vec<_> = counts
        .into_iter()
        .map(|(demand, count)| Class {
            labels: view::texts(&demand.labels),
            prefers: view::texts(&demand.prefers),
            model: demand.model.as_ref().map(ToString::to_string),
            count,
        })
        .collect();
    classes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.labels.cmp(&b.labels)));
    classes.truncate(MOST_CLASSES);
    Ok(Classes {
        classes,
        looked_at: found.tasks.len(),
        more: found.next.is_some(),
    })
}

/// `/dashboard/find`: to the page of the task whose id somebody typed.
pub(super) async fn find(visit: Visit) -> Page {
    let id = visit.params.get("id").unwrap_or_default().trim();
    match adjutant_core::name::check_id(id) {
        Ok(()) => Ok(Redirect::to(&format!("/dashboard/tasks/{id}")).into_response()),
        Err(why) => Err(
            Rejection::new(Slug::TaskNotFound, format!("there is no task `{id}`"))
                .with_details(format!("an id {why}"))
                .into(),
        ),
    }
}

/// `/dashboard/tasks/{id}`.
pub(super) async fn show_task(State(app): State<App>, path: Result<TaskPath, Failure>, visit: Visit) -> Page {
    let TaskPath(id) = path?;
    let before = visit.params.number("before", 1..=i64::MAX.unsigned_abs())?;
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let title = id.to_string();
    let load = async move { task_content(&owned, &caller, abilities, id, before).await };
    visit.answer(&app, &title, Place::Queue, load).await
}

async fn task_content(
    app: &App,
    caller: &Caller,
    abilities: Abilities,
    id: TaskId,
    before: Option<u64>,
) -> Result<adjutant_dashboard::Markup, Failure> {
    let stored = app.stored_task(id.clone()).await?;
    let (key, plain) = (stored.task.key, std::sync::Arc::clone(&stored.task));
    let (mut events, output) = app
        .handle
        .query(move |reader| {
            let events = reader.task_events_before(key, before.unwrap_or(u64::MAX), EVENTS + 1)?;
            Ok((events, reader.output(key)?))
        })
        .await?;
    let more = events.len() > EVENTS;
    events.truncate(EVENTS);
    let path = format!("/dashboard/tasks/{id}");
    let next = events
        .last()
        .filter(|_| more)
        .map(|last| format!("{path}?before={}", last.seq));
    let waits = matches!(plain.status, Status::Pending | Status::Blocked);
    let explanation = if waits {
        match app.ask(caller.actor.clone(), Command::Explain(plain)).await? {
            Answer::Explanation(explanation) => Some(view::ops::explanation(&id, *explanation)),
            other => return Err(unexpected(&other)),
        }
    } else {
        None
    };
    let task = app.present_stored_one(&caller.actor, stored).await?;
    Ok(task::content(&task::Task {
        now: app.handle.now(),
        task,
        events: events.iter().map(view::ops::event).collect(),
        first: before.map(|_| path),
        next,
        output: Text::tail(&output, MOST_TEXT),
        explanation,
        abilities,
    }))
}

/// `/dashboard/dead-letters`.
pub(super) async fn show_dead_letters(State(app): State<App>, visit: Visit) -> Page {
    let after = position(&visit.params)?;
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let load = async move {
        let app = owned;
        let filter = TaskFilter {
            status: Some(Status::Failed),
            limit: PAGE,
            after,
            ..TaskFilter::default()
        };
        let (tasks, next) = read(&app, &caller, filter).await?;
        let (first, next) = pages(Place::DeadLetters.path(), after, next);
        let counts = app.task_counts().await?;
        Ok(dead_letters::content(&dead_letters::DeadLetters {
            now: app.handle.now(),
            count: counts[usize::from(Status::Failed.code())],
            tasks,
            first,
            next,
            abilities,
        }))
    };
    visit.answer(&app, "Dead letters", Place::DeadLetters, load).await
}

/// A page of tasks, and where the next one begins.
pub(super) async fn read(
    app: &App,
    caller: &Caller,
    filter: TaskFilter,
) -> Result<(Vec<wire::Task>, Cursor), Failure> {
    let found = app
        .handle
        .query(move |reader| page::read(reader, filter, MOST_BYTES))
        .await?;
    let tasks = app.present_stored(&caller.actor, found.tasks).await?;
    Ok((tasks, found.next))
}

/// Where a page begins.
pub(super) fn position(params: &Params) -> Result<Cursor, NoPage> {
    Ok(params.get("after").map(cursor).transpose()?)
}

/// The addresses of the first page, where this is another, and of the next.
pub(super) fn pages(base: &str, after: Cursor, next: Cursor) -> (Option<String>, Option<String>) {
    let joint = if base.contains('?') { '&' } else { '?' };
    let next = next.map(|next| format!("{base}{joint}after={}", cursor_text(next)));
    (after.is_some().then(|| base.to_owned()), next)
}
