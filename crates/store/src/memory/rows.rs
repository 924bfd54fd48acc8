//! The rows, and what a turn is given of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey};
use adjutant_core::command::AccessToken;
use adjutant_core::counter::Counter;
use adjutant_core::event::Event;
use adjutant_core::experience::{Experience, Kind};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::{AgentId, LockName, TaskId};
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::{
    Changes, Dependents, Due, Ending, MAX_DUE, MAX_FANOUT, Onlooker, Replay, ReplayKey, Rows, Wanted,
};
use adjutant_core::task::{
    Body, Class, ClassId, Demand, DependencyState, DispatchOrder, Gate, Note, Queue, Task, TaskKey,
};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, DeliveryKey, Webhook};

use super::{Held, Server, Shared};
use crate::{MAX_FORGOTTEN, MAX_OUTPUT_BYTES, StoreError};

/// Everything that is committed.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) tasks: BTreeMap<TaskKey, Arc<Task>>,
    pub(super) ids: BTreeMap<TaskId, TaskKey>,
    pub(super) bodies: BTreeMap<TaskKey, Arc<Body>>,
    pub(super) endings: BTreeMap<TaskKey, Ending>,
    pub(super) notes: BTreeMap<TaskKey, Vec<Note>>,
    pub(super) outputs: BTreeMap<TaskKey, String>,
    pub(super) attempts: BTreeMap<AttemptKey, Arc<Attempt>>,
    pub(super) accounts: BTreeMap<AttemptKey, Arc<Account>>,
    pub(super) agents: BTreeMap<AgentId, Arc<Agent>>,
    pub(super) policies: BTreeMap<Scope, Arc<Policy>>,
    pub(super) counters: BTreeMap<Scope, Arc<Counter>>,
    pub(super) experiences: BTreeMap<Kind, Arc<Experience>>,
    pub(super) locks: BTreeMap<LockName, AttemptKey>,
    pub(super) edges: BTreeMap<(TaskKey, TaskKey), DependencyState>,
    pub(super) replays: BTreeMap<ReplayKey, Replay>,
    pub(super) jobs: BTreeMap<TaskId, AttemptKey>,
    pub(super) tokens: BTreeMap<Arc<str>, AccessToken>,
    pub(super) webhooks: BTreeMap<Arc<str>, Arc<Webhook>>,
    pub(super) deliveries: BTreeMap<DeliveryKey, Arc<Delivery>>,
    pub(super) events: Vec<Event>,
    pub(super) archive: BTreeMap<(Scope, u32), Line>,
    classes: Vec<Arc<Class>>,
}

impl World {
    fn class(&mut self, demand: &Demand) -> Arc<Class> {
        if let Some(class) = self.classes.iter().find(|class| class.demand == *demand) {
            return Arc::clone(class);
        }
        let id = i64::try_from(self.classes.len()).unwrap_or(i64::MAX);
        let class = Arc::new(Class {
            id: ClassId(id + 1),
            demand: demand.clone(),
        });
        self.classes.push(Arc::clone(&class));
        class
    }

    fn newest(&self) -> TaskKey {
        let task = self.tasks.keys().next_back().copied().unwrap_or(TaskKey(0));
        let job = self
            .attempts
            .keys()
            .next_back()
            .map_or(TaskKey(0), |key| key.task);
        task.max(job)
    }

    fn queues(&self) -> Vec<(Queue, u64)> {
        let mut queues: BTreeMap<Queue, u64> = BTreeMap::new();
        for queue in self.tasks.values().filter_map(|task| task.queue()) {
            *queues.entry(queue).or_default() += 1;
        }
        queues.into_iter().collect()
    }

    fn wanters(&self, lock: &LockName) -> Vec<DispatchOrder> {
        let mut orders: Vec<DispatchOrder> = self
            .tasks
            .values()
            .filter(|task| {
                matches!(
                    task.queue(),
                    Some(Queue {
                        gate: Some(Gate::Lock(_)),
                        ..
                    })
                )
            })
            .filter(|task| task.locks.contains(lock))
            .map(|task| task.order())
            .collect();
        orders.sort();
        orders
    }

