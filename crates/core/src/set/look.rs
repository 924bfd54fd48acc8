//! Looking: rows that rules ask for. What is not there is noted as wanted.

use std::sync::Arc;

use super::rows::{Due, Replay, ReplayKey};
use super::{LAST_KEY, Need, WorkingSet};
use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey};
use crate::counter::Counter;
use crate::experience::{Experience, Kind};
use crate::ledger::Account;
use crate::limit::{Policy, Scope};
use crate::name::{AgentId, LockName, TaskId};
use crate::task::{Class, ClassId, Demand, DependencyState, Task, TaskKey};
use crate::time::Timestamp;
use crate::webhook::{Delivery, DeliveryKey, Webhook};

impl WorkingSet {
    /// The key of the task with this id, if there is one.
    pub fn find_task(&mut self, id: &TaskId) -> Need<Option<TaskKey>> {
        match self.ids.get(id) {
            Some(key) => Ok(*key),
            None => Err(self.want(|wanted| {
                wanted.task_ids.insert(id.clone());
            })),
        }
    }

    /// The task with this key.
    pub fn task(&mut self, key: TaskKey) -> Need<Arc<Task>> {
        match self.tasks.get(&key) {
            Some(Some(task)) => Ok(Arc::clone(task)),
            Some(None) => unreachable!("a task that rows refer to exists"),
            None => Err(self.want(|wanted| {
                wanted.tasks.insert(key);
            })),
        }
    }

    /// The attempt, if it exists.
    pub fn attempt(&mut self, key: AttemptKey) -> Need<Option<Arc<Attempt>>> {
        match self.attempts.get(&key) {
            Some(attempt) => Ok(attempt.cloned()),
            None => Err(self.want(|wanted| {
                wanted.attempts.insert(key);
            })),
        }
    }

    /// The ledger lines of an attempt.
    pub fn account(&mut self, key: AttemptKey) -> Need<Arc<Account>> {
        match self.accounts.get(&key) {
            Some(Some(account)) => Ok(Arc::clone(account)),
            Some(None) => Ok(Arc::new(Account::new(key))),
            None => Err(self.want(|wanted| {
                wanted.accounts.insert(key);
            })),
        }
    }

    /// The agent, if it is registered.
    pub fn agent(&mut self, id: &AgentId) -> Need<Option<Arc<Agent>>> {
        match self.agents.get(id) {
            Some(agent) => Ok(agent.cloned()),
            None if self.complete => Ok(None),
            None => Err(self.want(|wanted| {
                wanted.agents.insert(id.clone());
            })),
        }
    }

    /// All agents, in no order, for answers only.
    pub fn all_agents(&mut self) -> Need<Vec<Arc<Agent>>> {
        if self.complete {
            return Ok(self.agents.rows().map(|(_, agent)| Arc::clone(agent)).collect());
        }
        self.need_everyone()?;
        Ok(self
            .onlookers
            .values()
            .map(|onlooker| Arc::clone(&onlooker.agent))
            .collect())
    }

    /// An agent as it is, for answers only: where servers share a store it is not locked.
    pub fn glance(&mut self, id: &AgentId) -> Need<Option<Arc<Agent>>> {
        if self.complete || self.agents.get(id).is_some() {
            return self.agent(id);
        }
        self.need_everyone()?;
        Ok(self.onlookers.get(id).map(|onlooker| Arc::clone(&onlooker.agent)))
    }

    pub(super) fn need_everyone(&mut self) -> Need<()> {
        if self.everyone {
            return Ok(());
        }
        Err(self.want(|wanted| wanted.everyone = true))
    }

    /// What is set for a scope.
    pub fn policy(&mut self, scope: &Scope) -> Need<Arc<Policy>> {
        match self.policies.get(scope) {
            Some(Some(policy)) => Ok(Arc::clone(policy)),
            None if !self.complete => Err(self.want(|wanted| {
                wanted.scopes.insert(scope.clone());
            })),
            _ => Ok(match scope {
                Scope::Agent(_) => Arc::clone(&self.settings.default_allowance),
                Scope::Fleet | Scope::Project(_) | Scope::Repo(_) | Scope::Model(_) => Arc::default(),
            }),
        }
    }

    /// What is used of a scope.
    pub fn counter(&mut self, scope: &Scope) -> Need<Arc<Counter>> {
        match self.counters.get(scope) {
            Some(Some(counter)) => Ok(Arc::clone(counter)),
            None if !self.complete => Err(self.want(|wanted| {
                wanted.scopes.insert(scope.clone());
            })),
            _ => Ok(Arc::new(Counter::new(scope.clone()))),
        }
    }

    /// The attempt that holds a lock, if one does.
    pub fn lock_holder(&mut self, lock: &LockName) -> Need<Option<AttemptKey>> {
        match self.locks.get(lock) {
            Some(holder) => Ok(holder.map(|holder| **holder)),
            None if self.complete => Ok(None),
            None => Err(self.want(|wanted| {
                wanted.locks.insert(lock.clone());
            })),
        }
    }

