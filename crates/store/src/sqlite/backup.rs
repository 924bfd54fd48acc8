//! Backups: a copy of a store at one moment, made while a server works on it, and put back.
//!
//! A backup is made by a connection beside the server's with `VACUUM INTO`: it reads one state, takes no lock that the
//! server could meet, and leaves out the holes of deleted rows, so that the copy is as small as its content. Until it
//! is done the server's log grows by what is committed meanwhile. SQLite's other way, copying page by page, begins
//! anew whenever another process commits, and with a server under load never ends.
//!
//! The copy is written beside its place under another name, synced, and then renamed: a backup is there whole or not
//! at all. It names no run of a server, because it is meant to be older than what was answered since.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::open::take_lock;
use super::{OpenError, companion, onlooker, target_of};

/// Files that SQLite or this program keep beside a store.
const COMPANIONS: [&str; 5] = ["-wal", "-shm", "-journal", ".lock", ".mark"];

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store cannot be read.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// Something is there already.
    #[error("{path} exists already")]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// The copy would replace the store, or a part of it.
    #[error("{path} belongs to the store itself")]
    Itself {
        /// Where the copy was to go.
        path: PathBuf,
    },
    /// Another process writes a copy to the same place.
    #[error("another process is writing {path}")]
    Busy {
        /// Its unfinished copy.
        path: PathBuf,
    },
    /// What was to be copied is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        why: String,
    },
    /// The copy cannot be written.
    #[error("{path} cannot be written: {why}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What stands in the way.
        why: String,
    },
}

/// What is in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Its size.
    pub bytes: u64,
    /// How many tasks it has.
    pub tasks: u64,
    /// The number of the last event in it; 0 when it has none.
    pub last_seq: u64,
}

/// Copies a store to a new file that only its user can read, also while a server works on it. A file that is there is
/// replaced when `replace` says so.
///
/// # Durability
/// When it returns `Ok` the copy is on the disk, with everything that was acknowledged before the call.
///
/// # Errors
/// See [`CopyError`]. Then nothing is left, and a file that was there is as it was.
pub fn backup(store: impl AsRef<Path>, target: impl AsRef<Path>, replace: bool) -> Result<Copied, CopyError> {
    let (store, target) = (store.as_ref(), target.as_ref());
    let source = onlooker::open(store)?;
    if is_part_of(store, target) {
        return Err(CopyError::Itself { path: target.into() });
    }
    copy(&source.db, target, replace)
}

/// Puts a backup in the place of a store that is not there.
///
/// # Durability
/// When it returns `Ok` the store is on the disk.
///
/// # Errors
/// See [`CopyError`]: also when another process has the place open, or something of an earlier store is left there.
pub fn restore(backup: impl AsRef<Path>, store: impl AsRef<Path>) -> Result<Copied, CopyError> {
    let (backup, store) = (backup.as_ref(), target_of(store.as_ref()));
    let store = store.as_path();
    let source = onlooker::open(backup)?;
    let _lock = take_lock(store)?;
    make_room(store)?;
    let sound = source
        .db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match sound {
        Ok(text) if text == "ok" => copy(&source.db, store, false),
        Ok(why) => Err(CopyError::Damaged {
            path: backup.into(),
            why: why.lines().collect::<Vec<_>>().join(" "),
        }),
        Err(error) => Err(CopyError::Damaged {
            path: backup.into(),
            why: error.to_string(),
        }),
    }
}

/// There must be no store, and no log of one: SQLite would take it for that of the new file. What a clean end leaves is
/// empty and goes.
pub(super) fn make_room(store: &Path) -> Result<(), CopyError> {
    if store.symlink_metadata().is_ok() {
        return Err(CopyError::Exists { path: store.into() });
    }
    for path in ["-wal", "-journal"].map(|ending| companion(store, ending)) {
        if path.metadata().is_ok_and(|file| file.len() > 0) {
            return Err(CopyError::Exists { path });
        }
    }
    for path in ["-wal", "-shm"].map(|ending| companion(store, ending)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let why = error.to_string();
                return Err(CopyError::Unwritable { path, why });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a path names a store, or something that belongs to it, under whatever name.
fn is_part_of(store: &Path, target: &Path) -> bool {
    let Ok(there) = target.metadata() else {
        // What is not there yet may be, as soon as the store needs it.
        return COMPANIONS.iter().any(|ending| companion(store, ending) == target);
    };
    std::iter::once("")
        .chain(COMPANIONS)
        .filter_map(|ending| companion(store, ending).metadata().ok())
        .any(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
}

/// Writes the state that a connection sees to a file, whole or not at all.
fn copy(source: &Connection, target: &Path, replace: bool) -> Result<Copied, CopyError> {
    if !replace && target.symlink_metadata().is_ok() {
        return Err(CopyError::Exists { path: target.into() });
    }
    let unwritable = |path: &Path, why: String| CopyError::Unwritable {
        path: path.into(),
        why,
    };
    let name = part_of(target).ok_or_else(|| unwritable(target, "it names no file".into()))?;
    let part = Part::begin(name)?;
    let copied = write(source, &part).map_err(|error| unwritable(target, error.to_string()))?;
    part.file
        .sync_all()
        .and_then(|()| put(&part.path, target, replace))
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CopyError::Exists { path: target.into() },
            _ => unwritable(target, error.to_string()),
        })?;
    Ok(copied)
}

fn write(source: &Connection, part: &Part) -> Result<Copied, Unwritten> {
    let path = part.path.to_str().ok_or(Unwritten::Name)?;
    source.execute("VACUUM INTO ?1", [path])?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&part.path, flags)?;
    // Nobody has seen the copy: what a crash leaves of it is thrown away.
    db.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")?;
    db.execute("DELETE FROM meta WHERE name = 'run'", [])?;
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tasks = number("SELECT count(*) FROM task")?.unsigned_abs();
    let last_seq = number("SELECT coalesce(max(seq), 0) FROM event")?.unsigned_abs();
    db.close().map_err(|(_, error)| error)?;
    Ok(Copied {
        bytes: part.file.metadata()?.len(),
        tasks,
        last_seq,
    })
}

/// Why a copy was not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("its name is not valid UTF-8, which SQLite needs")]
    Name,
}

/// The name of an unfinished copy.
pub(super) fn part_of(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?;
    Some(companion(&target.with_file_name(name), ".part"))
}

/// A copy that is not finished; gone when it is dropped.
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Held so that no other process writes to the same file.
    pub(super) file: File,
}

impl Part {
    /// Begins one. What a crash left there is overwritten.
    pub(super) fn begin(path: PathBuf) -> Result<Self, CopyError> {
        let unwritable = |error: &io::Error| CopyError::Unwritable {
            path: path.clone(),
            why: error.to_string(),
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unwritable(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CopyError::Busy { path }),
            Err(TryLockError::Error(error)) => return Err(unwritable(&error)),
        }
        if !is_at(&file, &path) {
            // Another one has just put it in its place.
            return Err(CopyError::Busy { path });
        }
        file.set_len(0)
            .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
            .map_err(|error| unwritable(&error))?;
        Ok(Self { path, file })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it is in its place there is nothing under this name, or what another one has begun.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is the one with this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Puts a finished file in its place, and makes that last.
pub(super) fn put(part: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        std::fs::rename(part, target)?;
    } else {
        match renameat_with(CWD, part, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // This disk cannot do both at once.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                if target.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                std::fs::rename(part, target)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