    /// Agents as a store of one server keeps them: their attempts are read from the attempts, and what is not stored
    /// by a store on disk does not survive here either.
    pub(super) fn agents_from_attempts(&self) -> Vec<Arc<Agent>> {
        let mut attempts: BTreeMap<&AgentId, Vec<AttemptKey>> = BTreeMap::new();
        for attempt in self
            .attempts
            .values()
            .filter(|attempt| attempt.occupies && attempt.registered)
        {
            attempts.entry(&attempt.agent).or_default().push(attempt.key);
        }
        self.agents
            .values()
            .map(|agent| {
                let attempts = attempts.remove(&agent.id).unwrap_or_default();
                Arc::new(Agent {
                    mute: false,
                    last_n: None,
                    attempts,
                    ..(**agent).clone()
                })
            })
            .collect()
    }

    pub(super) fn census(&self) -> Rows {
        let open = |attempt: &&Arc<Attempt>| attempt.is_live() || attempt.occupies;
        let attempts: Vec<Arc<Attempt>> = self.attempts.values().filter(open).cloned().collect();
        let live = attempts.iter().filter(|attempt| attempt.is_live());
        let mut wants: BTreeMap<LockName, u64> = BTreeMap::new();
        for task in self.tasks.values() {
            if matches!(
                task.queue(),
                Some(Queue {
                    gate: Some(Gate::Lock(_)),
                    ..
                })
            ) {
                for lock in task.locks.iter() {
                    *wants.entry(lock.clone()).or_default() += 1;
                }
            }
        }
        Rows {
            tasks: live
                .clone()
                .filter_map(|attempt| self.tasks.get(&attempt.key.task).cloned())
                .collect(),
            accounts: live
                .filter_map(|attempt| self.accounts.get(&attempt.key).cloned())
                .collect(),
            attempts,
            agents: self.agents_from_attempts(),
            policies: self
                .policies
                .iter()
                .map(|(scope, policy)| (scope.clone(), Arc::clone(policy)))
                .collect(),
            counters: self.counters.values().cloned().collect(),
            experiences: self
                .experiences
                .iter()
                .map(|(kind, experience)| (kind.clone(), Arc::clone(experience)))
                .collect(),
            locks: self
                .locks
                .iter()
                .map(|(name, holder)| (name.clone(), *holder))
                .collect(),
            wants: wants.into_iter().collect(),
            classes: self.classes.clone(),
            queues: self.queues(),
            newest: Some(self.newest()),
            latest: self.events.last().map(|event| event.at),
            ..Rows::default()
        }
    }

    /// Writes the changes of a turn; gives the number of the last event.
    pub(super) fn apply(&mut self, changes: &Changes, alone: bool) -> u64 {
        for change in &changes.tasks {
            if let Some(task) = &change.now {
                self.ids.insert(task.id.clone(), task.key);
                self.tasks.insert(task.key, Arc::clone(task));
            }
        }
        self.bodies.extend(changes.bodies.iter().cloned());
        self.endings
            .extend(changes.endings.iter().map(|ending| (ending.task, ending.clone())));
        for (task, note) in &changes.notes {
            self.notes.entry(*task).or_default().push(note.clone());
        }
        for (task, text) in &changes.outputs {
            let output = self.outputs.entry(*task).or_default();
            output.push_str(text);
            let mut excess = output.len().saturating_sub(MAX_OUTPUT_BYTES);
            while !output.is_char_boundary(excess) {
                excess += 1;
            }
            output.drain(..excess);
        }
        for change in &changes.attempts {
            // Where one server owns the store, what is not stored on a disk does not stay here either.
            let stored = change.now.as_ref().map(|attempt| {
                if alone {
                    Arc::new(Attempt {
                        delivered_at: None,
                        stop_told: false,
                        ..(**attempt).clone()
                    })
                } else {
                    Arc::clone(attempt)
                }
            });
            put(&mut self.attempts, change.key, stored);
        }
        for change in &changes.accounts {
            put(&mut self.accounts, change.key, change.now.clone());
        }
        for change in &changes.agents {
            put(&mut self.agents, change.key.clone(), change.now.clone());
        }
        for change in &changes.policies {
            put(&mut self.policies, change.key.clone(), change.now.clone());
        }
        for change in &changes.counters {
            put(&mut self.counters, change.key.clone(), change.now.clone());
        }
        for change in &changes.experiences {
            put(&mut self.experiences, change.key.clone(), change.now.clone());
        }
        for change in &changes.locks {
            put(
                &mut self.locks,
                change.key.clone(),
                change.now.as_deref().copied(),
            );
        }
        for change in &changes.edges {
            put(&mut self.edges, change.key, change.now.as_deref().copied());
        }
        self.replays.extend(changes.idempotency.iter().cloned());
        self.jobs.extend(changes.jobs.iter().cloned());
        for (name, token) in &changes.tokens {
            put(&mut self.tokens, Arc::clone(name), token.clone());
        }
        // First what goes: what is put is of those that stay.
        for change in &changes.webhooks {
            if crate::is_another(change) {
                self.deliveries.retain(|key, _| key.webhook != change.key);
            }
            put(&mut self.webhooks, change.key.clone(), change.now.clone());
        }
        for change in &changes.deliveries {
            put(&mut self.deliveries, change.key.clone(), change.now.clone());
        }
        if let Some(before) = changes.forget_before {
            let old: Vec<ReplayKey> = self
                .replays
                .iter()
                .filter(|(_, replay)| replay.at < before)
                .map(|(key, _)| key.clone())
                .take(MAX_FORGOTTEN)
                .collect();
            for key in old {
                self.replays.remove(&key);
            }
        }
        for event in &changes.events {
            let seq = self.last_seq() + 1;
            self.events.push(Event {
                seq,
                kind: event.kind,
                task: event.task.clone(),
                agent: event.agent.clone(),
                at: event.at,
                payload: crate::payload::to_json(event).map(Into::into),
            });
        }
        self.last_seq()
    }

