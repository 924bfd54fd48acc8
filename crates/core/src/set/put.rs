//! Putting: what rules change.

use std::collections::HashSet;
use std::sync::Arc;

use super::rows::{Ending, NewEvent, Replay, ReplayKey, Value};
use super::{EdgeList, LAST_KEY, Need, WorkingSet};
use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey};
use crate::command::AccessToken;
use crate::counter::Counter;
use crate::event::EventKind;
use crate::experience::{Experience, Kind};
use crate::ledger::Account;
use crate::limit::{Ask, Policy, Scope};
use crate::name::{AgentId, LockName, TaskId};
use crate::task::{Body, Class, DependencyState, Note, Task, TaskKey};
use crate::time::{Span, Timestamp};
use crate::webhook::{Delivery, DeliveryKey, Webhook};

impl WorkingSet {
    /// A key for what arrives now: later than all before it.
    pub(crate) fn next_key(&mut self, now: Timestamp) -> TaskKey {
        let mut key = TaskKey::new(now, self.lane);
        if key <= self.newest {
            key = TaskKey::new(self.newest.created_at() + Span::from_micros(1), self.lane);
        }
        self.newest = key;
        key
    }

    pub(crate) fn add_task(&mut self, task: Task, body: Arc<Body>) -> Arc<Task> {
        self.bodies.push((task.key, body));
        self.ids.insert(task.id.clone(), Some(task.key));
        self.recent_ids.push(task.id.clone());
        self.edge_lists.insert(
            task.key,
            EdgeList {
                upto: Some(LAST_KEY),
                ..EdgeList::default()
            },
        );
        self.put_task(task)
    }

    pub(crate) fn put_task(&mut self, task: Task) -> Arc<Task> {
        if let Some(at) = task.wakes_at() {
            self.next_task_wake = self.next_task_wake.min(at);
        }
        let task = Arc::new(task);
        let old = self.tasks.get(&task.key).flatten().cloned();
        self.queues.replace(old.as_deref(), Some(&task));
        self.tasks.put(task.key, Some(Arc::clone(&task)));
        task
    }

    pub(crate) fn put_attempt(&mut self, attempt: Attempt) -> Arc<Attempt> {
        let attempt = Arc::new(attempt);
        self.attempts.put(attempt.key, Some(Arc::clone(&attempt)));
        attempt
    }

    /// An attempt that starts now has no ledger lines yet.
    pub(crate) fn open_account(&mut self, key: AttemptKey) {
        self.accounts.absorb(key, None);
    }

    /// Notes what an agent is told to stop that is not its own; gives what it was told before.
    pub(crate) fn tell_strange(
        &mut self,
        agent: &AgentId,
        told: Option<Vec<(TaskId, u32)>>,
    ) -> Option<Vec<(TaskId, u32)>> {
        let before = match told {
            Some(told) => self.told_strange.insert(agent.clone(), told),
            None => self.told_strange.remove(agent),
        };
        self.told_before.push((agent.clone(), before.clone()));
        before
    }

    /// Remembers where the turn began.
    pub(crate) fn begin_turn(&mut self) {
        self.wake_before_turn = self.next_task_wake;
        self.newest_before_turn = self.newest;
        self.last_now_before_turn = self.last_now;
        self.locks_swept_before_turn = self.locks_swept;
    }

    pub(crate) fn put_account(&mut self, account: Account) {
        self.accounts.put(account.attempt, Some(Arc::new(account)));
    }

    pub(crate) fn put_agent(&mut self, agent: Agent) -> Arc<Agent> {
        let agent = Arc::new(agent);
        // Most calls of an agent only say that it is there: the index need not hear of them.
        let known = self.agents.get(&agent.id).flatten();
        if !known.is_some_and(|known| known.routes_like(&agent)) {
            self.stale_agents.insert(agent.id.clone());
        }
        self.agents.put(agent.id.clone(), Some(Arc::clone(&agent)));
        agent
    }

    pub(crate) fn remove_agent(&mut self, id: &AgentId) {
        self.stale_agents.insert(id.clone());
        self.agents.put(id.clone(), None);
    }

    pub(crate) fn put_policy(&mut self, scope: Scope, policy: Policy) {
        self.note_scope(&scope);
        self.policies.put(scope, Some(Arc::new(policy)));
    }

    pub(crate) fn put_counter(&mut self, counter: Counter) {
        self.note_scope(&counter.scope);
        self.counters.put(counter.scope.clone(), Some(Arc::new(counter)));
    }

    pub(crate) fn put_lock(&mut self, lock: &LockName, holder: Option<AttemptKey>) {
        self.locks.put(lock.clone(), holder.map(Arc::new));
    }

    pub(crate) fn put_experience(&mut self, kind: Kind, experience: Experience) {
        self.experiences.put(kind, Some(Arc::new(experience)));
    }

    pub(crate) fn put_edge(&mut self, of: TaskKey, dependent: TaskKey, state: DependencyState) {
        self.edge_lists
            .entry(of)
            .or_default()
            .dependents
            .insert(dependent);
        self.edges.put((of, dependent), Some(Arc::new(state)));
    }

    pub(crate) fn put_replay(&mut self, key: ReplayKey, replay: Replay) {
        self.idempotency.put(key, Some(Arc::new(replay)));
    }

