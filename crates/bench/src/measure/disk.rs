//! What the disk takes for one durable write: for scale.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::time::Instant;

use rusqlite::Connection;

use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::server::TemporaryDir;

const WRITES: usize = 1_000;
const BLOCK: [u8; 4_096] = [7; 4_096];

pub(super) fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    let dir = TemporaryDir::new(arguments)?;
    let mut file = File::create(dir.path().join("file"))?;
    let (mut append, mut overwrite) = (Times::default(), Times::default());
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        append.push(begun.elapsed());
    }
    for _ in 0..WRITES {
        file.seek(SeekFrom::Start(0))?;
        let begun = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        overwrite.push(begun.elapsed());
    }
    figures.put_times("disk.fdatasync_append_4k", &mut append);
    figures.put_times("disk.fdatasync_overwrite_4k", &mut overwrite);
    let mut commits = commits(&dir).map_err(io::Error::other)?;
    figures.put_times("disk.sqlite_commit", &mut commits);
    Ok(())
}

/// One row per commit, in the way in which the server commits.
fn commits(dir: &TemporaryDir) -> rusqlite::Result<Times> {
    let db = Connection::open(dir.path().join("scale.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE row (key INTEGER PRIMARY KEY, body TEXT NOT NULL)")?;
    let body = "x".repeat(500);
    let mut insert = db.prepare("INSERT INTO row (body) VALUES (?1)")?;
    let mut times = Times::default();
    for _ in 0..WRITES {
        let begun = Instant::now();
        insert.execute([&body])?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
