//! One at a time in a repository: `git worktree add` and its like collide when several run at once.
//!
//! The tasks of this process take turns at a mutex; processes at a file, whose lock the system gives back however its
//! holder ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::Error;

/// How long a lock of another process is waited for. Each of its steps is shorter.
const LOCK_TIME: Duration = Duration::from_mins(5);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);
/// In the directory that all worktrees of a repository share.
const FILE: &str = "adjutant-worktrees";

/// Taken while this lives.
pub(super) struct Turn<'a> {
    // Given back in this order.
    _file: File,
    _process: MutexGuard<'a, ()>,
}

/// Waits for a turn in the repository with this common directory.
pub(super) async fn take<'a>(mutex: &'a Mutex<()>, common: &Path) -> Result<Turn<'a>, Error> {
    let process = mutex.lock().await;
    let path = common.join(FILE);
    let unusable = |error| Error::io(format!("cannot lock {}", path.display()), error);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(unusable)?;
    let end = Instant::now() + LOCK_TIME;
    loop {
        match file.try_lock() {
            Ok(()) => {
                return Ok(Turn {
                    _file: file,
                    _process: process,
                });
            }
            Err(TryLockError::WouldBlock) if Instant::now() < end => tokio::time::sleep(POLL).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path,
                    limit: LOCK_TIME,
                });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
}