    pub(crate) fn put_job(&mut self, id: TaskId, key: AttemptKey) {
        self.jobs.put(id, Some(Arc::new(key)));
    }

    pub(crate) fn put_webhook(&mut self, name: Arc<str>, webhook: Option<Webhook>) {
        self.webhooks.put(name, webhook.map(Arc::new));
    }

    /// Removes a webhook, with its deliveries: those that are known here, and by the store those that are not.
    pub(crate) fn remove_webhook(&mut self, name: &Arc<str>) {
        let of_it: Vec<DeliveryKey> = self
            .deliveries
            .rows()
            .map(|(key, _)| key)
            .filter(|key| key.webhook == *name)
            .cloned()
            .collect();
        for key in of_it {
            self.deliveries.put(key, None);
        }
        self.webhooks.put(Arc::clone(name), None);
    }

    pub(crate) fn put_delivery(&mut self, key: DeliveryKey, delivery: Option<Delivery>) {
        self.deliveries.put(key, delivery.map(Arc::new));
    }

    /// Looks at a repository again when it has cooled down.
    pub(crate) fn next_cooldown(&mut self, until: Timestamp, scope: Scope) {
        self.cooldowns.insert((until, scope));
    }

    /// Looks at tasks again at `at`, or earlier if that is asked for already.
    pub(crate) fn wake_task_at(&mut self, at: Timestamp) {
        self.next_task_wake = self.next_task_wake.min(at);
    }

    /// Looks at an attempt again when its lease, or its slot, ends by itself.
    pub(crate) fn linger(&mut self, until: Timestamp, attempt: AttemptKey) {
        self.lingering.insert((until, attempt));
    }

    pub(crate) fn put_token(&mut self, name: Arc<str>, token: Option<AccessToken>) {
        self.tokens.push((name, token));
    }

    pub(crate) fn put_ending(&mut self, ending: Ending) {
        self.endings.push(ending);
    }

    pub(crate) fn add_note(&mut self, task: TaskKey, note: Note) {
        self.notes.push((task, note));
    }

    pub(crate) fn add_output(&mut self, task: TaskKey, text: Arc<str>) {
        self.outputs.push((task, text));
    }

    pub(crate) fn emit(
        &mut self,
        kind: EventKind,
        task: Option<&Task>,
        agent: Option<&AgentId>,
        at: Timestamp,
        payload: Vec<(&'static str, Value)>,
    ) {
        let task = task.map(|task| (task.key, task.id.clone()));
        self.events.push(NewEvent {
            kind,
            task,
            agent: agent.cloned(),
            at,
            payload,
        });
    }

    /// The earliest time at which a task that this turn changed wakes.
    pub(crate) fn changed_wake(&self) -> Timestamp {
        let wakes = self.tasks.changes().filter_map(|change| change.now?.wakes_at());
        wakes.min().unwrap_or(Timestamp::NEVER)
    }

    /// Live attempts of an agent that was not registered when they started.
    pub(crate) fn claims_of(&mut self, id: &AgentId) -> Need<Vec<Arc<Attempt>>> {
        if !self.complete && !self.claimants.contains(id) {
            return Err(self.want(|wanted| {
                wanted.claims.insert(id.clone());
            }));
        }
        let claim = |attempt: &&Arc<Attempt>| {
            attempt.agent == *id && attempt.is_live() && !attempt.registered && !attempt.external
        };
        Ok(self
            .attempts
            .rows()
            .map(|(_, attempt)| attempt)
            .filter(claim)
            .cloned()
            .collect())
    }

    /// How the last attempt of a task went that ended in this turn.
    pub(crate) fn ending(&self, key: TaskKey) -> Option<Ending> {
        self.endings
            .iter()
            .rev()
            .find(|ending| ending.task == key)
            .cloned()
    }

    /// Bodies of tasks that were made in this turn.
    pub(crate) fn body(&self, key: TaskKey) -> Option<Arc<Body>> {
        self.bodies
            .iter()
            .rev()
            .find(|(own, _)| *own == key)
            .map(|(_, body)| Arc::clone(body))
    }

    /// The best agent for a task among those whose own limits permit what it asks for.
    pub(crate) fn route(
        &mut self,
        class: &Class,
        ask: crate::router::Ask<'_>,
        needs: Ask,
        refused: &HashSet<AgentId>,
        now: Timestamp,
    ) -> Need<Option<AgentId>> {
        self.fleet(now)?.prepare(class);
        let Self {
            fleet,
            policies,
            counters,
            settings,
            candidates,
            ..
        } = self;
        let modest = needs == Ask::default();
        let mut admits = |id: &AgentId| {
            if refused.contains(id) {
                return false;
            }
            if modest {
                return true;
            }
            let scope = Scope::Agent(id.clone());
            let (policy, counter) = candidates.get(id).map_or_else(
                || (policies.get(&scope).flatten(), counters.get(&scope).flatten()),
                |onlooker| (onlooker.policy.as_ref(), onlooker.counter.as_ref()),
            );
            let policy = policy.unwrap_or(&settings.default_allowance);
            policy.limits.is_empty()
                || counter.is_none_or(|counter| policy.permits(&scope, counter, needs, now).is_ok())
        };
        Ok(fleet.route_class(class.id, ask, &mut admits))
    }
}
