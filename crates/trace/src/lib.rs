//! Traces: one for each task, sent to a collector as OTLP over HTTP.
//!
//! ```text
//! submit_task                        from its arrival until it was durable
//! ├─ dispatch_task                   from when it was startable until its attempt was durable; one for each attempt
//! │  └─ invoke_agent NAME            the attempt, with the attributes of the conventions for generative AI
//! │     └─ settle_task               from the end of the attempt until that was durable
//! └─ settle_task                     of a task that ended without an attempt
//! ```
//!
//! - `record`: what of a turn is worth a span, noted on the thread that takes the turns.
//! - `spans`: spans of what was noted; `identity`: their numbers; `names`: the names of their attributes.
//! - `exporter`: sends them.
//!
//! # Invariants
//! - Nothing here slows a turn or fails one: a turn is noted with a few pointers, and what finds no room is dropped.
//! - Memory is bounded: see `MAX_NOTED`.
//! - Each span is sent once: by the server that committed what it tells of, when that was durable. Servers that share a
//!   store and servers after a restart agree on its number and that of its trace.
//!
//! # Not here
//! Flags: the command line. Spans of what the agent does itself: the agent.

mod exporter;
mod identity;
mod names;
mod record;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use adjutant_core::agent::Agent;
use adjutant_engine::watch::{Turn, Watcher};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;

pub use exporter::Endpoint;
use record::{Names, Record};

/// The most notes that wait to be sent; further ones are dropped. A note is a few pointers, of rows that may be kept for
/// nothing else: some ten MiB in all.
const MAX_NOTED: usize = 16_384;
/// The most turns that wait to be sent. Each has at least one note.
const MAX_TURNS: usize = 4_096;

/// Why traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Notes that wait, and how many found no room.
#[derive(Debug, Default)]
struct Room {
    noted: AtomicUsize,
    dropped: AtomicU64,
}

/// What sends traces, for as long as the server runs.
#[derive(Debug)]
pub struct Traces {
    task: JoinHandle<()>,
}

impl Traces {
    /// Starts to send. The agents are those that there are. The watcher is for the engine: when that drops it, what was noted is
    /// sent and there is an end.
    ///
    /// # Errors
    /// When no connection can be made ready. Whether anybody listens is not looked at.
    pub fn start(endpoint: &Endpoint, agents: &[Arc<Agent>]) -> Result<(Self, Box<dyn Watcher>), Error> {
        let exporter = exporter::Exporter::new(endpoint)?;
        let (queue, notes) = channel(MAX_TURNS);
        let room = Arc::new(Room::default());
        let mut names = Names::default();
        for agent in agents {
            names.learn(agent);
        }
        let task = tokio::spawn(exporter.run(notes, Arc::clone(&room)));
        Ok((Self { task }, Box::new(Scribe { queue, room, names })))
    }

    /// Waits until what was noted is sent, but not for longer than `patience`. The engine must have ended.
    pub async fn finish(mut self, patience: Duration) {
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            tracing::warn!("the last traces could not be sent in time and are lost");
            self.task.abort();
        }
    }
}

/// Notes what turns do.
struct Scribe {
    queue: Sender<Vec<Record>>,
    room: Arc<Room>,
    names: Names,
}

impl Watcher for Scribe {
    fn turn(&mut self, turn: &Turn<'_>) {
        self.names.follow(turn.changes);
        let records = record::of(turn.changes, &self.names, turn.at);
        self.names.forget(turn.changes);
        if records.is_empty() {
            return;
        }
        let count = records.len();
        let before = self.room.noted.fetch_add(count, Ordering::Relaxed);
        if before >= MAX_NOTED || self.queue.try_send(records).is_err() {
            self.room.noted.fetch_sub(count, Ordering::Relaxed);
            self.room.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}
