//! The store in memory: the specification of what any store does, and of what servers that share one meet.
//!
//! One server alone: [`Memory::alone`]. Several servers on the same rows: [`Memory::shared`], once for each. Then every
//! row that a turn was given, and every absence, is locked until the turn ends; what another server has locked is
//! either refused ([`StoreError::Busy`]: the turn is given up and tried again) or, where a turn asks for whatever is
//! there (ready tasks, agents with room), left out and told as skipped. So it behaves as READ COMMITTED with row locks
//! and SKIP LOCKED does, without ever waiting: there are no deadlocks, only turns that are tried again.
//!
//! Nothing survives the process. What survives a crash of a *server* is what was committed.

mod forget;
mod read;
mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey};
use adjutant_core::counter::Counter;
use adjutant_core::event::Event;
use adjutant_core::experience::Kind;
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::{AgentId, LockName, TaskId};
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, ReplayKey, Rows, Wanted};
use adjutant_core::task::{DependencyState, Task, TaskKey};
use adjutant_core::time::Timestamp;

use crate::{CommitError, Forgotten, Reader, Store, StoreError};
use rows::World;

/// A row that a turn holds, or the absence of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Task(TaskKey),
    TaskId(TaskId),
    Attempt(AttemptKey),
    Agent(AgentId),
    Scope(Scope),
    Experience(Kind),
    Lock(LockName),
    Replay(ReplayKey),
    Job(TaskId),
    Webhook(Arc<str>),
}

/// Which server holds a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Server(u32);

#[derive(Debug, Default)]
struct Shared {
    world: World,
    held: BTreeMap<Held, Server>,
    servers: u32,
}

/// Everything that is committed and that invariants speak of, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Tasks, in order of arrival.
    pub tasks: Vec<Arc<Task>>,
    /// Attempts, by task and number.
    pub attempts: Vec<Arc<Attempt>>,
    /// Ledger lines, by attempt.
    pub accounts: Vec<Arc<Account>>,
    /// Agents, by id.
    pub agents: Vec<Arc<Agent>>,
    /// What is set.
    pub policies: BTreeMap<Scope, Arc<Policy>>,
    /// What is used.
    pub counters: BTreeMap<Scope, Arc<Counter>>,
    /// Locks that are taken.
    pub locks: BTreeMap<LockName, AttemptKey>,
    /// Dependencies: (what is depended on, what depends on it).
    pub edges: BTreeMap<(TaskKey, TaskKey), DependencyState>,
    /// What happened.
    pub events: Vec<Event>,
    /// What the ledger lines of forgotten tasks came to, by scope and reset.
    pub archive: Vec<Line>,
}

/// What goes wrong with the next commit, for tests of what a crash leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is rolled back: out of space.
    Full,
    /// It happened, but the answer is lost.
    LostAfter,
    /// It did not happen, and the answer is lost.
    LostBefore,
}

/// One server's view of a store in memory.
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Mutex<Shared>>,
    server: Server,
    alone: bool,
    fault: Option<Fault>,
}

impl Memory {
    /// A new store for one server.
    pub fn alone() -> Self {
        Self {
            shared: Arc::default(),
            server: Server(0),
            alone: true,
            fault: None,
        }
    }

    /// A new store that servers share; [`another`](Self::another) lets one more in.
    pub fn shared() -> Self {
        Self {
            shared: Arc::default(),
            server: Server(0),
            alone: false,
            fault: None,
        }
    }

    /// One more server on the same rows; for a store of one server the next one, after the first has crashed.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut shared = self.lock();
        shared.servers += 1;
        if self.alone {
            shared.held.clear();
        }
        let server = Server(shared.servers);
        drop(shared);
        Self {
            shared: Arc::clone(&self.shared),
            server,
            alone: self.alone,
            fault: None,
        }
    }

    /// Everything that is committed, for checks of invariants.
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.lock();
        let world = &shared.world;
        Snapshot {
            tasks: world.tasks.values().cloned().collect(),
            attempts: world.attempts.values().cloned().collect(),
            accounts: world.accounts.values().cloned().collect(),
            agents: if self.alone {
                world.agents_from_attempts()
            } else {
                world.agents.values().cloned().collect()
            },
            policies: world.policies.clone(),
            counters: world.counters.clone(),
            locks: world.locks.clone(),
            edges: world.edges.clone(),
            events: world.events.clone(),
            archive: world.archive.values().cloned().collect(),
        }
    }

    /// Lets the next commit go wrong.
    pub const fn fail_next(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes a row for a server, unless another one has it.
    fn hold(&mut self, server: Server, row: Held) -> Result<(), StoreError> {
        match self.held.get(&row) {
            Some(holder) if *holder != server => Err(StoreError::Busy(format!("{row:?}"))),
            Some(_) => Ok(()),
            None => {
                self.held.insert(row, server);
                Ok(())
            }
        }
    }

    fn is_held_by_other(&self, server: Server, row: &Held) -> bool {
        self.held.get(row).is_some_and(|holder| *holder != server)
    }

    fn release(&mut self, server: Server) {
        self.held.retain(|_, holder| *holder != server);
    }
}

impl Store for Memory {
    fn is_shared(&self) -> bool {
        !self.alone
    }

    fn lane(&self) -> u8 {
        u8::try_from(self.server.0 % 256).unwrap_or(0)
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        Ok(self.lock().world.census())
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        let mut shared = self.lock();
        let loaded = rows::load(&mut shared, self.server, self.alone, wanted);
        if loaded.is_err() {
            shared.release(self.server);
        }
        loaded
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        let fault = self.fault.take();
        let mut shared = self.lock();
        let seq = match fault {
            Some(Fault::Full) => {
                shared.release(self.server);
                return Err(StoreError::Full("as a test asked for".into()).into());
            }
            Some(Fault::LostBefore) => None,
            None | Some(Fault::LostAfter) => Some(shared.world.apply(changes, self.alone)),
        };
        shared.release(self.server);
        match (seq, fault) {
            (Some(seq), None) => Ok(seq),
            _ => Err(CommitError::Unknown("as a test asked for".into())),
        }
    }

    fn forget(&mut self, retention: &Retention, now: Timestamp) -> Result<Forgotten, CommitError> {
        let mut shared = self.lock();
        Ok(forget::batch(&mut shared, self.server, retention, now))
    }

    fn abandon(&mut self) {
        self.lock().release(self.server);
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(read::MemoryReader {
            shared: Arc::clone(&self.shared),
        }))
    }
}

impl Drop for Memory {
    /// A server that is gone holds nothing.
    fn drop(&mut self) {
        self.abandon();
    }
}
