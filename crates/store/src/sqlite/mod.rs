//! The embedded store: one SQLite file, owned by one process.
//!
//! WAL with `synchronous=FULL`: a commit that has returned survives a power cut. One connection writes, with
//! prepared statements; readers have connections of their own and see the last commit.
//!
//! The process that owns the file holds an advisory lock on `FILE.lock` beside it, so that a second one is told at
//! once. Every start looks for damage, and then moves the write-ahead log into the file before anything
//! else happens; so does a clean end.

pub mod audit;
pub mod backup;

mod census;
mod codec;
mod commit;
mod damage;
mod forget;
mod load;
mod mark;
mod onlooker;
mod open;
mod read;
pub(crate) mod transfer;

use std::path::{Path, PathBuf};

use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::time::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use rustix::process::{Resource, getrlimit};

pub use self::open::OpenError;

use self::damage::Alarm;
use self::mark::{Mark, Position};
use self::open::{CHECKPOINT, Lock};
use crate::{CommitError, Forgotten, Reader, Space, Store, StoreError};

/// Below this much free space nothing new is accepted: what is left is for the ends of what runs.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// A file that is so near to the largest that the process may write has no room for another page.
const LAST_BYTES: u64 = 64 * 1024;

/// The store of one process in one file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writer: Connection,
    position: Position,
    classes: read::Classes,
    mark: Mark,
    walk: forget::Walk,
    alarm: Alarm,
    /// Whether a commit was left without a known outcome: then the end is not a clean one.
    unknown: bool,
    /// Held as long as the store is open.
    _lock: Lock,
}

impl Sqlite {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = target_of(path.as_ref());
        let opened = open::file(&path)?;
        Ok(Self {
            path,
            writer: opened.writer,
            position: opened.position,
            classes: read::Classes::default(),
            mark: opened.mark,
            walk: forget::Walk::default(),
            alarm: Alarm::default(),
            unknown: false,
            _lock: opened.lock,
        })
    }

    /// Has somebody told when a statement finds that the file is damaged: the process is to end then, because
    /// nothing that it reads can be trusted.
    pub fn on_damage(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        self.alarm.listen(listener);
    }

    /// A transaction failed before its outcome could be in doubt: nothing of it happened.
    fn rolled_back(&mut self, error: &rusqlite::Error) -> CommitError {
        // SQLite has rolled back by itself after some errors.
        if !self.writer.is_autocommit()
            && let Err(again) = self.writer.execute_batch("ROLLBACK")
        {
            return self.unknown(&format!("{error}; then the rollback failed: {again}"));
        }
        if is_failed_write(error) && self.is_at_limit() {
            return StoreError::Full(format!(
                "{error}: a file has the largest size that this process may write"
            ))
            .into();
        }
        failed(&self.alarm, error).into()
    }

    /// The COMMIT. When it has returned `Ok`, the store is as far as `position`.
    fn end_transaction(&mut self, position: Position) -> Result<(), CommitError> {
        if let Err(error) = self.writer.execute_batch("COMMIT") {
            let full_or_busy = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)
            );
            if full_or_busy || is_failed_write(&error) {
                return Err(self.rolled_back(&error));
            }
            if damage::is_damage(&error) {
                self.alarm.ring(&error.to_string());
            }
            // The frame may have reached the disk or not: only the next start can tell.
            return Err(self.unknown(&error.to_string()));
        }
        self.position = position;
        self.mark.advance(position);
        Ok(())
    }

    fn unknown(&mut self, why: &str) -> CommitError {
        self.unknown = true;
        CommitError::Unknown(why.to_owned())
    }

    /// Whether a file is as large as the process may make one (`ulimit -f`): the system calls that another error than
    /// a full disk, and to us it is the same.
    fn is_at_limit(&self) -> bool {
        let Some(limit) = getrlimit(Resource::Fsize).current else {
            return false;
        };
        [self.path.clone(), companion(&self.path, "-wal")]
            .iter()
            .filter_map(|file| file.metadata().ok())
            .any(|file| file.len().saturating_add(LAST_BYTES) > limit)
    }
}

