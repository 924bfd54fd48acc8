//! The mark: how far the store was when it last answered, in a small file beside it.
//!
//! SQLite takes a log that was cut off for one that ends earlier: that is how it drops what a crash interrupted, and
//! it would drop acknowledged commits in the same silence. So every commit is followed by a line in `FILE.mark`, and
//! a start compares. The line is written after the commit and never synced: whatever of it survives a power cut is at
//! most what was durable, so that the comparison raises no false alarm.
//!
//! Events number the commits for free. A commit without events counts as a quiet one, in a row of its own.
//!
//! The line names the run that wrote it, and the run is in the file as well: an older file that was put in place on
//! purpose belongs to another run, and is not compared.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Result};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};

use super::companion;

/// How many commits there were, with events and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The number of the last event.
    pub(super) seq: u64,
    /// The number of the last commit without events.
    pub(super) quiet: u64,
}

impl Position {
    /// How far the file is.
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| -> rusqlite::Result<u64> {
            let number: i64 = db.query_row(sql, [], |row| row.get(0))?;
            Ok(number.unsigned_abs())
        };
        Ok(Self {
            seq: number("SELECT coalesce(max(seq), 0) FROM event")?,
            quiet: number("SELECT coalesce((SELECT value FROM meta WHERE name = 'quiet'), 0)")?,
        })
    }
}

/// What a mark says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) run: String,
    pub(super) position: Position,
}

impl Told {
    /// Whether the last end was a clean one.
    pub(super) fn is_at_rest(&self) -> bool {
        self.position == Position::default()
    }

    /// All numbers have their full width, so that a line replaces the one before it exactly. They stand there twice:
    /// a line that was replaced in part is none.
    fn line(&self) -> String {
        let Position { seq, quiet } = self.position;
        format!("{} {seq:020} {quiet:020} {seq:020} {quiet:020}\n", self.run)
    }

    /// Nothing where a power cut left something else than a line.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let run = words.next().filter(|run| run.len() == 32)?.to_owned();
        let mut position = || {
            Some(Position {
                seq: words.next()?.parse().ok()?,
                quiet: words.next()?.parse().ok()?,
            })
        };
        let (position, again) = (position()?, position()?);
        let whole = position == again && words.next().is_none();
        whole.then_some(Self { run, position })
    }
}

/// The mark of a store that is open.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    run: String,
}

impl Mark {
    /// Where it is.
    pub(super) fn path(store: &Path) -> PathBuf {
        companion(store, ".mark")
    }

    /// What the last run left, if it left something.
    pub(super) fn read(store: &Path) -> Result<Option<Told>> {
        let mut text = String::new();
        match File::open(Self::path(store)).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Ok(Told::parse(&text)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Somebody removed the store on purpose.
    pub(super) fn forget(store: &Path) -> Result<()> {
        match std::fs::remove_file(Self::path(store)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins the mark of this run, which the file names already.
    pub(super) fn begin(store: &Path, run: String, position: Position) -> Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(Self::path(store))?;
        let mark = Self { file, run };
        mark.write(position)?;
        Ok(mark)
    }

    fn write(&self, position: Position) -> Result<()> {
        let told = Told {
            run: self.run.clone(),
            position,
        };
        self.file.write_all_at(told.line().as_bytes(), 0)
    }

    /// A commit is durable. A mark that cannot be written stays behind, which is safe.
    pub(super) fn advance(&self, position: Position) {
        if let Err(error) = self.write(position) {
            tracing::debug!(%error, "the mark was not written");
        }
    }

    /// The store is closed and all of it is in the file: from now on it may be copied, moved and put back.
    pub(super) fn rest(&self) {
        self.advance(Position::default());
    }
}

/// The run that last had the file.
pub(super) fn run(db: &Connection) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT hex(value) FROM meta WHERE name = 'run'", [], |row| {
        row.get(0)
    })
    .optional()
}

/// A new run begins.
pub(super) fn begin_run(db: &Connection) -> rusqlite::Result<String> {
    db.execute(
        "INSERT OR REPLACE INTO meta (name, value) VALUES ('run', randomblob(16))",
        [],
    )?;
    run(db)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_nothing_else_is() {
        let told = Told {
            run: "0123456789ABCDEF0123456789ABCDEF".into(),
            position: Position {
                seq: 7,
                quiet: u64::MAX,
            },
        };
        let line = told.line();
        assert_eq!(Told::parse(&line).as_ref(), Some(&told));
        let next = Told {
            position: Position {
                seq: 10,
                ..told.position
            },
            ..told
        }
        .line();
        assert_eq!(next.len(), line.len());
        let half = format!("{}{}", &next[..70], &line[70..]);
        for torn in [
            "",
            "\0\0\0\0",
            &line[..line.len() - 1],
            &line[1..],
            &half,
            &format!("{line}x\n"),
        ] {
            assert_eq!(Told::parse(torn), None, "{torn:?}");
        }
    }
}
