//! Tasks as they go out.

use std::sync::Arc;

use adjutant_core::attempt::{ModelUsage, Tokens};
use adjutant_core::command::{TaskView, Waiting};
use adjutant_core::money::Money;
use adjutant_core::task::{Body, Task, TaskResult};
use adjutant_store::Details;
use adjutant_wire as wire;

use super::{raw_json, texts};

/// A task of which all that there is to tell came along with it.
pub(crate) fn brief(view: &TaskView) -> wire::Task {
    let body = view.body.as_ref().map(Arc::clone).unwrap_or_default();
    let ending = view.ending.as_ref();
    let details = Details {
        body,
        result: ending.and_then(|ending| ending.result.clone()),
        fail_reason: ending.and_then(|ending| ending.fail_reason.clone()),
        ..Details::default()
    };
    full(view, details)
}

/// A task with its details.
pub(crate) fn full(view: &TaskView, details: Details) -> wire::Task {
    let task = &*view.task;
    let body = Arc::unwrap_or_clone(details.body);
    let Body {
        title,
        description,
        payload,
        files,
        dependencies,
    } = body;
    wire::Task {
        id: task.id.to_string(),
        title,
        description,
        priority: task.priority,
        status: task.status,
        labels: texts(&task.class.demand.labels),
        prefers: texts(&task.class.demand.prefers),
        model: task.class.demand.model.as_ref().map(ToString::to_string),
        project: task.project.as_ref().map(ToString::to_string),
        repo: task.repo.as_ref().map(ToString::to_string),
        produces: task.produces,
        files,
        locks: texts(&task.locks),
        payload: raw_json(payload.as_deref()),
        dependencies: texts(&dependencies),
        blockers: texts(&details.blockers),
        blockers_count: details.blockers_count,
        estimated_tokens: task.estimated_tokens,
        timeout: task.timeout,
        not_before: task.not_before,
        max_retries: task.max_retries,
        retry_count: task.retry_count,
        last_attempt: task.last_attempt,
        fail_reason: details.fail_reason,
        attempt: task.attempt,
        claimed_by: task.claimed_by.as_ref().map(ToString::to_string),
        claimed_at: task.claimed_at,
        lease_expires_at: view.lease_expires_at,
        progress: task.progress,
        notes: details.notes.into_iter().map(note).collect(),
        result: details.result.map(result),
        usage: task_use(task),
        waiting: view.waiting.as_ref().map(waiting),
        created_at: task.created_at(),
        updated_at: task.updated_at,
    }
}

fn note(note: adjutant_core::task::Note) -> wire::Note {
    wire::Note {
        at: note.at,
        author: note.author.to_string(),
        text: note.text,
    }
}

fn result(result: TaskResult) -> wire::TaskResult {
    wire::TaskResult {
        success: result.success,
        output: result.output,
        artifacts: result.artifacts,
        error_message: result.error_message,
    }
}

fn task_use(task: &Task) -> wire::TaskUse {
    let tokens = task
        .usage
        .iter()
        .fold(Tokens::default(), |sum, entry| sum.plus(entry.tokens));
    let cost: Money = task.usage.iter().map(|entry| entry.cost).sum();
    wire::TaskUse {
        tokens_in: tokens.tokens_in,
        tokens_out: tokens.tokens_out,
        tokens_cached: tokens.tokens_cached,
        cost,
        models: task.usage.iter().map(model_use).collect(),
    }
}

fn model_use(usage: &ModelUsage) -> wire::ModelUse {
    wire::ModelUse {
        model: usage.model.as_ref().map(ToString::to_string),
        tokens: usage.tokens,
        cost: usage.cost,
    }
}

/// Why a task waits.
pub(crate) fn waiting(waiting: &Waiting) -> wire::Waiting {
    wire::Waiting {
        reason: waiting.reason.name().to_owned(),
        detail: waiting.detail.clone(),
        since: waiting.since,
    }
}
