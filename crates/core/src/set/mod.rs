//! The working set: the rows that a turn decides on, with what is derived from them.
//!
//! Rows come from a store ([`WorkingSet::absorb`]), commands change them, and what changed goes back
//! ([`WorkingSet::take_changes`]). Everything else (queues, the fleet's index) is a function of the rows and follows them,
//! also when a command or a turn is taken back.
//!
//! A row that is needed and not there stops the command with [`Halt::Missing`]: the engine loads what was wanted and
//! the turn is decided again. So a rule can ask for whatever it needs, wherever it needs it, and nothing has to
//! guess in advance.
//!
//! A working set is *complete* where one process owns the store: agents, policies, counters, classes, queues and
//! locks are all in it, and it lives on from turn to turn. Where servers share a store it holds what one turn locked.

mod absorb;
mod fleet;
mod look;
mod put;
pub mod queues;
pub mod rows;
pub mod table;
pub mod timers;
mod turn;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use queues::Queues;
use rows::{Due, Ending, NewEvent, Onlooker, Replay, ReplayKey, Wanted};
use table::Table;
use timers::Timers;

use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey};
use crate::command::{AccessToken, Ticket};
use crate::counter::Counter;
use crate::experience::{Experience, Kind};
use crate::ledger::Account;
use crate::limit::{Policy, Scope};
use crate::name::{AgentId, LockName, ModelName, TaskId};
use crate::rejection::Rejection;
use crate::router::indexed::Fleet;
use crate::task::{Body, Class, ClassId, Demand, DependencyState, Note, Task, TaskKey};
use crate::time::{Span, Timestamp};
use crate::webhook::{Delivery, DeliveryKey, Webhook};

/// What an operator sets for the whole server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// An agent that is silent for longer is reaped.
    pub agent_ttl: Span,
    /// How long a claim by an agent that is not registered holds, without a timeout of its own.
    pub claim_lease: Span,
    /// What is set for agents without an allowance of their own.
    pub default_allowance: Arc<Policy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_ttl: Span::from_secs(60),
            claim_lease: Span::DAY,
            default_allowance: Arc::default(),
        }
    }
}

/// Why a command does not go on.
#[derive(Debug)]
pub enum Halt {
    /// Rows are missing; they were noted as wanted.
    Missing,
    /// The answer is no, and nothing is changed.
    Rejected(Box<Rejection>),
}

impl From<Rejection> for Halt {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

/// A value, or a reason not to go on.
pub type Need<T> = Result<T, Halt>;

/// A sync that waits for something to start or stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Who waits.
    pub ticket: Ticket,
    /// The session that speaks. On another server a newer one may have begun since.
    pub session: Option<Arc<str>>,
    /// The most attempts to answer with.
    pub max: Option<u32>,
    /// What the agent said it runs.
    pub running: Arc<[AttemptKey]>,
    /// What it runs that is not its own: told before, and told again with whatever ends the wait.
    pub strange: Vec<crate::command::Stop>,
}

/// Attempts that an agent was told to stop though they are not its own.
type Told = Vec<(TaskId, u32)>;

/// A point to return to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    tasks: usize,
    attempts: usize,
    accounts: usize,
    agents: usize,
    policies: usize,
    counters: usize,
    experiences: usize,
    locks: usize,
    edges: usize,
    idempotency: usize,
    jobs: usize,
    webhooks: usize,
    deliveries: usize,
    waiters: usize,
    notes: usize,
    bodies: usize,
    endings: usize,
    outputs: usize,
    tokens: usize,
    events: usize,
    answers: usize,
    opened: usize,
}

/// What became possible in a turn: where dispatch has to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A task became ready.
    Task(TaskKey),
    /// An agent can take something that it could not.
    Agent(AgentId),
    /// Something that queues wait for beside an agent.
    Gate(crate::task::Gate),
    /// A limit of a model.
    Model(ModelName),
    /// Everything: a limit of the whole fleet, or a new period.
    All,
}

