//! Stores: where rows live, and what survives a crash.
//!
//! A [`Store`] has no business rules. It loads the rows that a turn needs, and writes those that the core changed,
//! with the ledger lines and the events, in one transaction. A [`Reader`] answers questions beside the turns.
//!
//! [`memory`] is the specification, also of what servers that share a database meet: locked rows, rows that are
//! skipped because another holds them, turns that overlap. [`sqlite`] is the embedded store of one process,
//! [`postgres`] that of many servers. All run the same conformance suite, in `tests/conformance`. [`transfer`] moves a
//! whole store from one kind to another.
//!
//! # Not here
//! When a row is loaded, and what is done with it: the core and the engine.

mod encoding;
pub mod memory;
mod payload;
pub mod postgres;
mod read;
pub mod sqlite;
pub mod transfer;

pub use read::{Details, MAX_HEADS, Page, Reader, StoredTask, TaskFilter};

use std::collections::BTreeSet;
use std::sync::Arc;

use adjutant_core::name::AgentId;
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::set::table::Change;
use adjutant_core::task::{Body, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::Webhook;

/// Live output of a task beyond this many bytes is dropped, oldest first.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// How many of the tasks that wait for one are named.
pub const MAX_BLOCKERS: usize = 100;
/// The most idempotency keys that are forgotten in one turn.
pub const MAX_FORGOTTEN: usize = 1_000;
/// The most tasks that are looked at to be forgotten in one batch.
pub const MAX_FORGOTTEN_TASKS: usize = 200;
/// The most events that are forgotten in one batch.
pub const MAX_FORGOTTEN_EVENTS: usize = 200;

/// What went wrong with the machine, as opposed to a valid answer that says no.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Out of space; the transaction was rolled back. Nothing is lost, nothing was done.
    #[error("the store is out of space: {0}")]
    Full(String),
    /// Another server holds a row; the turn is tried again.
    #[error("a row is held by another server: {0}")]
    Busy(String),
    /// The store cannot be reached; nothing was done.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The store is broken or was written by something else: no turn can go on.
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// Why a commit has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The transaction was rolled back: nothing of it happened.
    #[error(transparent)]
    RolledBack(#[from] StoreError),
    /// It may have happened or not, and this process cannot find out: it must end, and the next start will see.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
}

/// How much room a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Enough.
    Ample,
    /// So little that what is left is kept for the ends of what runs: nothing new is accepted.
    Low,
}

/// What was forgotten in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Tasks, with all that belongs to them.
    pub tasks: u64,
    /// The same by the state that they had ended in, in the order of [`Status::ALL`](adjutant_core::task::Status::ALL).
    pub by_status: [u64; 6],
    /// Jobs that were dispatched elsewhere.
    pub jobs: u64,
    /// Events.
    pub events: u64,
    /// Whether there may be more to forget now.
    pub more: bool,
}

/// What another server has committed.
#[derive(Debug, Clone)]
pub struct News {
    /// The number of the last event of it.
    pub seq: u64,
    /// The agents that it is about; none when it may be about any.
    pub agents: Option<BTreeSet<AgentId>>,
}

/// Whether what is stored of a webhook before a turn is of another one than after it: its deliveries go with it.
fn is_another(change: &Change<Arc<str>, Webhook>) -> bool {
    match (&change.before, &change.now) {
        (Some(before), Some(now)) => before.created_at != now.created_at,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Where rows live.
///
/// # Durability
/// After [`commit`](Store::commit) has returned `Ok`, everything in the changes survives a crash of the process and of
/// the machine. After any other return of any call nothing of the turn survives, with one exception that is told:
/// [`CommitError::Unknown`].
pub trait Store: Send {
    /// Whether other servers change the same rows. If not, a working set lives on from turn to turn.
    fn is_shared(&self) -> bool;

    /// All that a complete working set starts with: agents, policies, counters, classes, open attempts with their
    /// tasks and ledger lines, locks, and the queues in which something waits.
    ///
    /// # Errors
    /// When rows cannot be read, or are not what this program writes.
    fn census(&mut self) -> Result<Rows, StoreError>;

    /// Rows for a turn. The first load of a turn begins its transaction; where the store is shared every row that is
    /// given, and every absence, is locked until the turn ends.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another server holds a row for too long: the turn is to be abandoned and tried again.
    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError>;

    /// Writes the changes of a turn in one transaction and ends the turn. Gives the number of its last event, or of
    /// the last one before it when it has none.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError>;

    /// Between turns: forgets a bounded part of what is over and [not kept](adjutant_core::retention), in a transaction
    /// of its own. A task goes whole, with its attempts, texts and dependencies; its ledger lines go into the archive
    /// of their scopes. Events go from the first one on.
    ///
    /// After `Ok` what was forgotten stays so through a crash; after any error of [`CommitError::RolledBack`] all of it
    /// is still there. A store that keeps everything is a store as well.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn forget(&mut self, _retention: &Retention, _now: Timestamp) -> Result<Forgotten, CommitError> {
        Ok(Forgotten::default())
    }

    /// Ends a turn that changes nothing, or that is given up.
    fn abandon(&mut self);

    /// Between turns: bodies of tasks that answers are to show. Where servers share a store most were accepted by
    /// another one. Whoever is not given some reads them beside the turns, one answer at a time.
    ///
    /// # Errors
    /// When they cannot be read.
    fn bodies(&mut self, _tasks: &[TaskKey]) -> Result<Vec<(TaskKey, Arc<Body>)>, StoreError> {
        Ok(Vec::new())
    }

    /// A reader of what is committed, for use on another thread.
    ///
    /// # Errors
    /// When the store cannot be opened once more.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// The number of this server among those that share the store: it makes its keys unique.
    fn lane(&self) -> u8 {
        0
    }

    /// Has somebody told of what other servers commit, as soon as it is heard of.
    fn listen(&mut self, _told: Box<dyn Fn(News) + Send>) {}

    /// How much room there is.
    fn space(&self) -> Space {
        Space::Ample
    }
}
