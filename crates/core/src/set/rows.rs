//! What a turn asks a store for, what it gets, and what it gives back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::table::Change;
use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey};
use crate::command::AccessToken;
use crate::counter::Counter;
use crate::event::EventKind;
use crate::experience::{Experience, Kind};
use crate::ledger::Account;
use crate::limit::{Policy, Scope};
use crate::money::Money;
use crate::name::{AgentId, LockName, TaskId};
use crate::task::{
    Body, Class, ClassId, Demand, DependencyState, DispatchOrder, Note, Queue, Task, TaskKey, TaskResult,
};
use crate::time::Timestamp;
use crate::webhook::{Delivery, DeliveryKey, Webhook};

/// The most dependents that one turn tells of an end; the rest follows in later turns.
pub const MAX_FANOUT: usize = 1_000;
/// The most tasks whose time has come that one turn deals with.
pub const MAX_DUE: usize = 512;

/// Rows that a turn needs and does not have. A store that is shared locks what it gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Tasks by id, whether they exist or not.
    pub task_ids: BTreeSet<TaskId>,
    /// Tasks by key.
    pub tasks: BTreeSet<TaskKey>,
    /// Attempts.
    pub attempts: BTreeSet<AttemptKey>,
    /// The ledger lines of attempts.
    pub accounts: BTreeSet<AttemptKey>,
    /// Agents with their live attempts, policies and counters.
    pub agents: BTreeSet<AgentId>,
    /// What agents that were not registered have claimed and still hold: the tasks, with their attempts.
    pub claims: BTreeSet<AgentId>,
    /// Policies and counters.
    pub scopes: BTreeSet<Scope>,
    /// What attempts of these kinds used.
    pub experiences: BTreeSet<Kind>,
    /// Locks.
    pub locks: BTreeSet<LockName>,
    /// The next parked tasks that want these locks, behind the given one.
    pub wanters: BTreeMap<LockName, Option<DispatchOrder>>,
    /// Classes for these demands; the store makes those that are new.
    pub demands: Vec<Demand>,
    /// Classes by number.
    pub classes: BTreeSet<ClassId>,
    /// What was done under these idempotency keys.
    pub idempotency: BTreeSet<ReplayKey>,
    /// Jobs that were dispatched elsewhere, by id.
    pub jobs: BTreeSet<TaskId>,
    /// Webhooks.
    pub webhooks: BTreeSet<Arc<str>>,
    /// Deliveries of webhooks that were asked for before, so that their lock covers these too.
    pub deliveries: BTreeSet<DeliveryKey>,
    /// The next stretch of these queues, behind the given task.
    pub windows: BTreeMap<Queue, Option<DispatchOrder>>,
    /// Dependents of these tasks, behind the given key.
    pub dependents: BTreeMap<TaskKey, TaskKey>,
    /// Tasks whose time has come by then.
    pub due: Option<Timestamp>,
    /// Agents that were last heard of before then.
    pub silent_since: Option<Timestamp>,
    /// All queues in which something waits.
    pub queues: bool,
    /// All agents that have room, as they are: not locked.
    pub roomy: bool,
    /// Agents that are to be given something, with their policies and counters. One that another server has locked is
    /// left out.
    pub takers: BTreeSet<AgentId>,
    /// All agents, to be read only.
    pub everyone: bool,
}

impl Wanted {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the rows that `other` names, but not what it asks for without knowing what is there.
    pub fn add_named(&mut self, other: &Self) {
        self.task_ids.extend(other.task_ids.iter().cloned());
        self.tasks.extend(other.tasks.iter().copied());
        self.attempts.extend(other.attempts.iter().copied());
        self.accounts.extend(other.accounts.iter().copied());
        self.agents.extend(other.agents.iter().cloned());
        self.scopes.extend(other.scopes.iter().cloned());
        self.experiences.extend(other.experiences.iter().cloned());
        self.locks.extend(other.locks.iter().cloned());
        self.idempotency.extend(other.idempotency.iter().cloned());
        self.jobs.extend(other.jobs.iter().cloned());
        self.webhooks.extend(other.webhooks.iter().cloned());
        self.deliveries.extend(other.deliveries.iter().cloned());
    }
}