/// Rows, and what is derived from them.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, none implies another"
)]
pub struct WorkingSet {
    /// What an operator set for the whole server.
    pub settings: Settings,
    complete: bool,
    tasks: Table<TaskKey, Task>,
    ids: HashMap<TaskId, Option<TaskKey>>,
    recent_ids: Vec<TaskId>,
    attempts: Table<AttemptKey, Attempt>,
    accounts: Table<AttemptKey, Account>,
    agents: Table<AgentId, Agent>,
    policies: Table<Scope, Policy>,
    counters: Table<Scope, Counter>,
    experiences: Table<Kind, Experience>,
    locks: Table<LockName, AttemptKey>,
    edges: Table<(TaskKey, TaskKey), DependencyState>,
    edge_lists: BTreeMap<TaskKey, EdgeList>,
    idempotency: Table<ReplayKey, Replay>,
    jobs: Table<TaskId, AttemptKey>,
    webhooks: Table<Arc<str>, Webhook>,
    deliveries: Table<DeliveryKey, Delivery>,
    pub(crate) waiters: Table<AgentId, Waiter>,
    classes: HashMap<ClassId, Arc<Class>>,
    class_ids: HashMap<Demand, ClassId>,
    pub(crate) queues: Queues,
    fleet: Fleet,
    stale_agents: BTreeSet<AgentId>,
    stale_models: BTreeSet<ModelName>,
    newest: TaskKey,
    pub(crate) newest_before_turn: TaskKey,
    due: Option<(Timestamp, Due)>,
    /// All agents, for answers only, where the set is not complete.
    onlookers: BTreeMap<AgentId, Onlooker>,
    audience: Fleet,
    /// When they were looked at.
    onlookers_at: Timestamp,
    /// Agents that had room when they were looked at and are not locked, where servers share a store. Dispatch chooses
    /// among them; whom it chose is locked before it is given anything. None of them is in `agents`.
    candidates: HashMap<AgentId, Onlooker>,
    /// Agents whose claims were loaded, where servers share a store.
    claimants: BTreeSet<AgentId>,
    /// Those that the index shows as if they had been given something.
    chosen: Vec<AgentId>,
    lane: u8,
    wanted: Wanted,
    bodies: Vec<(TaskKey, Arc<Body>)>,
    endings: Vec<Ending>,
    notes: Vec<(TaskKey, Note)>,
    outputs: Vec<(TaskKey, Arc<str>)>,
    tokens: Vec<(Arc<str>, Option<AccessToken>)>,
    events: Vec<NewEvent>,
    pub(crate) answers: Vec<(Ticket, crate::decide::Verdict)>,
    pub(crate) opened: Vec<Opened>,
    /// Attempts that keep a place or locks after their end because a claim's lease still runs.
    pub(crate) lingering: BTreeSet<(Timestamp, AttemptKey)>,
    /// Those that this turn has dealt with.
    pub(crate) lingering_seen: Vec<(Timestamp, AttemptKey)>,
    pub(crate) timers: Timers,
    pub(crate) popped: Vec<AgentId>,
    pub(crate) watched_since: Timestamp,
    pub(crate) last_now: Timestamp,
    pub(crate) next_task_wake: Timestamp,
    pub(crate) forget_before: Option<Timestamp>,
    /// A new hour has begun, and what it relaxes was not looked at yet.
    pub(crate) new_hour: bool,
    pub(crate) hour_looked_at: bool,
    pub(crate) wake_before_turn: Timestamp,
    pub(crate) last_now_before_turn: Timestamp,
    pub(crate) locks_swept_before_turn: Timestamp,
    /// Repositories that cool down, and until when.
    pub(crate) cooldowns: BTreeSet<(Timestamp, Scope)>,
    /// Those that this turn has dealt with.
    pub(crate) cooldowns_seen: Vec<(Timestamp, Scope)>,
    /// What agents were told to stop that is not theirs: telling it again is no news.
    told_strange: HashMap<AgentId, Told>,
    /// What this turn replaced of it.
    told_before: Vec<(AgentId, Option<Told>)>,
    /// Queues that a turn did not get to: the next one goes on with them at once.
    pub(crate) unfinished: BTreeSet<crate::task::Queue>,
    /// Those that this turn leaves.
    pub(crate) unfinished_next: Option<BTreeSet<crate::task::Queue>>,
    /// Tasks that became ready and were not tried yet, so that nobody was told whether they found somebody.
    pub(crate) untold: Vec<TaskKey>,
    pub(crate) opened_next: Vec<TaskKey>,
    /// When free locks that tasks wait for were last offered again.
    pub(crate) locks_swept: Timestamp,
    /// Where the search of a queue goes on whose front is too large for what is left.
    pub(crate) cursors: BTreeMap<crate::task::Queue, crate::task::DispatchOrder>,
    /// Where this turn leaves them.
    pub(crate) cursors_next: Option<BTreeMap<crate::task::Queue, crate::task::DispatchOrder>>,
    /// Queues that wait for something that was free when it was last looked at: they want an agent.
    pub(crate) open_gated: BTreeSet<crate::task::Queue>,
    /// Those of them that this turn found closed.
    pub(crate) shut_gated: Vec<crate::task::Queue>,
    everyone: bool,
    roomy: bool,
    all_queues: bool,
    skipped: bool,
}

#[derive(Debug, Default)]
struct EdgeList {
    dependents: BTreeSet<TaskKey>,
    /// Known from behind this key on.
    from: TaskKey,
    /// Known up to this key; all of them when it is the last.
    upto: Option<TaskKey>,
}

const LAST_KEY: TaskKey = TaskKey(i64::MAX);

impl WorkingSet {
    /// An empty set. A complete one must be given all agents, policies, counters, classes, live attempts, locks
    /// and queues before its first turn.
    pub fn new(settings: Settings, complete: bool) -> Self {
        let mut set = Self {
            settings,
            complete,
            next_task_wake: Timestamp::NEVER,
            ..Self::default()
        };
        if complete {
            set.queues.set_complete();
        }
        set
    }

    /// The number of this server among those that share a store.
    pub const fn set_lane(&mut self, lane: u8) {
        self.lane = lane;
    }

    /// Whether one process owns the store.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Since when the server has been watching without a gap: silence before that does not count.
    pub const fn watched_since(&self) -> Timestamp {
        self.watched_since
    }
}
