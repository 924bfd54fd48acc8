//! The witness: an independent, simple model of what is committed, that checks every transaction against the invariants.
//!
//! It sees what clients sent, what a turn committed, and what clients were told. It keeps its own copy of the rows and
//! its own books, and asks the core nothing: where the core searches an index it looks at everything, where the core
//! counts it adds up.
//!
//! | file | checks |
//! |---|---|
//! | `custody` | I1, I2, I7, I8, I10: who holds what, and how attempts end |
//! | `books`, `money` | I3, I4, I9: starts within limits, settlement, counters against the ledger |
//! | `forgotten` | that only what is over is forgotten |
//! | `order` | I6: nobody is passed over |
//! | `answers` | I5, I8, I10 and delivery: what clients were told |
//! | `compare` | at the end: everything that is stored against everything that was committed |

mod answers;
mod books;
mod compare;
mod custody;
mod forgotten;
mod money;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey, AttemptState};
use adjutant_core::command::Request;
use adjutant_core::counter::Counter;
use adjutant_core::event::EventKind;
use adjutant_core::ledger::Account;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::{AgentId, LockName, TaskId};
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{DependencyState, DispatchOrder, Status, Task, TaskKey};
use adjutant_core::time::{Span, Timestamp};

use books::Books;

/// What was violated, in words.
pub type Check = Result<(), String>;

/// Returns the text as a violation unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
use hold;

/// What goes with a transaction: when, by which server, and what clients had asked for.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The time of the turn.
    pub now: Timestamp,
    /// Which server takes it.
    pub server: usize,
    /// What clients sent, as they sent it.
    pub sent: Arc<[Request]>,
}

/// An attempt that started in a transaction.
#[derive(Debug, Clone)]
struct Started {
    key: AttemptKey,
    claimed: bool,
}

/// The model.
#[derive(Debug)]
pub struct Witness {
    alone: bool,
    ttl: Span,
    tasks: HashMap<TaskKey, Arc<Task>>,
    ids: HashMap<TaskId, TaskKey>,
    /// What each task depends on, as its client named it.
    dependencies: HashMap<TaskKey, Vec<TaskId>>,
    attempts: HashMap<AttemptKey, Arc<Attempt>>,
    accounts: HashMap<AttemptKey, Arc<Account>>,
    agents: HashMap<AgentId, Arc<Agent>>,
    policies: HashMap<Scope, Arc<Policy>>,
    counters: HashMap<Scope, Arc<Counter>>,
    locks: HashMap<LockName, AttemptKey>,
    edges: HashMap<(TaskKey, TaskKey), DependencyState>,
    /// The live attempt of each task.
    live: HashMap<TaskKey, AttemptKey>,
    /// Attempts that occupy each agent.
    occupied: HashMap<AgentId, BTreeSet<AttemptKey>>,
    /// Ready tasks in order of dispatch.
    ready: BTreeMap<DispatchOrder, TaskKey>,
    books: Books,
    /// The highest number of a sync that was taken, by agent and session.
    numbers: HashMap<(AgentId, Arc<str>), u64>,
    /// When each agent was last heard of.
    heard: HashMap<AgentId, Timestamp>,
    /// Since when each server watches, and its last look.
    watches: HashMap<usize, Watch>,
    last_now: Timestamp,
    commits: u64,
    forgotten: u64,
    /// Tasks that were completed and forgotten: what depended on them may start all the same.
    completed_once: HashSet<TaskId>,
    dispatched: Vec<AttemptKey>,
    violation: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    since: Timestamp,
    last: Timestamp,
}

impl Witness {
    /// Of an empty store.
    pub fn new(alone: bool, ttl: Span) -> Self {
        Self {
            alone,
            ttl,
            tasks: HashMap::new(),
            ids: HashMap::new(),
            dependencies: HashMap::new(),
            attempts: HashMap::new(),
            accounts: HashMap::new(),
            agents: HashMap::new(),
            policies: HashMap::new(),
            counters: HashMap::new(),
            locks: HashMap::new(),
            edges: HashMap::new(),
            live: HashMap::new(),
            occupied: HashMap::new(),
            ready: BTreeMap::new(),
            books: Books::default(),
            numbers: HashMap::new(),
            heard: HashMap::new(),
            watches: HashMap::new(),
            last_now: Timestamp::EPOCH,
            commits: 0,
            forgotten: 0,
            completed_once: HashSet::new(),
            dispatched: Vec::new(),
            violation: None,
        }
    }

    /// How many transactions it has seen.
    pub const fn commits(&self) -> u64 {
        self.commits
    }

    /// How many tasks were forgotten.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The first violation, if there was one.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// A server came up, or looked at the clock.
    pub fn watched(&mut self, server: usize, now: Timestamp, born: bool) {
        let gap = self.ttl.part(4);
        let watch = self.watches.entry(server).or_insert(Watch {
            since: now,
            last: now,
        });
        if born || now.since(watch.last) > gap {
            watch.since = now;
        }
        watch.last = if born { now } else { watch.last.max(now) };
        if born && self.alone {
            // Numbers are not stored: a process that starts knows of none.
            self.numbers.clear();
            // The clock may have been set back: what a dead process heard later than now was heard now.
            for heard in self.heard.values_mut() {
                *heard = (*heard).min(now);
            }
        }
    }