impl Drop for Sqlite {
    /// A clean end leaves everything in one file, which may be copied.
    fn drop(&mut self) {
        if self.unknown || self.alarm.has_rung() {
            return;
        }
        match self.writer.query_row(CHECKPOINT, [], |row| row.get::<_, bool>(0)) {
            Ok(false) => self.mark.rest(),
            // The next start does it.
            Ok(true) => tracing::debug!("a reader keeps the log from being moved into the file"),
            Err(error) => tracing::warn!(%error, "the log was not moved into the file"),
        }
    }
}

/// The file that a path leads to. SQLite follows links and keeps its log beside the file itself; the lock and the mark
/// must be there as well, so that nobody opens the same file under another name.
fn target_of(path: &Path) -> PathBuf {
    /// More links than a system follows.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&target) {
            Ok(next) => {
                target = target
                    .parent()
                    .map_or_else(|| next.clone(), |parent| parent.join(&next));
            }
            // It is no link.
            Err(_) => break,
        }
    }
    target
}

/// A file that belongs to a store.
fn companion(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Whether an error says that bytes could not be written, as opposed to synced. COMMIT writes in order, and last what
/// makes the transaction count: when a write fails, that is not on the disk. It is how SQLite treats a full disk, too.
fn is_failed_write(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE)
}

/// Whether an error says that bytes were not synced. The system forgets about them: a later sync would succeed
/// without them, and what is written behind them would hang in the air.
fn is_failed_sync(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

/// An error of a statement that is not a commit: the transaction is rolled back.
fn failed(alarm: &Alarm, error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    if damage::is_damage(error) || is_failed_sync(error) {
        alarm.ring(&text);
        // Nobody is answered from it any more: the process ends, and is started again on a sound file.
        return StoreError::Unavailable(text);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
            StoreError::Unavailable(text)
        }
        _ => StoreError::Broken(text),
    }
}

impl Store for Sqlite {
    fn is_shared(&self) -> bool {
        false
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        census::census(&self.writer, &mut self.classes).map_err(|error| failed(&self.alarm, &error))
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        // One process owns the file: nothing changes between a load and the commit, so that no transaction is needed
        // to keep it still.
        load::load(&self.writer, &mut self.classes, wanted).map_err(|error| failed(&self.alarm, &error))
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        if changes.is_empty() {
            return Ok(self.position.seq);
        }
        let position = match commit::write(&self.writer, changes, self.position) {
            Ok(position) => position,
            Err(error) => return Err(self.rolled_back(&error)),
        };
        self.end_transaction(position)?;
        self.walk.committed(changes);
        Ok(position.seq)
    }

    fn forget(&mut self, retention: &Retention, now: Timestamp) -> Result<Forgotten, CommitError> {
        let mut batch = forget::Batch::new(&self.writer, self.walk, retention, now);
        let written = batch.write(self.position);
        let (walk, forgotten) = (batch.walk, batch.forgotten);
        match written {
            Err(error) => return Err(self.rolled_back(&error)),
            // Nothing was to be deleted.
            Ok(_) if self.writer.is_autocommit() => {}
            Ok(position) => self.end_transaction(position)?,
        }
        self.walk = walk;
        Ok(forgotten)
    }

    fn abandon(&mut self) {}

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.path, flags).map_err(|error| failed(&self.alarm, &error))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Box::new(read::SqliteReader::new(connection, self.alarm.clone())))
    }

    fn space(&self) -> Space {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match rustix::fs::statvfs(directory) {
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < RESERVE_BYTES => Space::Low,
            Ok(_) => Space::Ample,
            Err(error) => {
                tracing::warn!(%error, "cannot tell how much space is left");
                Space::Ample
            }
        }
    }
}
