//! The tap: a store in memory with the witness beside it, planted faults, and planted bugs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adjutant_core::attempt::Attempt;
use adjutant_core::counter::Counter;
use adjutant_core::limit::{Scope, Window};
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::task::{Status, Task};
use adjutant_core::time::Timestamp;
use adjutant_store::memory::{Fault, Memory};
use adjutant_store::{CommitError, Forgotten, Reader, Store, StoreError};

use crate::bug::Bug;
use crate::witness::{Moment, Witness};

/// One commit in so many is lost, where commits are lost.
const LOST_EVERY: u64 = 40;
/// One load in so many is stale, where loads are.
const STALE_EVERY: u64 = 8;

/// One server's store.
#[derive(Debug)]
pub(crate) struct Tap {
    inner: Memory,
    witness: Arc<Mutex<Witness>>,
    /// What the turn that is under way is about.
    pub(crate) moment: Moment,
    pub(crate) fault: Option<Fault>,
    bug: Option<Bug>,
    /// The turn is one that a sound server would not take: the witness does not count it as a look at the clock.
    pub(crate) unseen: bool,
    calls: u64,
    /// Counters as an earlier load gave them.
    old_counters: HashMap<Scope, Arc<Counter>>,
}

impl Tap {
    pub(crate) fn new(inner: Memory, witness: Arc<Mutex<Witness>>, bug: Option<Bug>, moment: Moment) -> Self {
        Self {
            inner,
            witness,
            moment,
            fault: None,
            bug,
            unseen: false,
            calls: 0,
            old_counters: HashMap::new(),
        }
    }

    /// The process dies: nothing of it is committed from now on, and it holds nothing.
    pub(crate) fn die(&mut self) {
        self.inner.abandon();
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a store gives, as the planted bug would have it.
    fn bend_rows(&mut self, rows: &mut Rows) {
        match self.bug {
            Some(Bug::LockIgnored) => rows.locks.clear(),
            Some(Bug::LimitIgnored) => rows
                .policies
                .retain(|(scope, _)| !matches!(scope, Scope::Agent(_))),
            Some(Bug::WakeUpForgotten) => {
                if let Some(due) = &mut rows.due {
                    due.tasks.clear();
                    due.next = None;
                }
            }
            Some(Bug::CounterStartedTwice) => {
                let today = Window::Day.start(self.moment.now);
                rows.counters.retain(|counter| counter.day.start >= today);
            }
            Some(Bug::StaleRead) => {
                for counter in &mut rows.counters {
                    let old = self
                        .old_counters
                        .insert(counter.scope.clone(), Arc::clone(counter));
                    if let Some(old) = old
                        && self.calls.is_multiple_of(STALE_EVERY)
                    {
                        *counter = old;
                    }
                }
            }
            _ => {}
        }
    }

    /// What is stored, as the planted bug would have it.
    fn bend_changes(&self, changes: &Changes) -> Option<Changes> {
        let mut bent = changes.clone();
        match self.bug? {
            Bug::SettledTwice => {
                for attempt in ended(changes) {
                    for counter in bent.counters.iter_mut().filter_map(|change| change.now.as_mut()) {
                        if counter.scope == Scope::Agent(attempt.agent.clone()) {
                            let mut twice = (**counter).clone();
                            twice.active = twice.active.saturating_sub(1);
                            *counter = Arc::new(twice);
                        }
                    }
                }
            }
            Bug::RefundTooLarge => {
                for attempt in ended(changes) {
                    refund_all(&mut bent, &attempt);
                }
            }
            Bug::DependencyIgnored => {
                for task in bent.tasks.iter_mut().filter(|change| change.before.is_none()) {
                    if let Some(row) = &mut task.now
                        && row.status == Status::Blocked
                        && row.unmet > 0
                        && !row.held
                    {
                        *row = Arc::new(Task {
                            status: Status::Pending,
                            unmet: 0,
                            ..(**row).clone()
                        });
                    }
                }
                bent.edges.clear();
            }
            _ => return None,
        }
        Some(bent)
    }
}

/// Attempts that end in these changes.
fn ended(changes: &Changes) -> Vec<Arc<Attempt>> {
    changes
        .attempts
        .iter()
        .filter(|change| change.before.as_ref().is_some_and(|before| before.is_live()))
        .filter_map(|change| change.now.clone())
        .filter(|now| !now.is_live())
        .collect()
}

/// Refunds what is left of an attempt's charge, and keeps the counters in step.
fn refund_all(changes: &mut Changes, attempt: &Attempt) {
    let Changes {
        accounts, counters, ..
    } = changes;
    for account in accounts.iter_mut().filter(|change| change.key == attempt.key) {
        let Some(row) = &mut account.now else { continue };
        let mut bent = (**row).clone();
        for line in &mut bent.lines {
            if line.refunded == 0 {
                continue;
            }
            let more = line.tokens.counted() - line.refunded;
            line.refunded += more;
            let counter = counters
                .iter_mut()
                .filter_map(|change| change.now.as_mut())
                .find(|counter| counter.scope == line.scope);
            if let Some(counter) = counter {
                let mut less = (**counter).clone();
                for (window, tally) in [
                    (Window::Hour, &mut less.hour),
                    (Window::Day, &mut less.day),
                    (Window::Total, &mut less.total),
                ] {
                    if window.start(line.hour) == tally.start && line.resets == counter.resets {
                        tally.tokens -= i64::try_from(more).unwrap_or(0);
                    }
                }
                *counter = Arc::new(less);
            }
        }
        *row = Arc::new(bent);
    }
}

impl Store for Tap {
    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn lane(&self) -> u8 {
        self.inner.lane()
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        let mut rows = self.inner.census()?;
        self.bend_rows(&mut rows);
        Ok(rows)
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        self.calls += 1;
        let mut rows = self.inner.load(wanted)?;
        self.bend_rows(&mut rows);
        Ok(rows)
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        self.calls += 1;
        self.apply(changes)
    }

    fn forget(&mut self, retention: &Retention, now: Timestamp) -> Result<Forgotten, CommitError> {
        let forgotten = self.inner.forget(retention, now)?;
        if forgotten.tasks + forgotten.jobs > 0 {
            let snapshot = self.inner.snapshot();
            self.witness().forgot(&snapshot, now);
        }
        Ok(forgotten)
    }

    fn abandon(&mut self) {
        self.inner.abandon();
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }
}

impl Tap {
    fn apply(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        if self.bug == Some(Bug::CommitLost) && self.calls.is_multiple_of(LOST_EVERY) {
            self.inner.abandon();
            self.witness().committed(&self.moment, changes, self.unseen);
            return Ok(0);
        }
        let bent = self.bend_changes(changes);
        let written = bent.as_ref().unwrap_or(changes);
        let fault = self.fault.take();
        if let Some(fault) = fault {
            self.inner.fail_next(fault);
        }
        let seq = self.inner.commit(written);
        // What happened though nobody was told so happened all the same.
        if seq.is_ok() || fault == Some(Fault::LostAfter) {
            self.witness().committed(&self.moment, written, self.unseen);
        }
        seq
    }
}