    /// An agent's word reached a server, and was taken.
    pub fn heard(&mut self, agent: &AgentId, now: Timestamp) {
        let heard = self.heard.entry(agent.clone()).or_insert(now);
        *heard = (*heard).max(now);
    }

    /// A transaction was committed.
    pub fn committed(&mut self, moment: &Moment, changes: &Changes, unseen: bool) {
        self.commits += 1;
        if !unseen {
            self.watched(moment.server, moment.now, false);
        }
        let checked = self.check_commit(moment, changes);
        self.note(checked);
    }

    /// Notes a violation; the first one is kept.
    pub fn note(&mut self, checked: Check) {
        if let Err(what) = checked {
            self.violation.get_or_insert(what);
        }
    }

    fn check_commit(&mut self, moment: &Moment, changes: &Changes) -> Check {
        self.last_now = self.last_now.max(moment.now);
        self.no_lost_updates(changes)?;
        let started = self.started(changes);
        let dispatched = started.iter().filter(|start| !start.claimed);
        self.dispatched.extend(dispatched.map(|start| start.key));
        let before = self.put(moment, changes);
        self.custody(moment, changes, &before, &started)?;
        self.money(moment, changes, &before, &started)?;
        if self.alone {
            self.order(&started)?;
        }
        Ok(())
    }

    /// What a transaction says was there before is what is there: nothing was overwritten unseen.
    fn no_lost_updates(&self, changes: &Changes) -> Check {
        for change in &changes.tasks {
            let own = self.tasks.get(&change.key);
            hold!(
                own == change.before.as_ref(),
                "lost update of task {:?}: the turn saw {:?}, there is {own:?}",
                change.key,
                change.before
            );
        }
        for change in &changes.attempts {
            let own = self.attempts.get(&change.key);
            let same = match (own, &change.before) {
                (Some(own), Some(before)) => own.same_stored(before),
                (None, None) => true,
                _ => false,
            };
            hold!(
                same,
                "lost update of attempt {}: the turn saw {:?}, there is {own:?}",
                change.key,
                change.before
            );
        }
        for change in &changes.accounts {
            let own = self.accounts.get(&change.key);
            hold!(
                own == change.before.as_ref(),
                "lost update of the account of {}",
                change.key
            );
        }
        for change in &changes.counters {
            let own = self.counters.get(&change.key);
            hold!(
                own == change.before.as_ref(),
                "lost update of the counter of {}: the turn saw {:?}, there is {own:?}",
                change.key,
                change.before
            );
        }
        for change in &changes.locks {
            let own = self.locks.get(&change.key);
            hold!(
                own == change.before.as_deref(),
                "lost update of lock {}: the turn saw {:?}, there is {own:?}",
                change.key,
                change.before
            );
        }
        Ok(())
    }

    /// Attempts that started, in the order in which they did.
    fn started(&self, changes: &Changes) -> Vec<Started> {
        let mut count: HashMap<TaskKey, u32> = HashMap::new();
        let mut started = Vec::new();
        for event in &changes.events {
            let claimed = match event.kind {
                EventKind::TaskDispatched => false,
                EventKind::TaskClaimed => true,
                _ => continue,
            };
            let Some((task, _)) = &event.task else { continue };
            let before = self.tasks.get(task).map_or(0, |task| task.attempt);
            let number = count.entry(*task).or_insert(before);
            *number += 1;
            started.push(Started {
                key: AttemptKey {
                    task: *task,
                    number: *number,
                },
                claimed,
            });
        }
        started
    }

    /// Takes over what a transaction wrote; gives what was there before.
    fn put(&mut self, moment: &Moment, changes: &Changes) -> Before {
        let mut before = Before::default();
        for change in &changes.tasks {
            let old = match &change.now {
                Some(task) => {
                    self.ids.insert(task.id.clone(), task.key);
                    self.tasks.insert(change.key, Arc::clone(task))
                }
                None => self.tasks.remove(&change.key),
            };
            if let Some(old) = &old
                && old.queue().is_some()
            {
                self.ready.remove(&old.order());
            }
            if let Some(task) = &change.now
                && task.queue().is_some()
            {
                self.ready.insert(task.order(), task.key);
            }
            if old.is_none() {
                self.remember_dependencies(moment, change.key);
            }
            before.tasks.insert(change.key, old);
        }
        for change in &changes.attempts {
            let old = self.put_attempt(change.key, change.now.as_ref());
            before.attempts.insert(change.key, old);
        }
        for change in &changes.accounts {
            self.books
                .account(change.before.as_deref(), change.now.as_deref());
            let old = replace(&mut self.accounts, &change.key, change.now.as_ref());
            before.accounts.insert(change.key, old);
        }
        for change in &changes.agents {
            let life = |agent: &Option<Arc<Agent>>| {
                agent
                    .as_ref()
                    .map(|agent| (agent.session.clone(), agent.registered_at))
            };
            if life(&change.before) != life(&change.now) {
                // Who left and comes back counts anew, in one turn as well, and so does every session.
                self.numbers.retain(|(agent, _), _| *agent != change.key);
            }
            let old = replace(&mut self.agents, &change.key, change.now.as_ref());
            before.agents.insert(change.key.clone(), old);
        }
        for change in &changes.policies {
            replace(&mut self.policies, &change.key, change.now.as_ref());
        }
        for change in &changes.counters {
            replace(&mut self.counters, &change.key, change.now.as_ref());
        }
        for change in &changes.locks {
            replace(&mut self.locks, &change.key, change.now.as_deref());
        }
        for change in &changes.edges {
            replace(&mut self.edges, &change.key, change.now.as_deref());
        }
        before
    }

