//! Damage: a file or a log that is not what was written.
//!
//! A start looks for it before anything is changed, in four ways:
//! - SQLite itself refuses a file that is shorter than it should be.
//! - The log is damaged in its middle when commits stand behind the place where SQLite stops reading.
//! - The [mark](super::mark) says how far the store was.
//! - `PRAGMA integrity_check` looks over the whole file, for a bounded time: first how pages hang together, then
//!   whether indexes and tables agree.
//!
//! Later on a statement may meet it. Then the [`Alarm`] rings, and the process is to end.
//!
//! # Not here
//! Wrong bits inside of a value: SQLite keeps no checksums of pages.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::companion;

/// How long a start may look over the file when the last end was a clean one: nothing but the disk itself can have
/// damaged it since.
const CHECK_TIME: Duration = Duration::from_secs(1);
/// How long it may after a crash. Half a million tasks (0.8 GB) take that long from memory; of what is larger, or comes
/// from a slow disk, a part is looked over, and pages come first.
const CHECK_TIME_AFTER_CRASH: Duration = Duration::from_secs(5);
/// Bytes before the frames of a log.
const LOG_HEADER: usize = 32;
/// Bytes before the page in a frame.
const FRAME_HEADER: usize = 24;

/// Told once, when a statement finds that the file is damaged.
#[derive(Clone, Default)]
pub(super) struct Alarm(Arc<Bell>);

#[derive(Default)]
struct Bell {
    rung: OnceLock<String>,
    listener: OnceLock<Listener>,
}

type Listener = Box<dyn Fn(&str) + Send + Sync>;

impl Alarm {
    /// Has somebody told of damage. Only the first one is.
    pub(super) fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        if self.0.listener.set(Box::new(listener)).is_ok()
            && let Some(why) = self.0.rung.get()
            && let Some(listener) = self.0.listener.get()
        {
            listener(why);
        }
    }

    /// There is damage.
    pub(super) fn ring(&self, why: &str) {
        if self.0.rung.set(why.to_owned()).is_err() {
            return;
        }
        tracing::error!(why, "the store is damaged");
        if let Some(listener) = self.0.listener.get() {
            listener(why);
        }
    }

    /// Whether it rang.
    pub(super) fn has_rung(&self) -> bool {
        self.0.rung.get().is_some()
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm").field(&self.0.rung.get()).finish()
    }
}

/// Whether an error says that the file is not what SQLite wrote.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Looks over the file. Gives the first thing that is wrong with it.
///
/// # Errors
/// When the file cannot be read; damage may show in that way, too.
pub(super) fn in_file(db: &Connection, path: &Path, was_clean: bool) -> rusqlite::Result<Option<String>> {
    if let Some(why) = in_length(db, path)? {
        return Ok(Some(why));
    }
    let time = if was_clean {
        CHECK_TIME
    } else {
        CHECK_TIME_AFTER_CRASH
    };
    let interrupt = db.get_interrupt_handle();
    let (done, wait) = channel::<()>();
    let found = std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let found = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        drop(done);
        found
    });
    match found {
        Ok(text) if text == "ok" => Ok(None),
        // One line, whatever it says.
        Ok(text) => Ok(Some(text.lines().collect::<Vec<_>>().join(" "))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let seconds = CHECK_TIME.as_secs();
            tracing::info!(
                seconds,
                "the store is large: its structure was looked over in part"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// SQLite takes a last page that is cut off for one that ends in zeros.
fn in_length(db: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    // With something in the log the file may rightly be shorter.
    if frames_read(db)? > 0 {
        return Ok(None);
    }
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let should = number("page_count")?
        .saturating_mul(number("page_size")?)
        .unsigned_abs();
    let is = path.metadata().map_or(should, |file| file.len());
    Ok((is < should).then(|| format!("it has {is} bytes and should have {should}")))
}

/// How many frames of the log SQLite takes for good.
fn frames_read(db: &Connection) -> rusqlite::Result<u64> {
    let frames: i64 = db.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    // There is no log: -1.
    Ok(u64::try_from(frames).unwrap_or(0))
}

/// Looks for commits behind the place where SQLite stops reading the log.
///
/// A crash leaves at most one commit there, torn: the next one is written only after it was synced. Where a frame goes
/// on from the end of such a commit, that commit was acknowledged, and something before it is damaged. That it goes on
/// is seen by its checksum, which begins with the one before it: what a transaction that was rolled back left there
/// does not.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn in_log(db: &Connection, path: &Path) -> Result<Option<String>, Unread> {
    let log = match File::open(companion(path, "-wal")) {
        Ok(log) => log,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = log.metadata()?.len();
    let mut header = [0; LOG_HEADER];
    if length <= LOG_HEADER as u64 {
        return Ok(None);
    }
    log.read_exact_at(&mut header, 0)?;
    // SQLite takes a log with a broken header for an empty one. It syncs the header before the first frame.
    if !is_header(&header) {
        return Ok(Some("the header of its log is broken".into()));
    }
    let read = frames_read(db)?;
    let page = usize::try_from(word(&header, 8)).unwrap_or(0);
    let stride = FRAME_HEADER + page;
    let frames = length.saturating_sub(LOG_HEADER as u64) / stride as u64;
    let is_big_endian = header[3] & 1 == 1;
    let mut bytes = vec![0; stride];
    // The checksum of the frame before, when that is the end of a commit.
    let mut committed = None;
    for frame in read..frames {
        log.read_exact_at(&mut bytes, LOG_HEADER as u64 + frame * stride as u64)?;
        let told = (word(&bytes, 16), word(&bytes, 20));
        // Frames of an earlier use of the log have other salts.
        if bytes[8..16] != header[16..24] {
            committed = None;
            continue;
        }
        if let Some(before) = committed
            && checksum(
                checksum(before, &bytes[..8], is_big_endian),
                &bytes[FRAME_HEADER..],
                is_big_endian,
            ) == told
        {
            return Ok(Some(format!(
                "its log is broken at frame {} of {frames}, and commits after it cannot be read",
                read + 1
            )));
        }
        // The last frame of a commit says how large the file is then.
        committed = (word(&bytes, 4) != 0).then_some(told);
    }
    Ok(None)
}

/// Why the log was not read.
#[derive(Debug)]
pub(super) enum Unread {
    File(io::Error),
    Sqlite(rusqlite::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The header of a log begins with its magic number and ends with its checksum.
fn is_header(header: &[u8; LOG_HEADER]) -> bool {
    let magic = word(header, 0);
    if magic & !1 != 0x377f_0682 {
        return false;
    }
    let told = (word(header, 24), word(header, 28));
    checksum((0, 0), &header[..24], magic & 1 == 1) == told
}

/// SQLite's checksum of a log, over bytes that follow those that `before` stands for. The last bit of the magic number
/// says in which order it takes the bytes of a number.
fn checksum(before: (u32, u32), bytes: &[u8], is_big_endian: bool) -> (u32, u32) {
    let number = |at: usize| {
        let number = word(bytes, at);
        if is_big_endian {
            number
        } else {
            number.swap_bytes()
        }
    };
    (0..bytes.len()).step_by(8).fold(before, |(first, second), at| {
        let first = first.wrapping_add(number(at)).wrapping_add(second);
        let second = second.wrapping_add(number(at + 4)).wrapping_add(first);
        (first, second)
    })
}
