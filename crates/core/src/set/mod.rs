//! The working set: the rows that a turn decides on, with what is derived from them.
//!
//! Rows come from a store ([`WorkingSet::absorb`]), commands change them, and what changed goes back
//! ([`WorkingSet::changes`]). Everything else (queues, the fleet's index) is a function of the rows and follows them,
//! also when a command or a turn is taken back.
//!
//! A row that is needed and not there stops the command with [`Halt::Missing`]: the engine loads what was wanted and
//! the turn is decided again. So a rule can ask for whatever it needs, wherever it needs it, and nothing has to
//! guess in advance.
//!
//! A working set is *complete* where one process owns the store: agents, policies, counters, classes, queues and
//! locks are all in it, and it lives on from turn to turn. Where servers share a store it holds what one turn locked.

pub mod queues;
pub mod rows;
pub mod table;
pub mod timers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use queues::Queues;
use rows::{Changes, Due, Ending, NewEvent, Onlooker, Replay, ReplayKey, Rows, Value, Wanted};
use table::Table;
use timers::Timers;

use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey};
use crate::command::{AccessToken, Ticket};
use crate::counter::Counter;
use crate::event::EventKind;
use crate::ledger::Account;
use crate::limit::{Ask, Policy, Scope};
use crate::name::{AgentId, LockName, ModelName, TaskId};
use crate::rejection::Rejection;
use crate::router::indexed::Fleet;
use crate::router::{Candidate, Load, Profile};
use crate::task::{Body, Class, ClassId, Demand, DependencyState, Note, Task, TaskKey};
use crate::time::{Span, Timestamp};

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
    /// The most attempts to answer with.
    pub max: Option<u32>,
    /// What the agent said it runs.
    pub running: Arc<[AttemptKey]>,
    /// What it runs that is not its own: told before, and told again with whatever ends the wait.
    pub strange: Vec<crate::command::Stop>,
}

