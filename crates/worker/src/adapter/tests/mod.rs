//! The adapters, fed with what their programs print and asked what they call.

mod calls;
mod noise;
mod transcripts;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use adjutant_core::time::Timestamp;

use super::{Adapter, AdapterKind, Past};
use crate::feed::Feed;
use crate::outcome::{Exit, Outcome, judge};
use crate::session::Session;
use crate::usage::Totals;

/// The time at which everything is judged.
const NOW: Timestamp = Timestamp::from_micros(1_796_000_000_000_000);

/// What became of an attempt.
struct Ended {
    outcome: Outcome,
    output: String,
    usage: Vec<Totals>,
    session: Option<Session>,
}

/// Plays a transcript, in pieces of this size, and ends with this exit code.
fn play(kind: AdapterKind, transcript: &[u8], size: usize, code: i32, stderr: &str, past: Past) -> Ended {
    let exit = Exit::Itself(ExitStatus::from_raw(code << 8));
    play_until(exit, kind, transcript, size, stderr, past)
}

/// The same with another end.
fn play_until(
    exit: Exit,
    kind: AdapterKind,
    transcript: &[u8],
    size: usize,
    stderr: &str,
    past: Past,
) -> Ended {
    let adapter = Adapter::new(kind, &[kind.name().to_owned()]);
    let feed = Feed::new(adapter.listener(Vec::new(), past));
    for piece in transcript.chunks(size) {
        feed.stdout(piece);
    }
    feed.stderr(stderr.as_bytes());
    feed.close();
    let outcome = judge(&adapter, exit, &feed.take_heard(), NOW);
    let session = feed.session().borrow().clone();
    Ended {
        outcome,
        output: feed.take_output(),
        usage: feed.usage(|usage| usage.untold()),
        session,
    }
}

fn transcripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"))
}