    fn put_attempt(&mut self, key: AttemptKey, now: Option<&Arc<Attempt>>) -> Option<Arc<Attempt>> {
        let old = replace(&mut self.attempts, &key, now);
        self.books.attempt(old.as_deref(), now.map(|now| &**now));
        if let Some(old) = &old {
            if old.occupies
                && let Some(own) = self.occupied.get_mut(&old.agent)
            {
                own.remove(&key);
            }
            if self.live.get(&key.task) == Some(&key) {
                self.live.remove(&key.task);
            }
        }
        if let Some(attempt) = now
            && attempt.occupies
            && attempt.registered
        {
            self.occupied
                .entry(attempt.agent.clone())
                .or_default()
                .insert(key);
        }
        old
    }

    /// How many attempts servers have given out.
    pub fn dispatched(&self) -> usize {
        self.dispatched.len()
    }

    /// The task of the last one.
    pub fn last_dispatched(&self) -> Option<&Arc<Task>> {
        self.tasks.get(&self.dispatched.last()?.task)
    }

    /// What an agent has taken and has not ended.
    pub fn taken_by(&self, agent: &AgentId) -> impl Iterator<Item = (Arc<Task>, u32)> + use<> {
        let taken: Vec<_> = self
            .live
            .values()
            .filter_map(|key| self.attempts.get(key))
            .filter(|attempt| attempt.agent == *agent && attempt.state == AttemptState::Taken)
            .filter_map(|attempt| Some((Arc::clone(self.tasks.get(&attempt.key.task)?), attempt.key.number)))
            .collect();
        taken.into_iter()
    }

    /// Scopes for which something is set.
    pub fn limited(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.policies.keys().cloned().collect();
        scopes.sort();
        scopes
    }

    /// Tasks that have not reached an end.
    pub fn unfinished(&self) -> Vec<&Arc<Task>> {
        let mut tasks: Vec<_> = self
            .tasks
            .values()
            .filter(|task| !task.status.is_terminal())
            .collect();
        tasks.sort_by_key(|task| task.key);
        tasks
    }

    /// Dead letters and cancelled tasks that others wait for, and tasks that are held.
    pub fn stuck(&self) -> Vec<(TaskId, Stuck)> {
        let mut stuck: Vec<_> = self
            .tasks
            .values()
            .filter_map(|task| match task.status {
                Status::Failed | Status::Cancelled if task.dependents > 0 => {
                    Some((task.key, task.id.clone(), Stuck::Ended))
                }
                Status::InProgress
                    if task
                        .claimed_by
                        .as_ref()
                        .is_some_and(|holder| holder.as_str() == "stranger") =>
                {
                    Some((task.key, task.id.clone(), Stuck::Stranger))
                }
                _ if task.held => Some((task.key, task.id.clone(), Stuck::Held)),
                _ => None,
            })
            .collect();
        stuck.sort_by_key(|(key, ..)| *key);
        stuck.into_iter().map(|(_, id, why)| (id, why)).collect()
    }
}

/// Why others, or the task itself, get nowhere without an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// It failed or was cancelled, and others depend on it.
    Ended,
    /// An operator holds it.
    Held,
    /// Someone who is not registered has it, and no lease that ends soon.
    Stranger,
}

/// Rows as they were before a transaction.
#[derive(Debug, Default)]
struct Before {
    tasks: HashMap<TaskKey, Option<Arc<Task>>>,
    attempts: HashMap<AttemptKey, Option<Arc<Attempt>>>,
    accounts: HashMap<AttemptKey, Option<Arc<Account>>>,
    agents: HashMap<AgentId, Option<Arc<Agent>>>,
}

fn replace<K: Clone + Eq + std::hash::Hash, V: Clone>(
    rows: &mut HashMap<K, V>,
    key: &K,
    now: Option<&V>,
) -> Option<V> {
    match now {
        Some(now) => rows.insert(key.clone(), now.clone()),
        None => rows.remove(key),
    }
}
