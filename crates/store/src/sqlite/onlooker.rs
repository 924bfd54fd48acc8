//! Onlookers: connections beside the owner's. They read what is committed, and neither ask for the lock nor write.
//!
//! In WAL mode a reader sees one state for as long as it reads and never makes the owner wait. What it costs is that
//! the log cannot be moved into the file past what the reader sees: it grows until the reader is done.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::open::{APPLICATION_ID, MIGRATIONS, OpenError, explain};

/// How long a reader waits while the owner recovers the log after a crash.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store's file, opened to be read.
pub(super) struct Onlooker {
    /// The connection.
    pub(super) db: Connection,
    /// How many steps of the schema the file has taken.
    pub(super) schema: usize,
}

/// Opens a file that must be a store of this program, of this version or an older one. Nothing is made or changed.
pub(super) fn open(path: &Path) -> Result<Onlooker, OpenError> {
    let unusable = |error: rusqlite::Error| match error.sqlite_error_code() {
        // What keeps the owner out keeps no reader out.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Unusable {
            path: path.to_path_buf(),
            why: error.to_string(),
        },
        _ => explain(path, &error),
    };
    if let Err(error) = std::fs::metadata(path) {
        return Err(OpenError::Unusable {
            path: path.to_path_buf(),
            why: error.to_string(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(unusable)?;
    db.busy_timeout(PATIENCE).map_err(unusable)?;
    let pragma = |name: &str| -> Result<i64, OpenError> {
        db.pragma_query_value(None, name, |row| row.get(0))
            .map_err(unusable)
    };
    if pragma("application_id")? != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign {
            path: path.to_path_buf(),
            why: "it is empty, or the database of another program".into(),
        });
    }
    let schema = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    if schema > MIGRATIONS.len() {
        return Err(OpenError::Newer {
            path: path.to_path_buf(),
            found: schema,
            known: MIGRATIONS.len(),
        });
    }
    Ok(Onlooker { db, schema })
}
