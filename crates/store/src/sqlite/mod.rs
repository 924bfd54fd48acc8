//! The embedded store: one SQLite file, owned by one process.
//!
//! WAL with `synchronous=FULL`: a commit that has returned survives a power cut. One connection writes, with
//! prepared statements; readers have connections of their own and see the last commit.
//!
//! The process that owns the file holds an advisory lock on `FILE.lock` beside it, so that a second one is told at
//! once. Every start moves the write-ahead log into the file before anything else happens.

mod census;
mod codec;
mod commit;
mod load;
mod read;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use adjutant_core::set::rows::{Changes, Rows, Wanted};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::{CommitError, Reader, Space, Store, StoreError};

/// Says that a file is ours: "adjt".
const APPLICATION_ID: i32 = 0x6164_6a74;
/// The schema, step by step. A file's `user_version` is how many steps it has taken.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];
/// Pages of the write-ahead log after which it is moved into the file.
const CHECKPOINT_PAGES: i32 = 16_384;
/// Page cache of the writer, in KiB.
const WRITER_CACHE_KIB: i32 = 16 * 1024;
/// Below this much free space nothing new is accepted: what is left is for the ends of what runs.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// Why a file cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error("{path} was written by a newer version (schema {found}, this program knows {known})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// It is a database of something else, or no database at all.
    #[error("{path} is not a store of this program: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// It cannot be opened, read or written.
    #[error("{path} cannot be used: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What stands in the way.
        why: String,
    },
}

/// The store of one process in one file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writer: Connection,
    last_seq: u64,
    classes: read::Classes,
    /// Held as long as the store is open.
    _lock: File,
}

impl Sqlite {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let lock = take_lock(&path)?;
        let unusable = |error: rusqlite::Error| explain(&path, &error);
        let mut writer = Connection::open(&path).map_err(unusable)?;
        migrate(&mut writer, &path)?;
        configure(&writer).map_err(unusable)?;
        let last_seq: i64 = writer
            .query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| row.get(0))
            .map_err(unusable)?;
        Ok(Self {
            last_seq: u64::try_from(last_seq).unwrap_or(0),
            classes: read::Classes::default(),
            path,
            writer,
            _lock: lock,
        })
    }
}

/// Another process that has the file open holds this lock.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let unusable = |error: &std::io::Error| OpenError::Unusable {
        path: path.to_path_buf(),
        why: format!("{}: {error}", Path::new(&name).display()),
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| unusable(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(&error)),
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign {
            path,
            why: "it is not an SQLite database".into(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
        _ => OpenError::Unusable {
            path,
            why: error.to_string(),
        },
    }
}

fn migrate(writer: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let unusable = |error: rusqlite::Error| explain(path, &error);
    let pragma = |connection: &Connection, name: &str| -> Result<i64, OpenError> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(unusable)
    };
    let found = usize::try_from(pragma(writer, "user_version")?).unwrap_or(usize::MAX);
    let tables: i64 = writer
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(unusable)?;
    if tables > 0 && pragma(writer, "application_id")? != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign {
            path: path.to_path_buf(),
            why: "it is the database of another program".into(),
        });
    }
    let known = MIGRATIONS.len();
    if found > known {
        return Err(OpenError::Newer {
            path: path.to_path_buf(),
            found,
            known,
        });
    }
    // A change of the journal's mode is not part of a transaction, and must come before the first one.
    writer
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(unusable)?;
    for (step, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = writer.transaction().map_err(unusable)?;
        transaction.execute_batch(migration).map_err(unusable)?;
        if step == 0 {
            transaction
                .execute(
                    "INSERT INTO meta (name, value) VALUES ('secret', randomblob(32))",
                    [],
                )
                .map_err(unusable)?;
        }
        let version = i64::try_from(step + 1).unwrap_or(i64::MAX);
        transaction
            .pragma_update(None, "user_version", version)
            .map_err(unusable)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(unusable)?;
        transaction.commit().map_err(unusable)?;
    }
    Ok(())
}

fn configure(writer: &Connection) -> rusqlite::Result<()> {
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    writer.pragma_update(None, "temp_store", "MEMORY")?;
    writer.set_prepared_statement_cache_capacity(128);
    // What an earlier process left in the log goes into the file before anyone is served.
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// An error of a statement that is not a commit: the transaction is rolled back.
fn failed(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
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
        census::census(&self.writer, &mut self.classes).map_err(|error| failed(&error))
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        // One process owns the file: nothing changes between a load and the commit, so that no transaction is needed
        // to keep it still.
        load::load(&self.writer, &mut self.classes, wanted).map_err(|error| failed(&error))
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        if changes.is_empty() {
            return Ok(self.last_seq);
        }
        let rolled_back = |connection: &Connection, error: &rusqlite::Error| {
            // SQLite has rolled back by itself after some errors.
            if !connection.is_autocommit()
                && let Err(again) = connection.execute_batch("ROLLBACK")
            {
                return CommitError::Unknown(format!("{error}; then the rollback failed: {again}"));
            }
            CommitError::RolledBack(failed(error))
        };
        let seq = match commit::write(&self.writer, changes, self.last_seq) {
            Ok(seq) => seq,
            Err(error) => return Err(rolled_back(&self.writer, &error)),
        };
        if let Err(error) = self.writer.execute_batch("COMMIT") {
            return Err(match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => rolled_back(&self.writer, &error),
                // The frame may have reached the disk or not: only the next start can tell.
                _ => CommitError::Unknown(error.to_string()),
            });
        }
        self.last_seq = seq;
        Ok(seq)
    }

    fn abandon(&mut self) {}

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| failed(&error))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Box::new(read::SqliteReader::new(connection)))
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