    /// What could not be delivered for a webhook, by the number of its event.
    pub(super) fn deliveries_of(&self, webhook: &str) -> Vec<(u64, Delivery)> {
        self.deliveries
            .iter()
            .filter(|(key, _)| *key.webhook == *webhook)
            .map(|(key, delivery)| (key.seq, (**delivery).clone()))
            .collect()
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }
}

fn put<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => rows.insert(key, row),
        None => rows.remove(&key),
    };
}

/// One load of a turn.
struct Load<'a> {
    shared: &'a mut Shared,
    server: Server,
    alone: bool,
    rows: Rows,
    tasks: BTreeSet<TaskKey>,
    attempts: BTreeSet<AttemptKey>,
    agents: BTreeSet<AgentId>,
    scopes: BTreeSet<Scope>,
}

pub(super) fn load(
    shared: &mut Shared,
    server: Server,
    alone: bool,
    wanted: &Wanted,
) -> Result<Rows, StoreError> {
    let mut load = Load {
        shared,
        server,
        alone,
        rows: Rows::default(),
        tasks: BTreeSet::new(),
        attempts: BTreeSet::new(),
        agents: BTreeSet::new(),
        scopes: BTreeSet::new(),
    };
    load.named(wanted)?;
    load.lists(wanted)?;
    load.time(wanted);
    load.rows.newest = Some(load.shared.world.newest());
    Ok(load.rows)
}

