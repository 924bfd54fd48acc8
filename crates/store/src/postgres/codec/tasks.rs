//! Tasks, with what belongs to them: texts, ends, notes, output.

use std::sync::Arc;

use adjutant_core::attempt::ModelUsage;
use adjutant_core::name::{AgentId, LockName, ProjectName, RepoName, TaskId};
use adjutant_core::set::rows::Ending;
use adjutant_core::task::{
    Body, Class, ClassId, DispatchOrder, Fanout, Note, Priority, Status, Task, TaskKey, TaskResult,
};
use adjutant_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{Failure, Result, column, is_default, micros, sound, time};
use crate::encoding::{self, json, read_json};

#[derive(Serialize, Deserialize)]
struct TaskState {
    #[serde(default, skip_serializing_if = "is_default")]
    held: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    repo: Option<RepoName>,
    #[serde(default, skip_serializing_if = "is_default")]
    produces: Option<u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    locks: Arc<[LockName]>,
    #[serde(default, skip_serializing_if = "is_default")]
    estimated_tokens: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    not_before: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    delayed_until: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    max_retries: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    retry_count: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    dependencies: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    unmet: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    failed_dependencies: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    dependents: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    claimed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    lease_expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    deadline: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    last_attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    failed_on: Arc<[AgentId]>,
    #[serde(default, skip_serializing_if = "is_default")]
    progress: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    notes: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    has_result: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    refusal_told: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    usage: Arc<[ModelUsage]>,
    ready_since: i64,
    updated_at: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    fanout: Option<(i64, bool)>,
}

pub(in crate::postgres) fn task_state(task: &Task) -> String {
    json(&TaskState {
        held: task.held,
        repo: task.repo.clone(),
        produces: encoding::produces(task.produces),
        locks: Arc::clone(&task.locks),
        estimated_tokens: task.estimated_tokens,
        timeout: task.timeout.map(Span::as_micros),
        not_before: micros(task.not_before),
        delayed_until: micros(task.delayed_until),
        max_retries: task.max_retries,
        retry_count: task.retry_count,
        attempt: task.attempt,
        dependencies: task.dependencies,
        unmet: task.unmet,
        failed_dependencies: task.failed_dependencies,
        dependents: task.dependents,
        claimed_at: micros(task.claimed_at),
        lease_expires_at: micros(task.lease_expires_at),
        deadline: micros(task.deadline),
        last_attempt: micros(task.last_attempt),
        failed_on: Arc::clone(&task.failed_on),
        progress: task.progress,
        notes: task.notes,
        has_result: task.has_result,
        refusal_told: task.refusal_told,
        usage: Arc::clone(&task.usage),
        ready_since: task.ready_since.as_micros(),
        updated_at: task.updated_at.as_micros(),
        fanout: task.fanout.map(|fanout| (fanout.after.0, fanout.cascade)),
    })
}

/// The columns of a task, in the order in which [`read_task`] takes them.
macro_rules! task_columns {
    () => {
        "task.key, task.id, task.class, task.priority, task.status, task.gate, task.claimed_by, task.project, task.state"
    };
}
pub(in crate::postgres) use task_columns;

/// The class that a row of a task names.
pub(in crate::postgres) fn class_of(row: &Row) -> Result<ClassId> {
    Ok(ClassId(column(row, 2)?))
}