/// Whose idempotency key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplayKey {
    /// The token that used it.
    pub token: Arc<str>,
    /// As the client chose it.
    pub key: Arc<str>,
}

/// What was done under an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// What the request was.
    pub digest: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// How to answer again.
    pub answer: ReplayAnswer,
}

/// How to answer a repeated request: with things as they are now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayAnswer {
    /// A task.
    Task(TaskId),
    /// The items of a batch: tasks, and the errors of those that failed.
    Batch(Vec<ReplayItem>),
    /// An agent.
    Agent(AgentId),
    /// What is set and used for a scope.
    Scope(Scope),
    /// A webhook.
    Webhook(Arc<str>),
    /// Nothing to show.
    Done,
}

/// One item of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayItem {
    /// It went well.
    Task(TaskId),
    /// It did not.
    Refused {
        /// The slug.
        slug: String,
        /// What was wrong.
        message: String,
        /// More about it.
        details: String,
    },
}

/// Rows as they are stored. What was asked for and is not here does not exist.
#[derive(Debug, Default)]
pub struct Rows {
    /// Tasks, also those that came along with something else.
    pub tasks: Vec<Arc<Task>>,
    /// Attempts.
    pub attempts: Vec<Arc<Attempt>>,
    /// Ledger lines.
    pub accounts: Vec<Arc<Account>>,
    /// Agents.
    pub agents: Vec<Arc<Agent>>,
    /// Policies.
    pub policies: Vec<(Scope, Arc<Policy>)>,
    /// Counters.
    pub counters: Vec<Arc<Counter>>,
    /// What attempts of a kind used.
    pub experiences: Vec<(Kind, Arc<Experience>)>,
    /// Locks that are taken, and by which attempt.
    pub locks: Vec<(LockName, AttemptKey)>,
    /// How many parked tasks want a lock.
    pub wants: Vec<(LockName, u64)>,
    /// Parked tasks that want a lock, in order; whether that is all of them.
    pub wanters: Vec<(LockName, Vec<DispatchOrder>, bool)>,
    /// Classes.
    pub classes: Vec<Arc<Class>>,
    /// What was done under idempotency keys.
    pub idempotency: Vec<(ReplayKey, Replay)>,
    /// Jobs that were dispatched elsewhere.
    pub jobs: Vec<(TaskId, AttemptKey)>,
    /// Webhooks.
    pub webhooks: Vec<Arc<Webhook>>,
    /// What could not be delivered.
    pub deliveries: Vec<(DeliveryKey, Delivery)>,
    /// Stretches of queues, in order; whether that is all of them.
    pub windows: Vec<(Queue, Vec<DispatchOrder>, bool)>,
    /// Queues in which something waits.
    pub queues: Vec<(Queue, u64)>,
    /// Dependents of a task and how this dependency stands for them, in order of key.
    pub dependents: Vec<Dependents>,
    /// What time has brought.
    pub due: Option<Due>,
    /// All agents as they are, unlocked, for answers only.
    pub onlookers: Vec<Onlooker>,
    /// Agents that have room, unlocked: one that is to be given something is asked for by name.
    pub roomy: Vec<Onlooker>,
    /// Scopes that came along with something else, whether anything is set or used for them or not.
    pub known_scopes: Vec<Scope>,
    /// The key of the newest task.
    pub newest: Option<TaskKey>,
    /// The time as the store knows it. A census tells when the last event happened, so that time does not step back
    /// over a restart. Where servers share a store each load tells what time it is there, after the last lock.
    pub latest: Option<Timestamp>,
    /// Something was left out because another server has locked it.
    pub skipped: bool,
}

/// What time has brought, as the store knows it. Where a set is complete, agents, attempts and counters are all in
/// memory, and only tasks are told.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Tasks whose time has come.
    pub tasks: Vec<TaskKey>,
    /// The earliest time of a task that was not given.
    pub next: Option<Timestamp>,
    /// Agents that are not offline and were last heard of more than a ttl ago.
    pub silent: Vec<AgentId>,
    /// Attempts whose lease or slot has ended by itself.
    pub lingering: Vec<AttemptKey>,
}

