//! Forgetting: when the store is asked for the next batch of what is over and not kept.
//!
//! A batch goes between two turns, so a turn waits for at most one; the pause after it leaves most of the time to
//! turns.

use adjutant_core::retention::Retention;
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::{Forgotten, Store};

use crate::run::Failure;
use crate::tally::Tally;
use crate::turns::{NotTaken, Turns};

/// Between two batches.
const PAUSE: Span = Span::from_millis(25);
/// When nothing more can go, it is looked again after so long.
const REST: Span = Span::from_secs(60);

/// What is to be forgotten, and when it goes on.
#[derive(Debug)]
pub(crate) struct Forgetting {
    retention: Retention,
    next: Timestamp,
    /// What went since the last rest.
    gone: Forgotten,
}

impl Forgetting {
    pub(crate) fn new(retention: Retention, now: Timestamp) -> Self {
        let next = if retention.keeps_all() {
            Timestamp::NEVER
        } else {
            now
        };
        Self {
            retention,
            next,
            gone: Forgotten::default(),
        }
    }

    /// When the next batch is due.
    pub(crate) const fn next(&self) -> Timestamp {
        self.next
    }

    /// Has the next batch forgotten.
    ///
    /// # Errors
    /// When it is not known whether it was committed. Whatever else goes wrong is tried again later.
    pub(crate) fn go_on<S: Store>(
        &mut self,
        turns: &mut Turns<S>,
        tally: &Tally,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match turns.forget(&self.retention, now) {
            Ok(forgotten) => {
                tally.forgot(&forgotten);
                self.gone.tasks += forgotten.tasks;
                self.gone.jobs += forgotten.jobs;
                self.gone.events += forgotten.events;
                if forgotten.more {
                    self.next = now + PAUSE;
                } else {
                    self.rest(now);
                }
                Ok(())
            }
            Err(NotTaken::Unknown(why)) => {
                tracing::error!(%why, "the outcome of a commit is unknown: the server ends");
                Err(Failure::Unknown(why))
            }
            Err(error) => {
                if let NotTaken::Store(error) = &error {
                    tally.failed(error);
                }
                tracing::warn!(?error, "what is over could not be forgotten; it is tried again");
                self.rest(now);
                Ok(())
            }
        }
    }

    fn rest(&mut self, now: Timestamp) {
        self.next = now + REST;
        let Forgotten {
            tasks, jobs, events, ..
        } = std::mem::take(&mut self.gone);
        if tasks + jobs + events > 0 {
            tracing::info!(tasks, jobs, events, "forgot what is over and not kept");
        }
    }
}