pub(in crate::postgres) fn read_task(row: &Row, class: &Arc<Class>) -> Result<Arc<Task>> {
    let state: TaskState = sound("task.state", read_json(row.try_get(8)?))?;
    Ok(Arc::new(Task {
        key: TaskKey(column(row, 0)?),
        id: row.try_get::<_, &str>(1)?.into(),
        class: Arc::clone(class),
        priority: priority(column(row, 3)?)?,
        status: u8::try_from(column::<i16>(row, 4)?)
            .ok()
            .and_then(Status::from_code)
            .ok_or_else(|| Failure::Broken("task.status: an unknown status".into()))?,
        held: state.held,
        gate: sound("task.gate", encoding::read_gate(row.try_get(5)?))?,
        delayed_until: time(state.delayed_until),
        claimed_by: row.try_get::<_, Option<&str>>(6)?.map(AgentId::from),
        project: row.try_get::<_, Option<&str>>(7)?.map(ProjectName::from),
        repo: state.repo,
        produces: sound("task.state", encoding::read_produces(state.produces))?,
        locks: state.locks,
        estimated_tokens: state.estimated_tokens,
        timeout: state.timeout.map(Span::from_micros),
        not_before: time(state.not_before),
        max_retries: state.max_retries,
        retry_count: state.retry_count,
        attempt: state.attempt,
        dependencies: state.dependencies,
        unmet: state.unmet,
        failed_dependencies: state.failed_dependencies,
        dependents: state.dependents,
        claimed_at: time(state.claimed_at),
        lease_expires_at: time(state.lease_expires_at),
        deadline: time(state.deadline),
        last_attempt: time(state.last_attempt),
        failed_on: state.failed_on,
        progress: state.progress,
        notes: state.notes,
        has_result: state.has_result,
        refusal_told: state.refusal_told,
        usage: state.usage,
        ready_since: Timestamp::from_micros(state.ready_since),
        updated_at: Timestamp::from_micros(state.updated_at),
        fanout: state.fanout.map(|(after, cascade)| Fanout {
            after: TaskKey(after),
            cascade,
        }),
    }))
}

fn priority(rank: i16) -> Result<Priority> {
    u8::try_from(rank)
        .ok()
        .and_then(Priority::from_rank)
        .ok_or_else(|| Failure::Broken("an unknown priority".into()))
}

pub(in crate::postgres) const fn rank(priority: Priority) -> i16 {
    priority.rank() as i16
}

/// The place of a task's row in the order of dispatch.
pub(in crate::postgres) fn order_of(row: &Row) -> Result<DispatchOrder> {
    Ok(DispatchOrder {
        priority: priority(column(row, 3)?)?,
        key: TaskKey(column(row, 0)?),
    })
}

/// `priority, key` from the column `first` on.
pub(in crate::postgres) fn read_order(row: &Row, first: usize) -> Result<DispatchOrder> {
    Ok(DispatchOrder {
        priority: priority(column(row, first)?)?,
        key: TaskKey(column(row, first + 1)?),
    })
}

#[derive(Serialize, Deserialize)]
struct StoredBody {
    title: String,
    #[serde(default, skip_serializing_if = "is_default")]
    description: String,
    #[serde(default, skip_serializing_if = "is_default")]
    files: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    dependencies: Vec<TaskId>,
}

pub(in crate::postgres) fn body(body: &Body) -> String {
    json(&StoredBody {
        title: body.title.clone(),
        description: body.description.clone(),
        files: body.files.clone(),
        dependencies: body.dependencies.clone(),
    })
}

/// `doc, payload` from the column `first` on.
pub(in crate::postgres) fn read_body(row: &Row, first: usize) -> Result<Arc<Body>> {
    let stored: StoredBody = sound("body.doc", read_json(row.try_get(first)?))?;
    Ok(Arc::new(Body {
        title: stored.title,
        description: stored.description,
        payload: row.try_get::<_, Option<&str>>(first + 1)?.map(Into::into),
        files: stored.files,
        dependencies: stored.dependencies,
    }))
}

#[derive(Serialize, Deserialize)]
struct StoredEnding {
    result: Option<TaskResult>,
    fail_reason: Option<String>,
}

pub(in crate::postgres) fn ending(ending: &Ending) -> String {
    json(&StoredEnding {
        result: ending.result.clone(),
        fail_reason: ending.fail_reason.clone(),
    })
}

pub(in crate::postgres) fn read_ending(text: &str) -> Result<(Option<TaskResult>, Option<String>)> {
    let stored: StoredEnding = sound("ending.doc", read_json(text))?;
    Ok((stored.result, stored.fail_reason))
}

pub(in crate::postgres) fn note(note: &Note) -> String {
    json(&(note.at.as_micros(), &note.author, &note.text))
}

pub(in crate::postgres) fn read_note(text: &str) -> Result<Note> {
    let (at, author, text): (i64, Arc<str>, String) = sound("note.doc", read_json(text))?;
    Ok(Note {
        at: Timestamp::from_micros(at),
        author,
        text,
    })
}

pub(in crate::postgres) fn read_output(text: &str) -> Result<String> {
    sound("output.doc", read_json(text))
}
