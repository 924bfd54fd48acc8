//! Transfers: a whole store, moved into an empty one of another kind.
//!
//! A source gives its rows as the core's types, in the shape of what a turn writes, all of them new: so a target writes
//! them with what its turns are written with, and derives what it keeps beside them (queues, wants, places of agents)
//! as it does for turns. What no turn writes (numbers of events and classes, the archive, the secret) comes along in
//! `Stretch`. Rows pass in stretches of bounded size, so that the size of a store is no matter of memory.
//!
//! # Invariants
//! - A source is not in use, and nothing in it changes.
//! - A target has everything or nothing: a file is put in its place when it is done, a database is filled in one
//!   transaction.
//!
//! # Not here
//! How rows are read and written: `transfer` of each store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adjutant_core::event::Event;
use adjutant_core::ledger::Line;
use adjutant_core::set::rows::Changes;
use adjutant_core::set::table::Change;
use adjutant_core::task::{Class, TaskKey};

use crate::sqlite::backup::CopyError;
use crate::{StoreError, postgres, sqlite};

/// The most rows of a stretch: enough that what a statement costs by itself does not matter.
const MAX_ROWS: usize = 1_000;
/// A stretch ends when its rows are this large together; one row alone can be larger.
const MAX_BYTES: usize = 4 << 20;

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Tasks.
    pub tasks: u64,
    /// Attempts, also those of jobs that were dispatched elsewhere.
    pub attempts: u64,
    /// Ledger lines.
    pub lines: u64,
    /// Events that were kept.
    pub events: u64,
    /// Agents.
    pub agents: u64,
    /// The number of the last event; 0 when there was none.
    pub last_seq: u64,
}

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source.
    From,
    /// The target.
    To,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct TransferError {
    /// Which store stands in the way.
    pub side: Side,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be used.
    #[error("the store {0}")]
    File(#[from] sqlite::OpenError),
    /// The file cannot be put in its place.
    #[error(transparent)]
    Place(#[from] CopyError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] postgres::OpenError),
    /// There is none.
    #[error("the database {0} has no store")]
    Missing(String),
    /// Servers have it.
    #[error("the database is in use by running servers: {0}")]
    Running(u64),
    /// A server has written while it was read.
    #[error("a server has worked on the database meanwhile")]
    Disturbed,
    /// An older version wrote it.
    #[error("an older version wrote the store (schema {found}, this program writes {known})")]
    Older {
        /// Its schema.
        found: usize,
        /// That of this program.
        known: usize,
    },
    /// There is something in it.
    #[error("the store is not empty: it has {0}")]
    NotEmpty(String),
    /// What arrived is not what was sent.
    #[error("{sent} {what} were sent and {arrived} arrived")]
    Incomplete {
        /// Rows of which kind.
        what: &'static str,
        /// How many there are.
        sent: u64,
        /// How many were written.
        arrived: u64,
    },
    /// The answer to the last step was lost: the target has everything, or nothing.
    #[error("whether everything has arrived is not known: {0}")]
    Unknown(String),
    /// A row cannot be read, or not be written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Moves the store of a file into a database.
///
/// # Durability
/// When it returns `Ok` the database has everything.
///
/// # Errors
/// See [`TransferError`]. Then the database is as it was; [`Problem::Unknown`] is the exception.
pub fn sqlite_to_postgres(from: impl AsRef<Path>, to: &str) -> Result<Moved, TransferError> {
    let source = sqlite::transfer::Source::open(from.as_ref())?;
    let mut target = postgres::transfer::Target::open(to)?;
    let mut courier = Courier::new(&mut target);
    source.give(&mut courier)?;
    let moved = courier.end()?;
    target.finish(&moved)?;
    Ok(moved)
}

/// Moves the store of a database into a new file, which only its user can read.
///
/// # Durability
/// When it returns `Ok` the file is on the disk.
///
/// # Errors
/// See [`TransferError`]. Then there is no file.
pub fn postgres_to_sqlite(from: &str, to: impl Into<PathBuf>) -> Result<Moved, TransferError> {
    let source = postgres::transfer::Source::open(from)?;
    let mut target = sqlite::transfer::Target::open(&to.into())?;
    let mut courier = Courier::new(&mut target);
    source.give(&mut courier)?;
    let moved = courier.end()?;
    source.finish()?;
    target.finish(&moved)?;
    Ok(moved)
}

/// Something is wrong with the source.
pub(crate) fn from(problem: impl Into<Problem>) -> TransferError {
    TransferError {
        side: Side::From,
        problem: problem.into(),
    }
}

/// Something is wrong with the target.
pub(crate) fn to(problem: impl Into<Problem>) -> TransferError {
    TransferError {
        side: Side::To,
        problem: problem.into(),
    }
}

/// What a store has once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// What attempt tokens are made with.
    pub(crate) secret: [u8; 32],
    /// The number of the first event that is kept, or else of the next one.
    pub(crate) first_seq: u64,
    /// The number of the last event; 0 before the first.
    pub(crate) last_seq: u64,
}

/// Some rows of a store.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    /// What turns write; all of it new. Neither events nor outputs.
    pub(crate) changes: Changes,
    /// Comes once.
    pub(crate) head: Option<Head>,
    /// Classes, which keep their numbers.
    pub(crate) classes: Vec<Arc<Class>>,
    /// Live output, in the order in which it came, and within its bounds.
    pub(crate) outputs: Vec<(TaskKey, String)>,
    /// What the lines of forgotten tasks come to.
    pub(crate) archive: Vec<Line>,
    /// Events, which keep their numbers.
    pub(crate) events: Vec<Event>,
}

/// A row that a target does not have yet.
pub(crate) fn new<K, V>(key: K, row: impl Into<Arc<V>>) -> Change<K, V> {
    Change {
        key,
        before: None,
        now: Some(row.into()),
    }
}

/// Where stretches go.
pub(crate) trait Sink {
    /// Writes one.
    fn write(&mut self, stretch: &Stretch) -> Result<(), TransferError>;
}

/// Gathers rows into stretches and counts them.
pub(crate) struct Courier<'a> {
    sink: &'a mut dyn Sink,
    stretch: Stretch,
    rows: usize,
    bytes: usize,
    moved: Moved,
}