/// A point to return to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    tasks: usize,
    attempts: usize,
    accounts: usize,
    agents: usize,
    policies: usize,
    counters: usize,
    locks: usize,
    edges: usize,
    idempotency: usize,
    jobs: usize,
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
    locks: Table<LockName, AttemptKey>,
    edges: Table<(TaskKey, TaskKey), DependencyState>,
    edge_lists: BTreeMap<TaskKey, EdgeList>,
    idempotency: Table<ReplayKey, Replay>,
    jobs: Table<TaskId, AttemptKey>,
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
    /// Repositories that cool down, and until when.
    pub(crate) cooldowns: BTreeSet<(Timestamp, Scope)>,
    /// Those that this turn has dealt with.
    pub(crate) cooldowns_seen: Vec<(Timestamp, Scope)>,
    /// What agents were told to stop that is not theirs: telling it again is no news.
    pub(crate) told_strange: HashMap<AgentId, Vec<(TaskId, u32)>>,
    /// Where the search of a queue goes on whose front is too large for what is left.
    /// Queues that a turn did not get to: the next one goes on with them at once.
    pub(crate) unfinished: BTreeSet<crate::task::Queue>,
    /// Those that this turn leaves.
    pub(crate) unfinished_next: Option<BTreeSet<crate::task::Queue>>,
    /// When free locks that tasks wait for were last offered again.
    pub(crate) locks_swept: Timestamp,
    pub(crate) cursors: BTreeMap<crate::task::Queue, crate::task::DispatchOrder>,
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

    // ---- rows in -------------------------------------------------------------------------------------------------

    /// Takes in rows as they are stored, with what was asked for: what was not found does not exist.
    pub fn absorb(&mut self, wanted: &Wanted, rows: Rows) {
        if let Some(newest) = rows.newest {
            self.newest = self.newest.max(newest);
        }
        self.skipped |= rows.skipped;
        for class in rows.classes {
            self.class_ids.insert(class.demand.clone(), class.id);
            self.classes.insert(class.id, class);
        }
        for agent in rows.agents {
            self.stale_agents.insert(agent.id.clone());
            self.agents.absorb(agent.id.clone(), Some(agent));
        }
        for attempt in rows.attempts {
            if let Some(until) = attempt.lingers_until
                && (attempt.is_live() || attempt.occupies)
            {
                self.lingering.insert((until, attempt.key));
            }
            self.attempts.absorb(attempt.key, Some(attempt));
        }
        for account in rows.accounts {
            self.accounts.absorb(account.attempt, Some(account));
        }
        for (scope, policy) in rows.policies {
            self.note_scope(&scope);
            self.policies.absorb(scope, Some(policy));
        }
        for counter in rows.counters {
            self.note_scope(&counter.scope);
            if counter.cooldown_until > self.last_now {
                self.cooldowns
                    .insert((counter.cooldown_until, counter.scope.clone()));
            }
            self.counters.absorb(counter.scope.clone(), Some(counter));
        }
        for scope in rows.known_scopes {
            self.policies.absorb(scope.clone(), None);
            self.counters.absorb(scope, None);
        }
        for (lock, holder) in rows.locks {
            self.locks.absorb(lock, Some(Arc::new(holder)));
        }
        for task in rows.tasks {
            if self.ids.insert(task.id.clone(), Some(task.key)).is_none() {
                self.recent_ids.push(task.id.clone());
            }
            self.tasks.absorb(task.key, Some(task));
        }
        for (key, replay) in rows.idempotency {
            self.idempotency.absorb(key, Some(Arc::new(replay)));
        }
        for (id, job) in rows.jobs {
            self.jobs.absorb(id, Some(Arc::new(job)));
        }
        for (queue, len) in rows.queues {
            if queue.gate.is_some() {
                self.open_gated.insert(queue.clone());
            }
            self.queues.absorb_queue(queue, len);
        }
        for (lock, len) in rows.wants {
            self.queues.absorb_wants(lock, len);
        }
        for (queue, orders, complete) in rows.windows {
            self.queues.absorb_window(queue, &orders, complete);
        }
        for (lock, orders, complete) in rows.wanters {
            self.queues.absorb_wanters(lock, &orders, complete);
        }
        for page in rows.dependents {
            let list = self.edge_lists.entry(page.of).or_default();
            list.upto = if page.more {
                page.list.last().map(|(key, _)| *key)
            } else {
                Some(LAST_KEY)
            };
            for (dependent, state) in page.list {
                list.dependents.insert(dependent);
                self.edges.absorb((page.of, dependent), Some(Arc::new(state)));
            }
        }
        if let (Some(until), Some(due)) = (wanted.due, rows.due) {
            self.due = Some((until, due));
        }
        for onlooker in rows.onlookers {
            self.onlookers.insert(onlooker.agent.id.clone(), onlooker);
        }
        self.note_absent(wanted);
    }

    /// What was asked for and not found is known not to exist.
    fn note_absent(&mut self, wanted: &Wanted) {
        for id in &wanted.task_ids {
            if !self.ids.contains_key(id) {
                self.ids.insert(id.clone(), None);
                self.recent_ids.push(id.clone());
            }
        }
        for key in &wanted.tasks {
            self.tasks.absorb(*key, None);
        }
        for key in &wanted.attempts {
            self.attempts.absorb(*key, None);
        }
        for key in &wanted.accounts {
            self.accounts.absorb(*key, None);
        }
        for id in &wanted.agents {
            self.agents.absorb(id.clone(), None);
        }
        for scope in &wanted.scopes {
            self.policies.absorb(scope.clone(), None);
            self.counters.absorb(scope.clone(), None);
        }
        for lock in &wanted.locks {
            self.locks.absorb(lock.clone(), None);
        }
        for key in &wanted.idempotency {
            self.idempotency.absorb(key.clone(), None);
        }
        for id in &wanted.jobs {
            self.jobs.absorb(id.clone(), None);
        }
        self.everyone |= wanted.everyone;
        self.roomy |= wanted.roomy;
        self.all_queues |= wanted.queues;
    }

    fn note_scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Agent(id) => {
                self.stale_agents.insert(id.clone());
            }
            Scope::Model(model) => {
                self.stale_models.insert(model.clone());
            }
            Scope::Fleet | Scope::Project(_) | Scope::Repo(_) => {}
        }
    }

    /// Takes out what is wanted.
    pub fn take_wanted(&mut self) -> Wanted {
        std::mem::take(&mut self.wanted)
    }

    /// Whether something is wanted.
    pub fn wants_more(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(crate) fn want(&mut self, ask: impl FnOnce(&mut Wanted)) -> Halt {
        ask(&mut self.wanted);
        Halt::Missing
    }

    /// Whether the last load left something out that another server has locked.
    pub const fn skipped(&self) -> bool {
        self.skipped
    }

    /// Begins with all that a complete set needs. Whatever time may have changed since is looked at right away.
    pub fn begin(&mut self, rows: Rows, now: Timestamp) {
        self.last_now = now;
        self.watched_since = now;
        let agents: Vec<Arc<Agent>> = rows.agents.clone();
        self.absorb(&Wanted::default(), rows);
        for agent in agents {
            let mut at = now + self.settings.agent_ttl.min(Span::from_secs(30));
            if let Some(recovers) = agent.recovers_at() {
                at = at.min(recovers);
            }
            self.timers.set(&agent.id, at);
        }
        self.next_task_wake = Timestamp::EPOCH;
        self.new_hour = true;
        self.settle_census();
    }

    /// What the census brought stays, whatever the first turn needs of it.
    fn settle_census(&mut self) {
        self.recent_ids.clear();
        self.tasks.settle(|_, _| true, |_, _| {});
        self.attempts.settle(|_, _| true, |_, _| {});
        self.accounts.settle(|_, _| true, |_, _| {});
    }

    /// Takes over who waits, from a set that is given up.
    pub fn adopt_waiters(&mut self, mut old: Self) {
        old.waiters.rewind(0, |_, _, _| {});
        self.waiters = old.waiters;
    }

    // ---- rows: reading -------------------------------------------------------------------------------------------

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

    fn need_everyone(&mut self) -> Need<()> {
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

    /// Up to `limit` dependents of a task behind `after`, with how it stands for each.
    pub fn dependents(
        &mut self,
        of: TaskKey,
        after: TaskKey,
        limit: usize,
    ) -> Need<Vec<(TaskKey, DependencyState)>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let known = self
            .edge_lists
            .get(&of)
            .and_then(|list| list.upto)
            .unwrap_or(TaskKey(0));
        let list = self.edge_lists.entry(of).or_default();
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
                wanted.dependents.insert(of, from);
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
            Some((until, due)) if *until >= now => Ok(due.clone()),
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

    // ---- rows: writing -------------------------------------------------------------------------------------------

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

    /// Remembers where the turn began.
    pub(crate) fn begin_turn(&mut self) {
        self.wake_before_turn = self.next_task_wake;
        self.newest_before_turn = self.newest;
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

    /// Live attempts of an agent that was not registered when they started. Only where the set is complete.
    pub(crate) fn claims_of(&self, id: &AgentId) -> Vec<Arc<Attempt>> {
        let claim = |attempt: &&Arc<Attempt>| {
            attempt.agent == *id && attempt.is_live() && !attempt.registered && !attempt.external
        };
        self.attempts
            .rows()
            .map(|(_, attempt)| attempt)
            .filter(claim)
            .cloned()
            .collect()
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
            let policy = policies
                .get(&scope)
                .flatten()
                .unwrap_or(&settings.default_allowance);
            let counter = counters.get(&scope).flatten();
            policy.limits.is_empty()
                || counter.is_none_or(|counter| policy.permits(&scope, counter, needs, now).is_ok())
        };
        Ok(fleet.route_class(class.id, ask, &mut admits))
    }

    // ---- the fleet's index ---------------------------------------------------------------------------------------

    /// The fleet, brought up to date.
    pub(crate) fn fleet(&mut self, now: Timestamp) -> Need<&mut Fleet> {
        while let Some(model) = self.stale_models.pop_first() {
            let scope = Scope::Model(model.clone());
            let (policy, counter) = (self.policy(&scope), self.counter(&scope));
            let (Ok(policy), Ok(counter)) = (policy, counter) else {
                self.stale_models.insert(model);
                return Err(Halt::Missing);
            };
            let closed = policy.permits(&scope, &counter, Ask::default(), now).is_err();
            self.fleet.set_closed(&model, closed);
        }
        while let Some(id) = self.stale_agents.pop_first() {
            match self.candidate(&id, now) {
                Ok(Some(candidate)) => self.fleet.put(candidate),
                Ok(None) => self.fleet.remove(&id),
                Err(halt) => {
                    self.stale_agents.insert(id);
                    return Err(halt);
                }
            }
        }
        Ok(&mut self.fleet)
    }

    /// The fleet for answers only: where servers share a store, with agents that are not locked.
    pub(crate) fn audience(&mut self, now: Timestamp) -> Need<&Fleet> {
        if self.complete {
            return self.fleet(now).map(|fleet| &*fleet);
        }
        self.need_everyone()?;
        if self.audience.is_empty() {
            for onlooker in self.onlookers.values() {
                let scope = Scope::Agent(onlooker.agent.id.clone());
                let policy = onlooker
                    .policy
                    .as_ref()
                    .unwrap_or(&self.settings.default_allowance);
                let empty = Counter::new(scope);
                let counter = onlooker.counter.as_deref().unwrap_or(&empty);
                self.audience
                    .put(candidate(&onlooker.agent, policy, counter, now));
            }
        }
        Ok(&self.audience)
    }

    fn candidate(&mut self, id: &AgentId, now: Timestamp) -> Need<Option<Candidate>> {
        let Some(Some(agent)) = self.agents.get(id) else {
            return Ok(None);
        };
        let agent = Arc::clone(agent);
        let scope = Scope::Agent(id.clone());
        let (policy, counter) = (self.policy(&scope)?, self.counter(&scope)?);
        Ok(Some(candidate(&agent, &policy, &counter, now)))
    }

    /// Looks again at everything whose limits may have been relaxed by a new period.
    pub(crate) fn new_period(&mut self) {
        let refused: Vec<AgentId> = self.fleet.refused().cloned().collect();
        self.stale_agents.extend(refused);
        let models: HashSet<ModelName> = self
            .policies
            .rows()
            .filter_map(|(scope, _)| match scope {
                Scope::Model(model) => Some(model.clone()),
                _ => None,
            })
            .collect();
        self.stale_models.extend(models);
    }

    // ---- turns ---------------------------------------------------------------------------------------------------

    /// A point to return to.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            tasks: self.tasks.mark(),
            attempts: self.attempts.mark(),
            accounts: self.accounts.mark(),
            agents: self.agents.mark(),
            policies: self.policies.mark(),
            counters: self.counters.mark(),
            locks: self.locks.mark(),
            edges: self.edges.mark(),
            idempotency: self.idempotency.mark(),
            jobs: self.jobs.mark(),
            waiters: self.waiters.mark(),
            notes: self.notes.len(),
            bodies: self.bodies.len(),
            endings: self.endings.len(),
            outputs: self.outputs.len(),
            tokens: self.tokens.len(),
            events: self.events.len(),
            answers: self.answers.len(),
            opened: self.opened.len(),
        }
    }

    /// Takes back everything since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let Self {
            tasks,
            queues,
            ids,
            edge_lists,
            stale_agents,
            stale_models,
            ..
        } = self;
        tasks.rewind(mark.tasks, |key, undone, restored| {
            queues.replace(undone.map(|task| &**task), restored.map(|task| &**task));
            if restored.is_none()
                && let Some(task) = undone
            {
                ids.remove(&task.id);
                edge_lists.remove(key);
            }
        });
        self.attempts.rewind(mark.attempts, |_, _, _| {});
        self.accounts.rewind(mark.accounts, |_, _, _| {});
        self.agents.rewind(mark.agents, |id, _, _| {
            stale_agents.insert(id.clone());
        });
        let mut note = |scope: &Scope| match scope {
            Scope::Agent(id) => {
                stale_agents.insert(id.clone());
            }
            Scope::Model(model) => {
                stale_models.insert(model.clone());
            }
            Scope::Fleet | Scope::Project(_) | Scope::Repo(_) => {}
        };
        self.policies.rewind(mark.policies, |scope, _, _| note(scope));
        self.counters.rewind(mark.counters, |scope, _, _| note(scope));
        self.locks.rewind(mark.locks, |_, _, _| {});
        self.edges.rewind(mark.edges, |(of, dependent), _, restored| {
            if restored.is_none()
                && let Some(list) = edge_lists.get_mut(of)
            {
                list.dependents.remove(dependent);
            }
        });
        self.idempotency.rewind(mark.idempotency, |_, _, _| {});
        self.jobs.rewind(mark.jobs, |_, _, _| {});
        self.waiters.rewind(mark.waiters, |_, _, _| {});
        self.notes.truncate(mark.notes);
        self.bodies.truncate(mark.bodies);
        self.endings.truncate(mark.endings);
        self.outputs.truncate(mark.outputs);
        self.tokens.truncate(mark.tokens);
        self.events.truncate(mark.events);
        self.answers.truncate(mark.answers);
        self.opened.truncate(mark.opened);
    }

    /// Takes back the whole turn.
    pub fn discard(&mut self) {
        self.rewind(Mark {
            tasks: 0,
            attempts: 0,
            accounts: 0,
            agents: 0,
            policies: 0,
            counters: 0,
            locks: 0,
            edges: 0,
            idempotency: 0,
            jobs: 0,
            waiters: 0,
            notes: 0,
            bodies: 0,
            endings: 0,
            outputs: 0,
            tokens: 0,
            events: 0,
            answers: 0,
            opened: 0,
        });
        self.forget_before = None;
        self.lingering_seen.clear();
        self.cooldowns_seen.clear();
        self.unfinished_next = None;
        // Nothing of this turn was stored: its keys are free again, so that deciding again asks for the same rows.
        self.newest = self.newest_before_turn;
        self.open_gated.extend(std::mem::take(&mut self.shut_gated));
        self.next_task_wake = self.wake_before_turn;
        self.hour_looked_at = false;
        for agent in std::mem::take(&mut self.popped) {
            self.timers.set(&agent, self.last_now);
        }
    }

    /// Everything that the turn changed and that must be stored. What is only kept in memory is left out, unless
    /// `soft` asks for it: where servers share a store, they must see it.
    pub fn take_changes(&mut self, soft: bool) -> Changes {
        Changes {
            tasks: self.tasks.changes().collect(),
            bodies: std::mem::take(&mut self.bodies),
            endings: std::mem::take(&mut self.endings),
            notes: std::mem::take(&mut self.notes),
            outputs: std::mem::take(&mut self.outputs),
            attempts: self
                .attempts
                .changes()
                .filter(|change| soft || !same(change, Attempt::same_stored))
                .collect(),
            accounts: self.accounts.changes().collect(),
            agents: self
                .agents
                .changes()
                .filter(|change| soft || !same(change, Agent::same_stored))
                .collect(),
            policies: self.policies.changes().collect(),
            counters: self.counters.changes().collect(),
            locks: self.locks.changes().collect(),
            edges: self.edges.changes().collect(),
            idempotency: self
                .idempotency
                .changes()
                .filter_map(|change| change.now.map(|replay| (change.key, (*replay).clone())))
                .collect(),
            jobs: self
                .jobs
                .changes()
                .filter_map(|change| change.now.map(|key| (change.key, *key)))
                .collect(),
            tokens: std::mem::take(&mut self.tokens),
            events: std::mem::take(&mut self.events),
            forget_before: self.forget_before,
        }
    }

    /// Ends the turn: what it did is stored. Keeps in memory what later turns are likely to need.
    pub fn settle(&mut self) {
        let Self {
            queues,
            tasks,
            ids,
            open_gated,
            cursors,
            attempts,
            accounts,
            ..
        } = self;
        let mut cut = Vec::new();
        for queue in queues.settle(|order| cut.push(order.key)) {
            open_gated.remove(&queue);
            cursors.remove(&queue);
        }
        let mut forget = |task: &Task| {
            ids.remove(&task.id);
        };
        let keep = |task: &Task| task.status == crate::task::Status::InProgress || queues.holds(task);
        tasks.settle(|_, task| keep(task), |_, task| forget(task));
        for key in cut {
            if let Some(task) = tasks.evict(&key) {
                forget(&task);
            }
        }
        for id in std::mem::take(&mut self.recent_ids) {
            if self.ids.get(&id) == Some(&None) {
                self.ids.remove(&id);
            }
        }
        let mut ended = Vec::new();
        attempts.settle(
            |_, attempt| attempt.is_live() || attempt.occupies,
            |key, _| ended.push(*key),
        );
        for key in ended {
            accounts.evict(&key);
        }
        accounts.settle(
            |key, _| matches!(attempts.get(key), Some(Some(attempt)) if attempt.is_live()),
            |_, _| {},
        );
        self.agents.settle(|_, _| true, |_, _| {});
        self.policies.settle(|_, _| true, |_, _| {});
        self.counters.settle(|_, _| true, |_, _| {});
        self.locks.settle(|_, _| true, |_, _| {});
        self.edges.settle(|_, _| false, |_, _| {});
        self.edge_lists.clear();
        self.idempotency.settle(|_, _| false, |_, _| {});
        self.jobs.settle(|_, _| false, |_, _| {});
        self.waiters.settle(|_, _| true, |_, _| {});
        if let Some(unfinished) = self.unfinished_next.take() {
            self.unfinished = unfinished;
        }
        for seen in std::mem::take(&mut self.lingering_seen) {
            self.lingering.remove(&seen);
        }
        for seen in std::mem::take(&mut self.cooldowns_seen) {
            self.cooldowns.remove(&seen);
        }
        self.shut_gated.clear();
        if std::mem::take(&mut self.hour_looked_at) {
            self.new_hour = false;
        }
        self.due = None;
        self.bodies.clear();
        self.endings.clear();
        self.notes.clear();
        self.outputs.clear();
        self.tokens.clear();
        self.events.clear();
        self.opened.clear();
        self.popped.clear();
        self.forget_before = None;
    }

    /// Carries over to the next turn's set what belongs to this server and not to the store: who waits, timers, and
    /// since when the server watches. For servers that share a store.
    #[must_use]
    pub fn successor(mut self) -> Self {
        self.waiters.settle(|_, _| true, |_, _| {});
        Self {
            told_strange: self.told_strange,
            waiters: self.waiters,
            classes: self.classes,
            class_ids: self.class_ids,
            timers: self.timers,
            watched_since: self.watched_since,
            last_now: self.last_now,
            next_task_wake: self.next_task_wake,
            newest: self.newest,
            lane: self.lane,
            new_hour: self.new_hour,
            open_gated: self.open_gated,
            cursors: self.cursors,
            locks_swept: self.locks_swept,
            ..Self::new(self.settings, false)
        }
    }

    /// The earliest time at which the passing of time alone changes something.
    pub fn next_deadline(&self, now: Timestamp) -> Timestamp {
        if self.new_hour || !self.unfinished.is_empty() {
            return now;
        }
        let hour = now.hour() + Span::HOUR;
        let lingering = self
            .lingering
            .first()
            .map_or(Timestamp::NEVER, |(until, _)| *until);
        let cooled = self
            .cooldowns
            .first()
            .map_or(Timestamp::NEVER, |(until, _)| *until);
        let lingering = lingering.min(cooled);
        self.timers
            .next()
            .unwrap_or(Timestamp::NEVER)
            .min(self.next_task_wake)
            .min(lingering)
            .min(hour)
    }
}

fn candidate(agent: &Agent, policy: &Policy, counter: &Counter, now: Timestamp) -> Candidate {
    let paused: Vec<ModelName> = agent.paused_models.keys().cloned().collect();
    Candidate {
        profile: Profile::new(
            &agent.capabilities,
            &agent.models,
            &policy.model_allowlist,
            &paused,
        ),
        load: Load {
            current: agent.load(),
            max: agent.max_load,
        },
        online: !agent.offline,
        has_room: agent.has_room() && !agent.mute,
        permitted: policy
            .permits(&counter.scope, counter, Ask::default(), now)
            .is_ok(),
        id: agent.id.clone(),
    }
}

fn same<K, V>(change: &table::Change<K, V>, same: impl Fn(&V, &V) -> bool) -> bool {
    match (&change.before, &change.now) {
        (Some(before), Some(now)) => same(before, now),
        (None, None) => true,
        _ => false,
    }
}
