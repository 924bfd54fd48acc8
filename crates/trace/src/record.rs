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
    /// An attempt ended; with the name of its agent.
    Ended(Arc<Attempt>, Option<Arc<Task>>, Option<Arc<str>>),
    /// An attempt that had ended as lost or timed out succeeded nevertheless.
    SucceededLate(Arc<Attempt>, Option<Arc<Task>>),
    /// A task ended, and no attempt with it.
    Closed(Arc<Task>),
}

/// The most agents whose names are remembered; past that all are forgotten, and learned again as they change.
const MAX_NAMES: usize = 100_000;

/// Names of agents for people: the row of an agent is not part of every turn in which an attempt of it ends.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<AgentId, Arc<str>>);

impl Names {
    /// Learns the name of an agent. One that has none goes by its id.
    pub(crate) fn learn(&mut self, agent: &Agent) {
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        if !agent.name.is_empty() {
            self.0.insert(agent.id.clone(), agent.name.as_str().into());
        }
    }

    /// Learns the names that a turn changed.
    pub(crate) fn follow(&mut self, changes: &Changes) {
        for agent in changes.agents.iter().filter_map(|change| change.now.as_ref()) {
            if self.0.get(&agent.id).is_none_or(|name| **name != *agent.name) {
                self.0.remove(&agent.id);
                self.learn(agent);
            }
        }
    }

    /// Forgets the agents that are gone with a turn.
    pub(crate) fn forget(&mut self, changes: &Changes) {
        for change in changes.agents.iter().filter(|change| change.now.is_none()) {
            self.0.remove(&change.key);
        }
    }

    fn of(&self, agent: &AgentId) -> Option<Arc<str>> {
        self.0.get(agent).cloned()
    }
}

/// What a turn changed, in the order in which it is told.
pub(crate) fn of(changes: &Changes, names: &Names, at: Timestamp) -> Vec<Record> {
    let mut records = Vec::new();
    let mut note = |what| records.push(Record { what, at });
    for change in &changes.tasks {
        if let (None, Some(task)) = (&change.before, &change.now) {
            note(What::Submitted(Arc::clone(task)));
        }
    }
    let mut tasks: HashMap<TaskKey, &Arc<Task>> = HashMap::new();
    if !changes.attempts.is_empty() {
        tasks.extend(
            changes
                .tasks
                .iter()
                .filter_map(|change| Some((change.key, change.now.as_ref()?))),
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
                let name = names.of(&now.agent);
                note(What::Ended(Arc::clone(now), task(), name));
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
