//! Records: what of a turn is worth a span. Only pointers to rows are taken, because the next turn waits meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::Attempt;
use adjutant_core::name::AgentId;
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{Task, TaskKey};
use adjutant_core::time::Timestamp;

/// Something that became durable.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) what: What,
    /// When it was durable.
    pub(crate) at: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A task was accepted.
    Submitted(Arc<Task>),
    /// An attempt started; the task as it is then.
    Started(Arc<Attempt>, Option<Arc<Task>>),
    /// An attempt ended.
    Ended(Arc<Attempt>, Option<Arc<Task>>, Option<Arc<Agent>>),
    /// An attempt that had ended as lost or timed out succeeded nevertheless.
    SucceededLate(Arc<Attempt>, Option<Arc<Task>>),
    /// A task ended, and no attempt with it.
    Closed(Arc<Task>),
}

/// What a turn changed, in the order in which it is told.
pub(crate) fn of(changes: &Changes, at: Timestamp) -> Vec<Record> {
    let mut records = Vec::new();
    let mut note = |what| records.push(Record { what, at });
    for change in &changes.tasks {
        if let (None, Some(task)) = (&change.before, &change.now) {
            note(What::Submitted(Arc::clone(task)));
        }
    }
    let mut tasks: HashMap<TaskKey, &Arc<Task>> = HashMap::new();
    // The load of an agent changes with the end of an attempt, so that its row is part of the same turn.
    let mut agents: HashMap<&AgentId, &Arc<Agent>> = HashMap::new();
    if !changes.attempts.is_empty() {
        tasks.extend(
            changes
                .tasks
                .iter()
                .filter_map(|change| Some((change.key, change.now.as_ref()?))),
        );
        agents.extend(
            changes
                .agents
                .iter()
                .filter_map(|change| Some((&change.key, change.now.as_ref().or(change.before.as_ref())?))),
        );
    }
    let mut settled: Vec<TaskKey> = Vec::new();
    for change in &changes.attempts {
        let Some(now) = change.now.as_ref().filter(|attempt| !attempt.external) else {
            continue;
        };
        let task = || tasks.get(&change.key.task).map(|task| Arc::clone(task));
        if change.before.is_none() {
            note(What::Started(Arc::clone(now), task()));
        }
        let before = change.before.as_deref().and_then(Attempt::outcome);
        match (before, now.outcome()) {
            (None, Some(_)) => {
                settled.push(change.key.task);
                let agent = agents.get(&now.agent).map(|agent| Arc::clone(agent));
                note(What::Ended(Arc::clone(now), task(), agent));
            }
            (Some(before), Some(outcome)) if before != outcome => {
                settled.push(change.key.task);
                note(What::SucceededLate(Arc::clone(now), task()));
            }
            _ => {}
        }
    }
    for change in &changes.tasks {
        let Some(now) = change.now.as_ref().filter(|task| task.status.is_terminal()) else {
            continue;
        };
        let was_over = change
            .before
            .as_ref()
            .is_some_and(|task| task.status.is_terminal());
        if !was_over && !settled.contains(&change.key) {
            note(What::Closed(Arc::clone(now)));
        }
    }
    records
}