impl Load<'_> {
    fn hold(&mut self, row: Held) -> Result<(), StoreError> {
        if self.alone {
            Ok(())
        } else {
            self.shared.hold(self.server, row)
        }
    }

    fn task(&mut self, key: TaskKey) -> Result<(), StoreError> {
        if self.tasks.insert(key) {
            self.hold(Held::Task(key))?;
            self.rows.tasks.extend(self.shared.world.tasks.get(&key).cloned());
        }
        Ok(())
    }

    fn attempt(&mut self, key: AttemptKey) -> Result<(), StoreError> {
        if self.attempts.insert(key) {
            self.hold(Held::Attempt(key))?;
            self.rows
                .attempts
                .extend(self.shared.world.attempts.get(&key).cloned());
        }
        Ok(())
    }

    fn scope(&mut self, scope: &Scope) -> Result<(), StoreError> {
        if self.scopes.insert(scope.clone()) {
            self.hold(Held::Scope(scope.clone()))?;
            let world = &self.shared.world;
            self.rows.policies.extend(
                world
                    .policies
                    .get(scope)
                    .map(|policy| (scope.clone(), Arc::clone(policy))),
            );
            self.rows.counters.extend(world.counters.get(scope).cloned());
        }
        Ok(())
    }

    fn agent(&mut self, id: &AgentId) -> Result<(), StoreError> {
        if self.agents.insert(id.clone()) {
            self.hold(Held::Agent(id.clone()))?;
            self.rows.agents.extend(self.shared.world.agents.get(id).cloned());
        }
        Ok(())
    }

    /// Rows by their keys, in lock order.
    fn named(&mut self, wanted: &Wanted) -> Result<(), StoreError> {
        for key in &wanted.idempotency {
            self.hold(Held::Replay(key.clone()))?;
            let replay = self.shared.world.replays.get(key).cloned();
            self.rows
                .idempotency
                .extend(replay.map(|replay| (key.clone(), replay)));
        }
        for id in &wanted.task_ids {
            self.hold(Held::TaskId(id.clone()))?;
            if let Some(key) = self.shared.world.ids.get(id).copied() {
                self.task(key)?;
            }
        }
        for id in &wanted.jobs {
            self.hold(Held::Job(id.clone()))?;
            let job = self.shared.world.jobs.get(id).copied();
            self.rows.jobs.extend(job.map(|key| (id.clone(), key)));
        }
        for name in &wanted.webhooks {
            self.hold(Held::Webhook(Arc::clone(name)))?;
            let webhook = self.shared.world.webhooks.get(name).cloned();
            self.rows.webhooks.extend(webhook);
        }
        for key in &wanted.deliveries {
            let delivery = self.shared.world.deliveries.get(key);
            self.rows
                .deliveries
                .extend(delivery.map(|delivery| (key.clone(), (**delivery).clone())));
        }
        for key in &wanted.tasks {
            self.task(*key)?;
        }
        for key in &wanted.attempts {
            self.attempt(*key)?;
        }
        for key in &wanted.accounts {
            self.hold(Held::Attempt(*key))?;
            self.rows
                .accounts
                .extend(self.shared.world.accounts.get(key).cloned());
        }
        for kind in &wanted.experiences {
            self.hold(Held::Experience(kind.clone()))?;
            let experience = self.shared.world.experiences.get(kind).cloned();
            self.rows
                .experiences
                .extend(experience.map(|experience| (kind.clone(), experience)));
        }
        for lock in &wanted.locks {
            self.hold(Held::Lock(lock.clone()))?;
            let holder = self.shared.world.locks.get(lock).copied();
            self.rows
                .locks
                .extend(holder.map(|holder| (lock.clone(), holder)));
        }
        for id in &wanted.agents {
            self.agent(id)?;
        }
        for id in &wanted.claims {
            let attempts = self.shared.world.attempts.values();
            let claims = attempts.filter(|attempt| attempt.agent == *id && attempt.is_live());
            for key in claims.map(|attempt| attempt.key).collect::<Vec<_>>() {
                self.task(key.task)?;
                self.attempt(key)?;
            }
        }
        for scope in &wanted.scopes {
            self.scope(scope)?;
        }
        for demand in &wanted.demands {
            let class = self.shared.world.class(demand);
            self.rows.classes.push(class);
        }
        for id in &wanted.classes {
            let class = self
                .shared
                .world
                .classes
                .iter()
                .find(|class| class.id == *id)
                .cloned();
            self.rows.classes.extend(class);
        }
        Ok(())
    }

    /// Whatever is there: queues, those who want a lock, dependents, agents with room.
    fn lists(&mut self, wanted: &Wanted) -> Result<(), StoreError> {
        for (queue, after) in &wanted.windows {
            self.window(queue, *after)?;
        }
        for (lock, after) in &wanted.wanters {
            let mut orders = self.shared.world.wanters(lock);
            orders.retain(|order| after.is_none_or(|after| *order > after));
            let complete = orders.len() <= WINDOW_STRETCH;
            orders.truncate(WINDOW_STRETCH);
            self.rows.wanters.push((lock.clone(), orders, complete));
        }
        for (of, after) in &wanted.dependents {
            use std::ops::Bound::{Excluded, Included};
            let range = (Excluded((*of, *after)), Included((*of, TaskKey(i64::MAX))));
            let mut list: Vec<(TaskKey, DependencyState)> = self
                .shared
                .world
                .edges
                .range(range)
                .take(MAX_FANOUT + 1)
                .map(|((_, dependent), state)| (*dependent, *state))
                .collect();
            let more = list.len() > MAX_FANOUT;
            list.truncate(MAX_FANOUT);
            for (dependent, _) in &list {
                self.task(*dependent)?;
            }
            self.rows.dependents.push(Dependents {
                of: *of,
                after: *after,
                list,
                more,
            });
        }
        if wanted.queues {
            self.rows.queues = self.shared.world.queues();
        }
        if wanted.roomy {
            self.rows.roomy = self.onlookers(|agent| agent.has_room() && !agent.mute);
        }
        self.takers(&wanted.takers)?;
        if wanted.everyone {
            self.rows.onlookers = self.onlookers(|_| true);
        }
        Ok(())
    }

    /// The next stretch of a queue. Tasks that another server has locked are left out.
    fn window(&mut self, queue: &Queue, after: Option<DispatchOrder>) -> Result<(), StoreError> {
        let mut orders: Vec<DispatchOrder> = self
            .shared
            .world
            .tasks
            .values()
            .filter(|task| task.queue().as_ref() == Some(queue))
            .map(|task| task.order())
            .filter(|order| after.is_none_or(|after| *order > after))
            .collect();
        orders.sort();
        let all = orders.len();
        if !self.alone {
            let (shared, server) = (&self.shared, self.server);
            orders.retain(|order| !shared.is_held_by_other(server, &Held::Task(order.key)));
        }
        self.rows.skipped |= orders.len() < all;
        let complete = orders.len() <= WINDOW_STRETCH;
        orders.truncate(WINDOW_STRETCH);
        for order in &orders {
            self.task(order.key)?;
        }
        self.rows.windows.push((queue.clone(), orders, complete));
        Ok(())
    }

    /// Agents that are to be given something. Those that another server has locked, or whose counters it has, are left
    /// out.
    fn takers(&mut self, ids: &BTreeSet<AgentId>) -> Result<(), StoreError> {
        for id in ids {
            let scope = Scope::Agent(id.clone());
            let taken = [Held::Agent(id.clone()), Held::Scope(scope.clone())]
                .iter()
                .any(|row| self.shared.is_held_by_other(self.server, row));
            if taken {
                self.rows.skipped = true;
                continue;
            }
            self.agent(id)?;
            self.scope(&scope)?;
            // What is set and used for it may also be nothing: that absence is known, and locked, as well.
            self.rows.known_scopes.push(scope);
        }
        Ok(())
    }

    /// Agents as they are, with what is set and used for them.
    fn onlookers(&self, shown: impl Fn(&Agent) -> bool) -> Vec<Onlooker> {
        let world = &self.shared.world;
        let agents = world.agents.values().filter(|agent| shown(agent));
        agents
            .map(|agent| {
                let scope = Scope::Agent(agent.id.clone());
                Onlooker {
                    agent: Arc::clone(agent),
                    policy: world.policies.get(&scope).cloned(),
                    counter: world.counters.get(&scope).cloned(),
                }
            })
            .collect()
    }

    /// What time has brought. Only keys are told: the rows are asked for, and locked, one by one.
    fn time(&mut self, wanted: &Wanted) {
        let Some(until) = wanted.due else { return };
        let world = &self.shared.world;
        let mut waking: Vec<(Timestamp, TaskKey)> = world
            .tasks
            .values()
            .filter_map(|task| Some((task.wakes_at()?, task.key)))
            .collect();
        waking.sort();
        let due = waking
            .iter()
            .take_while(|(at, _)| *at <= until)
            .take(MAX_DUE)
            .count();
        let mut brought = Due {
            tasks: waking[..due].iter().map(|(_, key)| *key).collect(),
            next: waking.get(due).map(|(at, _)| *at),
            ..Due::default()
        };
        if !self.alone {
            let since = wanted.silent_since.unwrap_or(Timestamp::EPOCH);
            let silent = |agent: &&Arc<Agent>| !agent.offline && agent.last_seen <= since;
            brought.silent = world
                .agents
                .values()
                .filter(silent)
                .map(|agent| agent.id.clone())
                .collect();
            let lingering = |attempt: &&Arc<Attempt>| {
                attempt.lingers_until.is_some_and(|at| at <= until) && (attempt.is_live() || attempt.occupies)
            };
            brought.lingering = world
                .attempts
                .values()
                .filter(lingering)
                .map(|attempt| attempt.key)
                .collect();
        }
        self.rows.due = Some(brought);
    }
}
