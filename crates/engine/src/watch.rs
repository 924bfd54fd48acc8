//! Watchers: who is told of each turn once it is durable, to count and to trace.
//!
//! A watcher sees what the server that it belongs to committed, and nothing else: with several servers on one store
//! each change is seen by exactly one of them. It is told on the thread that takes the turns, after the callers were
//! answered, so it must be quick and must not wait for anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use adjutant_core::set::rows::Changes;
use adjutant_core::time::Timestamp;

/// A turn that was taken, with what it took.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Requests that it was taken for.
    pub requests: usize,
    /// How long loading and deciding took.
    pub deciding: Duration,
    /// How long it took from then until the changes were durable.
    pub committing: Duration,
    /// What is durable now. Nothing for a turn that only answered questions.
    pub changes: &'a Changes,
    /// When it was durable.
    pub at: Timestamp,
}

/// Who is told of turns.
pub trait Watcher: Send {
    /// A turn was taken, and its changes are durable.
    fn turn(&mut self, turn: &Turn<'_>);
}

/// Those who are told.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Box<dyn Watcher>>);

impl Watchers {
    pub(crate) fn add(&mut self, watcher: Box<dyn Watcher>) {
        self.0.push(watcher);
    }

    /// Tells all of them. One that panics is not told again: figures are no reason to end a server.
    pub(crate) fn tell(&mut self, turn: &Turn<'_>) {
        self.0.retain_mut(|watcher| {
            let told = catch_unwind(AssertUnwindSafe(|| watcher.turn(turn)));
            if told.is_err() {
                tracing::error!("a watcher of turns panicked and is told no more: this is a bug");
            }
            told.is_ok()
        });
    }
}
