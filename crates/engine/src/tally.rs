//! The tally: numbers that the engine keeps as it goes along, so that nobody has to count rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use adjutant_core::set::rows::Changes;
use adjutant_store::{Forgotten, StoreError};

/// Kinds of store errors, by the names under which they are counted.
pub const STORE_ERRORS: [&str; 4] = ["full", "busy", "unavailable", "broken"];

/// What is counted. Everything starts at zero with the process.
#[derive(Debug, Default)]
pub struct Tally {
    waiting: AtomicU64,
    store_errors: [AtomicU64; STORE_ERRORS.len()],
    bugs: AtomicU64,
    /// Tasks by state; none where other servers change them too, or where they could not be counted at the start.
    tasks: Mutex<Option<[u64; 6]>>,
}

impl Tally {
    pub(crate) fn starting_with(tasks: Option<[u64; 6]>) -> Self {
        Self {
            tasks: Mutex::new(tasks),
            ..Self::default()
        }
    }

    /// Agents that wait for work in a long poll.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Errors of the store, in the order of [`STORE_ERRORS`]; those after which a turn was tried again are among them.
    pub fn store_errors(&self) -> [u64; STORE_ERRORS.len()] {
        std::array::from_fn(|kind| self.store_errors[kind].load(Ordering::Relaxed))
    }

    /// Turns that were discarded because they met a bug, or a row that cannot be read.
    pub fn bugs(&self) -> u64 {
        self.bugs.load(Ordering::Relaxed)
    }

    /// How many tasks are in each state, in the order of [`Status::ALL`](adjutant_core::task::Status::ALL), where this
    /// server alone changes them.
    pub fn tasks(&self) -> Option<[u64; 6]> {
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an agent that waits, as long as the guard lives.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        let kind = match error {
            StoreError::Full(_) => 0,
            StoreError::Busy(_) => 1,
            StoreError::Unavailable(_) => 2,
            StoreError::Broken(_) => 3,
        };
        self.store_errors[kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn met_a_bug(&self) {
        self.bugs.fetch_add(1, Ordering::Relaxed);
    }

    /// A turn was committed.
    pub(crate) fn committed(&self, changes: &Changes) {
        if changes.tasks.is_empty() {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = tasks.as_mut() else { return };
        for change in &changes.tasks {
            if let Some(before) = &change.before {
                let count = &mut tasks[usize::from(before.status.code())];
                *count = count.saturating_sub(1);
            }
            if let Some(now) = &change.now {
                tasks[usize::from(now.status.code())] += 1;
            }
        }
    }

    /// What was over and not kept was forgotten.
    pub(crate) fn forgot(&self, forgotten: &Forgotten) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = tasks.as_mut() else { return };
        for (count, gone) in tasks.iter_mut().zip(forgotten.by_status) {
            *count = count.saturating_sub(gone);
        }
    }
}

/// An agent that waits.
pub(crate) struct Waiting<'a>(&'a Tally);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_not_counted_any_more() {
        let tally = Tally::starting_with(Some([1, 2, 3, 40, 50, 60]));
        tally.forgot(&Forgotten {
            tasks: 6,
            by_status: [0, 0, 0, 1, 2, 3],
            ..Forgotten::default()
        });
        assert_eq!(tally.tasks(), Some([1, 2, 3, 39, 48, 57]));
    }

    #[test]
    fn an_agent_waits_as_long_as_its_guard_lives() {
        let tally = Tally::starting_with(None);
        let (one, other) = (tally.wait(), tally.wait());
        assert_eq!(tally.waiting(), 2);
        drop((one, other));
        assert_eq!((tally.waiting(), tally.tasks()), (0, None));
    }
}