impl<'a> Courier<'a> {
    fn new(sink: &'a mut dyn Sink) -> Self {
        Self {
            sink,
            stretch: Stretch::default(),
            rows: 0,
            bytes: 0,
            moved: Moved::default(),
        }
    }

    /// Takes a row of about this size.
    pub(crate) fn take(&mut self, bytes: usize, put: impl FnOnce(&mut Stretch)) -> Result<(), TransferError> {
        put(&mut self.stretch);
        self.rows += 1;
        self.bytes += bytes;
        if self.rows < MAX_ROWS && self.bytes < MAX_BYTES {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), TransferError> {
        let stretch = std::mem::take(&mut self.stretch);
        (self.rows, self.bytes) = (0, 0);
        let lines = stretch
            .changes
            .accounts
            .iter()
            .filter_map(|change| change.now.as_ref());
        self.moved.tasks += stretch.changes.tasks.len() as u64;
        self.moved.attempts += stretch.changes.attempts.len() as u64;
        self.moved.lines += lines.map(|account| account.lines.len() as u64).sum::<u64>();
        self.moved.events += stretch.events.len() as u64;
        self.moved.agents += stretch.changes.agents.len() as u64;
        if let Some(head) = &stretch.head {
            self.moved.last_seq = head.last_seq;
        }
        self.sink.write(&stretch)
    }

    fn end(mut self) -> Result<Moved, TransferError> {
        self.send()?;
        Ok(self.moved)
    }
}

/// Gathers the ledger lines of an attempt, which go together.
#[derive(Default)]
pub(crate) struct Accounts(Option<adjutant_core::ledger::Account>);

impl Accounts {
    /// The next line in the order of attempts.
    pub(crate) fn take(
        &mut self,
        courier: &mut Courier<'_>,
        attempt: adjutant_core::attempt::AttemptKey,
        line: Line,
    ) -> Result<(), TransferError> {
        if self.0.as_ref().is_some_and(|account| account.attempt != attempt) {
            self.end(courier)?;
        }
        let empty = || adjutant_core::ledger::Account::new(attempt);
        self.0.get_or_insert_with(empty).lines.push(line);
        Ok(())
    }

    /// There are no more.
    pub(crate) fn end(&mut self, courier: &mut Courier<'_>) -> Result<(), TransferError> {
        let Some(account) = self.0.take() else {
            return Ok(());
        };
        courier.take(account.lines.len() * 200, |stretch| {
            stretch.changes.accounts.push(new(account.attempt, account));
        })
    }
}

/// Compares what was sent with what is there.
pub(crate) fn compare(moved: &Moved, arrived: [u64; 5]) -> Result<(), TransferError> {
    let sent = [
        ("tasks", moved.tasks),
        ("attempts", moved.attempts),
        ("ledger lines", moved.lines),
        ("events", moved.events),
        ("agents", moved.agents),
    ];
    for ((what, sent), arrived) in sent.into_iter().zip(arrived) {
        if sent != arrived {
            return Err(to(Problem::Incomplete { what, sent, arrived }));
        }
    }
    Ok(())
}

/// Counts rows in the order of [`compare`].
pub(crate) const COUNTS: &str = "SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM attempt), \
    (SELECT count(*) FROM line), (SELECT count(*) FROM event), (SELECT count(*) FROM agent)";
