//! Opening: whose file it is, whether it is sound, and what is done before anyone is served.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::companion;
use super::damage::{self, Unread};
use super::mark::{self, Mark, Position, Told};

/// Says that a file is ours: "adjt".
pub(super) const APPLICATION_ID: i32 = 0x6164_6a74;
/// The schema, step by step. A file's `user_version` is how many steps it has taken.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
];
/// Pages of the write-ahead log after which it is moved into the file.
const CHECKPOINT_PAGES: i32 = 16_384;
/// Moves the log into the file. Its answer begins with whether a reader was in the way.
pub(super) const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// Page cache of the writer, in KiB.
const WRITER_CACHE_KIB: i32 = 16 * 1024;
/// The smallest database that SQLite makes has one page of the smallest size.
const LEAST_BYTES: u64 = 512;

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
    /// It is not what was written.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It is sound, but what was acknowledged is not in it.
    #[error("{path} has lost what was acknowledged: {why}")]
    Behind {
        /// The file.
        path: PathBuf,
        /// The file that says so.
        mark: PathBuf,
        /// What is missing.
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

/// A file that was opened.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) writer: Connection,
    pub(super) position: Position,
    pub(super) mark: Mark,
}

/// Opens a file, or makes it.
pub(super) fn file(path: &Path) -> Result<Opened, OpenError> {
    let lock = take_lock(path)?;
    let unusable = |error: rusqlite::Error| explain(path, &error);
    refuse_a_log_without_its_file(path)?;
    let mut writer = Connection::open(path).map_err(unusable)?;
    // The last connection to close would move the log into the file, also where the start is refused because one
    // of them is damaged, and remove what could be saved of it.
    writer
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(unusable)?;
    let schema = identify(&writer, path)?;
    look_for_damage(&writer, path, schema)?;
    migrate(&mut writer, path, schema)?;
    let run = configure(&writer).map_err(unusable)?;
    let position = Position::of(&writer).map_err(unusable)?;
    let mark = Mark::begin(path, run, position).map_err(|error| no_mark(path, &error))?;
    Ok(Opened {
        lock,
        writer,
        position,
        mark,
    })
}

/// SQLite would remove the log of a file that is not there, and begin a new one. Where there is neither, somebody
/// removed the store on purpose.
fn refuse_a_log_without_its_file(path: &Path) -> Result<(), OpenError> {
    let length = |file: &Path| file.metadata().ok().map(|file| file.len());
    let has_log = length(&companion(path, "-wal")).is_some_and(|length| length > 0);
    match length(path) {
        Some(LEAST_BYTES..) => Ok(()),
        _ if has_log => Err(OpenError::Damaged {
            path: path.to_path_buf(),
            why: "it is missing or next to empty, and its log (-wal) is there".into(),
        }),
        None => Mark::forget(path).map_err(|error| no_mark(path, &error)),
        Some(_) => Ok(()),
    }
}

/// What says that a process has the file open.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone gives it back only with the last copy of the descriptor, and a program that is just being started
        // has one until it runs. What cannot be given back now is, then.
        let _ = self.0.unlock();
    }
}

/// Another process that has the file open holds this lock.
pub(super) fn take_lock(path: &Path) -> Result<Lock, OpenError> {
    let name = companion(path, ".lock");
    let unusable = |error: &std::io::Error| OpenError::Unusable {
        path: path.to_path_buf(),
        why: format!("{}: {error}", name.display()),
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| unusable(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(&error)),
    }
}

fn no_mark(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unusable {
        path: path.to_path_buf(),
        why: format!("{}: {error}", Mark::path(path).display()),
    }
}

/// Whether the file was a store when it was last used: then it is no foreign one, whatever it looks like now.
fn was_a_store(path: &Path) -> bool {
    matches!(Mark::read(path), Ok(Some(_)))
}

pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let was_a_store = was_a_store(path);
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) if !was_a_store => OpenError::Foreign {
            path,
            why: "it is not an SQLite database".into(),
        },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            path,
            why: error.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
        _ => OpenError::Unusable {
            path,
            why: error.to_string(),
        },
    }
}