/// An agent with what is set and used for it, as it is at the moment.
#[derive(Debug, Clone)]
pub struct Onlooker {
    /// The agent.
    pub agent: Arc<Agent>,
    /// What is set for it, if anything.
    pub policy: Option<Arc<Policy>>,
    /// What it used, if anything.
    pub counter: Option<Arc<Counter>>,
}

/// A stretch of the dependents of a task.
#[derive(Debug, Clone)]
pub struct Dependents {
    /// The task.
    pub of: TaskKey,
    /// Behind this one.
    pub after: TaskKey,
    /// Those that depend on it.
    pub list: Vec<(TaskKey, DependencyState)>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// A value in the payload of an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// Text.
    Text(String),
    /// Cents.
    Money(Money),
    /// A time.
    Time(Timestamp),
}

/// An event before it has its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEvent {
    /// What kind of thing happened.
    pub kind: EventKind,
    /// To which task.
    pub task: Option<(TaskKey, TaskId)>,
    /// To or by which agent.
    pub agent: Option<AgentId>,
    /// When.
    pub at: Timestamp,
    /// More about it.
    pub payload: Vec<(&'static str, Value)>,
}

/// How the last finished attempt of a task went, for those who read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// The task.
    pub task: TaskKey,
    /// In its agent's words; none when it left none.
    pub result: Option<TaskResult>,
    /// Why it failed.
    pub fail_reason: Option<String>,
}

/// Everything that a turn writes, in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Tasks.
    pub tasks: Vec<Change<TaskKey, Task>>,
    /// The bodies of new tasks.
    pub bodies: Vec<(TaskKey, Arc<Body>)>,
    /// How attempts went.
    pub endings: Vec<Ending>,
    /// Notes to append.
    pub notes: Vec<(TaskKey, Note)>,
    /// Live output to append.
    pub outputs: Vec<(TaskKey, Arc<str>)>,
    /// Attempts.
    pub attempts: Vec<Change<AttemptKey, Attempt>>,
    /// Ledger lines.
    pub accounts: Vec<Change<AttemptKey, Account>>,
    /// Agents.
    pub agents: Vec<Change<AgentId, Agent>>,
    /// Policies.
    pub policies: Vec<Change<Scope, Policy>>,
    /// Counters.
    pub counters: Vec<Change<Scope, Counter>>,
    /// What attempts of a kind used.
    pub experiences: Vec<Change<Kind, Experience>>,
    /// Locks and who holds them.
    pub locks: Vec<Change<LockName, AttemptKey>>,
    /// Dependencies: (what is depended on, what depends on it).
    pub edges: Vec<Change<(TaskKey, TaskKey), DependencyState>>,
    /// Idempotency keys.
    pub idempotency: Vec<(ReplayKey, Replay)>,
    /// Jobs that were dispatched elsewhere.
    pub jobs: Vec<(TaskId, AttemptKey)>,
    /// Webhooks. One that is removed, or added anew, takes the deliveries before it along.
    pub webhooks: Vec<Change<Arc<str>, Webhook>>,
    /// What could not be delivered.
    pub deliveries: Vec<Change<DeliveryKey, Delivery>>,
    /// Access tokens; none removes one.
    pub tokens: Vec<(Arc<str>, Option<AccessToken>)>,
    /// What happened, in order.
    pub events: Vec<NewEvent>,
    /// Idempotency keys from before this time are forgotten, a bounded number at a time.
    pub forget_before: Option<Timestamp>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.bodies.is_empty()
            && self.endings.is_empty()
            && self.notes.is_empty()
            && self.outputs.is_empty()
            && self.attempts.is_empty()
            && self.accounts.is_empty()
            && self.agents.is_empty()
            && self.policies.is_empty()
            && self.counters.is_empty()
            && self.experiences.is_empty()
            && self.locks.is_empty()
            && self.edges.is_empty()
            && self.idempotency.is_empty()
            && self.jobs.is_empty()
            && self.webhooks.is_empty()
            && self.deliveries.is_empty()
            && self.tokens.is_empty()
            && self.events.is_empty()
            && self.forget_before.is_none()
    }
}
