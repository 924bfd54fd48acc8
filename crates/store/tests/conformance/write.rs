//! What a turn writes, put together row by row.

use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey};
use adjutant_core::command::AccessToken;
use adjutant_core::counter::Counter;
use adjutant_core::experience::{Experience, Kind};
use adjutant_core::ledger::Account;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::{AgentId, LockName, TaskId};
use adjutant_core::set::rows::{Changes, Ending, NewEvent, Replay, ReplayKey};
use adjutant_core::set::table::Change;
use adjutant_core::task::{Body, DependencyState, Note, Task, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, DeliveryKey, Webhook};

use crate::subject::Subject;

fn change<K, V: Clone>(key: K, before: Option<&V>, now: Option<&V>) -> Change<K, V> {
    Change {
        key,
        before: before.cloned().map(Arc::new),
        now: now.cloned().map(Arc::new),
    }
}

/// The changes of one turn, in the making.
#[derive(Default)]
pub(crate) struct Write(Changes);

/// A turn that has not written anything yet.
pub(crate) fn write() -> Write {
    Write::default()
}

impl Write {
    pub(crate) fn commit(self, store: &mut dyn Subject) -> u64 {
        store.commit(&self.0)
    }

    pub(crate) fn changes(self) -> Changes {
        self.0
    }

    /// A new task, with a body that says its id.
    pub(crate) fn task(self, task: &Task) -> Self {
        let body = Body {
            title: format!("the task {}", task.id),
            ..Body::default()
        };
        self.task_with(task, body)
    }

    pub(crate) fn tasks<'a>(self, tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        tasks.into_iter().fold(self, Self::task)
    }

    pub(crate) fn task_with(mut self, task: &Task, body: Body) -> Self {
        self.0.tasks.push(change(task.key, None, Some(task)));
        self.0.bodies.push((task.key, Arc::new(body)));
        self
    }

    pub(crate) fn changed_task(mut self, before: &Task, now: &Task) -> Self {
        self.0.tasks.push(change(now.key, Some(before), Some(now)));
        self
    }

    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.0.endings.push(ending);
        self
    }

    pub(crate) fn note(mut self, task: TaskKey, note: Note) -> Self {
        self.0.notes.push((task, note));
        self
    }

    pub(crate) fn output(mut self, task: TaskKey, text: &str) -> Self {
        self.0.outputs.push((task, text.into()));
        self
    }

    pub(crate) fn attempt(mut self, attempt: &Attempt) -> Self {
        self.0.attempts.push(change(attempt.key, None, Some(attempt)));
        self
    }

    pub(crate) fn changed_attempt(mut self, before: &Attempt, now: &Attempt) -> Self {
        self.0.attempts.push(change(now.key, Some(before), Some(now)));
        self
    }

    pub(crate) fn account(mut self, before: Option<&Account>, now: &Account) -> Self {
        self.0.accounts.push(change(now.attempt, before, Some(now)));
        self
    }

    pub(crate) fn agent(mut self, before: Option<&Agent>, now: &Agent) -> Self {
        self.0.agents.push(change(now.id.clone(), before, Some(now)));
        self
    }

    pub(crate) fn no_agent(mut self, before: &Agent) -> Self {
        self.0.agents.push(change(before.id.clone(), Some(before), None));
        self
    }

    pub(crate) fn policy(mut self, scope: &Scope, before: Option<&Policy>, now: &Policy) -> Self {
        self.0.policies.push(change(scope.clone(), before, Some(now)));
        self
    }

    pub(crate) fn counter(mut self, before: Option<&Counter>, now: &Counter) -> Self {
        self.0.counters.push(change(now.scope.clone(), before, Some(now)));
        self
    }

    pub(crate) fn experience(mut self, kind: &Kind, before: Option<&Experience>, now: &Experience) -> Self {
        self.0.experiences.push(change(kind.clone(), before, Some(now)));
        self
    }

    pub(crate) fn lock(mut self, name: &str, before: Option<AttemptKey>, now: Option<AttemptKey>) -> Self {
        let (before, now) = (before.as_ref(), now.as_ref());
        self.0.locks.push(change(LockName::from(name), before, now));
        self
    }

    /// How a dependency stands for one that depends on it.
    pub(crate) fn edge(
        mut self,
        (of, dependent): (TaskKey, TaskKey),
        before: Option<DependencyState>,
        now: DependencyState,
    ) -> Self {
        let key = (of, dependent);
        self.0.edges.push(change(key, before.as_ref(), Some(&now)));
        self
    }

    pub(crate) fn replay(mut self, key: ReplayKey, replay: Replay) -> Self {
        self.0.idempotency.push((key, replay));
        self
    }

    pub(crate) fn forget_before(mut self, before: Timestamp) -> Self {
        self.0.forget_before = Some(before);
        self
    }

    pub(crate) fn job(mut self, id: impl Into<TaskId>, key: AttemptKey) -> Self {
        self.0.jobs.push((id.into(), key));
        self
    }

    pub(crate) fn token(mut self, token: &AccessToken) -> Self {
        self.0.tokens.push((Arc::clone(&token.name), Some(token.clone())));
        self
    }

    pub(crate) fn no_token(mut self, name: &str) -> Self {
        self.0.tokens.push((name.into(), None));
        self
    }

    pub(crate) fn webhook(mut self, before: Option<&Webhook>, now: Option<&Webhook>) -> Self {
        let name = now.or(before).map(|webhook| Arc::clone(&webhook.name));
        let name = name.expect("a webhook is there before or after");
        self.0.webhooks.push(change(name, before, now));
        self
    }

    pub(crate) fn delivery(
        mut self,
        key: &DeliveryKey,
        before: Option<&Delivery>,
        now: Option<&Delivery>,
    ) -> Self {
        self.0.deliveries.push(change(key.clone(), before, now));
        self
    }

    pub(crate) fn event(mut self, event: NewEvent) -> Self {
        self.0.events.push(event);
        self
    }
}

/// The id of an agent.
pub(crate) fn agent_id(name: &str) -> AgentId {
    name.into()
}