    /// What attempts of a kind used.
    pub fn experience(&mut self, kind: &Kind) -> Need<Arc<Experience>> {
        match self.experiences.get(kind) {
            Some(experience) => Ok(experience.cloned().unwrap_or_default()),
            None if self.complete => Ok(Arc::default()),
            None => Err(self.want(|wanted| {
                wanted.experiences.insert(kind.clone());
            })),
        }
    }

    /// The class of a demand; the store makes it when it is new.
    pub fn class(&mut self, demand: &Demand) -> Need<Arc<Class>> {
        match self.class_ids.get(demand).and_then(|id| self.classes.get(id)) {
            Some(class) => Ok(Arc::clone(class)),
            None => Err(self.want(|wanted| {
                if !wanted.demands.contains(demand) {
                    wanted.demands.push(demand.clone());
                }
            })),
        }
    }

    /// The class with this number.
    pub fn class_by_id(&mut self, id: ClassId) -> Need<Arc<Class>> {
        match self.classes.get(&id) {
            Some(class) => Ok(Arc::clone(class)),
            None => Err(self.want(|wanted| {
                wanted.classes.insert(id);
            })),
        }
    }

    /// What was done under an idempotency key.
    pub fn replay(&mut self, key: &ReplayKey) -> Need<Option<Arc<Replay>>> {
        match self.idempotency.get(key) {
            Some(replay) => Ok(replay.cloned()),
            None => Err(self.want(|wanted| {
                wanted.idempotency.insert(key.clone());
            })),
        }
    }

    /// The account of a job that was dispatched elsewhere.
    pub fn job(&mut self, id: &TaskId) -> Need<Option<AttemptKey>> {
        match self.jobs.get(id) {
            Some(key) => Ok(key.map(|key| **key)),
            None => Err(self.want(|wanted| {
                wanted.jobs.insert(id.clone());
            })),
        }
    }

    /// The webhook with this name.
    pub fn webhook(&mut self, name: &Arc<str>) -> Need<Option<Arc<Webhook>>> {
        match self.webhooks.get(name) {
            Some(webhook) => Ok(webhook.cloned()),
            None => Err(self.want(|wanted| {
                wanted.webhooks.insert(Arc::clone(name));
            })),
        }
    }

    /// These deliveries of webhooks that are locked, in the order given.
    pub fn deliveries(&mut self, keys: &[DeliveryKey]) -> Need<Vec<Option<Arc<Delivery>>>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.deliveries.get(key) {
                Some(delivery) => found.push(delivery.cloned()),
                // What is stored is of the one before it.
                None if self.is_new_webhook(&key.webhook) => found.push(None),
                None => missing.push(key.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        Err(self.want(|wanted| wanted.deliveries.extend(missing)))
    }

    /// Whether the webhook of this name is none that is stored: it was added in this turn, maybe in the place of another.
    fn is_new_webhook(&self, name: &Arc<str>) -> bool {
        let added = |webhook: Option<Arc<Webhook>>| webhook.map(|webhook| webhook.created_at);
        self.webhooks
            .changes()
            .any(|change| change.key == *name && added(change.before) != added(change.now))
    }

    /// Up to `limit` dependents of a task behind `after`, with how it stands for each.
    pub fn dependents(
        &mut self,
        of: TaskKey,
        after: TaskKey,
        limit: usize,
    ) -> Need<Vec<(TaskKey, DependencyState)>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let list = self.edge_lists.entry(of).or_default();
        // Nothing is known of what lies before the first page.
        let known = list.upto.filter(|_| after >= list.from).unwrap_or(TaskKey(0));
        let found: Vec<TaskKey> = list
            .dependents
            .range((Excluded(after), Unbounded))
            .take(limit)
            .copied()
            .collect();
        let covered =
            known == LAST_KEY || (found.len() == limit && found.last().is_some_and(|last| *last <= known));
        if !covered {
            let from = known.max(after);
            return Err(self.want(|wanted| {
                // Two who ask in one turn are both served from the earlier place.
                wanted
                    .dependents
                    .entry(of)
                    .and_modify(|other| *other = from.min(*other))
                    .or_insert(from);
            }));
        }
        Ok(found
            .into_iter()
            .filter_map(|dependent| {
                let state = self.edges.get(&(of, dependent))??;
                Some((dependent, **state))
            })
            .collect())
    }

    /// What time has brought by now, as the store knows it.
    pub fn due(&mut self, now: Timestamp) -> Need<Due> {
        match &self.due {
            // Where servers share a store time goes on while a turn waits for locks; its set has only this turn.
            Some((until, due)) if *until >= now || !self.complete => Ok(due.clone()),
            _ => {
                let silent_since = now - self.settings.agent_ttl;
                Err(self.want(|wanted| {
                    wanted.due = Some(now);
                    wanted.silent_since = Some(silent_since);
                }))
            }
        }
    }

    /// Makes sure that all queues are known in which something waits.
    pub fn need_queues(&mut self) -> Need<()> {
        if self.complete || self.all_queues {
            return Ok(());
        }
        Err(self.want(|wanted| wanted.queues = true))
    }

    /// Makes sure that all agents are known that have room and are not locked by another server.
    pub fn need_roomy(&mut self) -> Need<()> {
        if self.complete || self.roomy {
            return Ok(());
        }
        Err(self.want(|wanted| wanted.roomy = true))
    }
}