/// Finds out whether the file is ours, and how many steps of the schema it has taken. Changes nothing.
fn identify(writer: &Connection, path: &Path) -> Result<usize, OpenError> {
    let unusable = |error: rusqlite::Error| explain(path, &error);
    let pragma = |name: &str| -> Result<i64, OpenError> {
        writer
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(unusable)
    };
    let found = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    let tables: i64 = writer
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(unusable)?;
    let path = path.to_path_buf();
    let ours = pragma("application_id")? == i64::from(APPLICATION_ID);
    if was_a_store(&path) && (tables == 0 || !ours) {
        let why = "it was a store of this program, and is empty or something else now".into();
        return Err(OpenError::Damaged { path, why });
    }
    if tables > 0 && !ours {
        let why = "it is the database of another program".into();
        return Err(OpenError::Foreign { path, why });
    }
    let known = MIGRATIONS.len();
    if found > known {
        return Err(OpenError::Newer { path, found, known });
    }
    Ok(found)
}

/// Looks whether all that was acknowledged is there, and sound, before anything is changed.
pub(super) fn look_for_damage(writer: &Connection, path: &Path, schema: usize) -> Result<(), OpenError> {
    let unusable = |error: rusqlite::Error| explain(path, &error);
    if schema == 0 {
        return Ok(());
    }
    let log = damage::in_log(writer, path).map_err(|error| match error {
        Unread::Sqlite(error) => unusable(error),
        Unread::File(error) => OpenError::Unusable {
            path: path.to_path_buf(),
            why: format!("its log: {error}"),
        },
    })?;
    let told = Mark::read(path).map_err(|error| no_mark(path, &error))?;
    let was_clean = told.as_ref().is_some_and(Told::is_at_rest);
    let found = match log {
        None => damage::in_file(writer, path, was_clean).map_err(unusable)?,
        found => found,
    };
    if let Some(why) = found {
        let path = path.to_path_buf();
        return Err(OpenError::Damaged { path, why });
    }
    let run = mark::run(writer).map_err(unusable)?;
    let there = Position::of(writer).map_err(unusable)?;
    match told.filter(|told| Some(&told.run) == run.as_ref()) {
        Some(told) => is_all_there(path, there, told.position),
        // Another file was put in place, or nothing is known.
        None => Ok(()),
    }
}

/// Whether a file is as far as the mark says.
fn is_all_there(path: &Path, there: Position, told: Position) -> Result<(), OpenError> {
    let why = if there.seq < told.seq {
        format!(
            "it ends at event {}, and event {} was answered",
            there.seq, told.seq
        )
    } else if there.quiet < told.quiet {
        let missing = told.quiet - there.quiet;
        format!("{missing} changes that no event tells of are missing")
    } else {
        return Ok(());
    };
    Err(OpenError::Behind {
        path: path.to_path_buf(),
        mark: Mark::path(path),
        why,
    })
}

fn migrate(writer: &mut Connection, path: &Path, found: usize) -> Result<(), OpenError> {
    let unusable = |error: rusqlite::Error| explain(path, &error);
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

/// Sets up the writer, and begins a run.
fn configure(writer: &Connection) -> rusqlite::Result<String> {
    writer.pragma_update(None, "synchronous", "FULL")?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    writer.pragma_update(None, "temp_store", "MEMORY")?;
    writer.set_prepared_statement_cache_capacity(128);
    let run = mark::begin_run(writer)?;
    // What an earlier process left in the log goes into the file before anyone is served. So does the run, which must
    // be known when the log is lost.
    writer.query_row(CHECKPOINT, [], |_| Ok(()))?;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_a_program_that_starts_has_a_copy_of_it() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("store.db");
        let lock = take_lock(&path).expect("nobody has it");
        assert!(matches!(take_lock(&path), Err(OpenError::InUse { .. })));
        let copy = lock.0.try_clone().expect("a descriptor is left");
        drop(lock);
        take_lock(&path).expect("nobody has it any more");
        drop(copy);
    }
}
