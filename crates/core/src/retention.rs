//! Retention: what a store may forget of what is over.
//!
//! A store asks for each finished task, in the order of arrival, whether it [may go](Retention::lets_go); with it go
//! its attempts and its ledger lines, whose sums stay in an archive by scope and reset.
//!
//! # Invariants
//! - What is live, or what something that is not over depends on, never goes.
//! - I9: lines of the current hour and day stay, so that every period that still counts is a sum of lines; the total
//!   is lines and archive together.
//! - An idempotency key outlives nothing that it protects: what it made or changed stays longer than the key counts.
//! - The last event never goes: its number is where the next one goes on.
//!
//! # Not here
//! Finding candidates, and deleting: the stores.

use crate::attempt::Attempt;
use crate::command::IDEMPOTENCY_TTL;
use crate::ledger::Line;
use crate::task::{DependencyState, Status, Task};
use crate::time::{Span, Timestamp};

/// What is over stays at least so long: for a day its attempts can be reported on and its idempotency keys count, and
/// an hour more is for whoever is late.
pub const LEAST_FINISHED: Span = Span::from_micros(IDEMPOTENCY_TTL.as_micros() + Span::HOUR.as_micros());
/// Events stay at least so long: a reader that lags or reconnects misses none of them.
pub const LEAST_EVENTS: Span = Span::HOUR;

/// How much of what is over is kept. What is absent bounds nothing; with nothing set, everything is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Tasks that ended longer ago go.
    pub finished_age: Option<Span>,
    /// Of the tasks that are over the newest so many stay, by arrival.
    pub finished_count: Option<u64>,
    /// Older events go.
    pub event_age: Option<Span>,
    /// The newest so many events stay.
    pub event_count: Option<u64>,
}

/// What is known of a task, or of a job that was dispatched elsewhere, when it is to go.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The task; none for a job that was dispatched elsewhere.
    pub task: Option<&'a Task>,
    /// All of its attempts.
    pub attempts: &'a [std::sync::Arc<Attempt>],
    /// All of their ledger lines.
    pub lines: &'a [Line],
}

impl Retention {
    /// Whether everything is kept.
    pub const fn keeps_all(&self) -> bool {
        !self.forgets_finished() && !self.forgets_events()
    }

    /// Whether tasks go at some time.
    pub const fn forgets_finished(&self) -> bool {
        self.finished_age.is_some() || self.finished_count.is_some()
    }

    /// Whether events go at some time.
    pub const fn forgets_events(&self) -> bool {
        self.event_age.is_some() || self.event_count.is_some()
    }

    /// How many of so many finished tasks are too many.
    pub fn excess(&self, finished: u64) -> u64 {
        self.finished_count
            .map_or(0, |count| finished.saturating_sub(count))
    }

    /// What ended before this time may go, for its age or because there are too many.
    pub fn ended_before(&self, now: Timestamp, too_many: bool) -> Option<Timestamp> {
        let by_age = self.finished_age.map(|age| now - age.max(LEAST_FINISHED));
        let by_count = (too_many && self.finished_count.is_some()).then(|| now - LEAST_FINISHED);
        by_age.max(by_count)
    }

    /// Whether a candidate may go. `too_many` says that there are more finished tasks than are kept.
    pub fn lets_go(&self, candidate: &Candidate<'_>, now: Timestamp, too_many: bool) -> bool {
        // What is known of jobs from elsewhere is of use to nobody beyond the day in which they can be reported on;
        // they are not counted.
        let is_job = candidate.task.is_none();
        let too_many = too_many || (is_job && self.finished_count.is_some());
        let Some(before) = self.ended_before(now, too_many) else {
            return false;
        };
        let is_over = candidate.task.is_none_or(|task| {
            task.status.is_terminal() && task.fanout.is_none() && task.updated_at < before
        });
        let no_attempt_is_needed = candidate.attempts.iter().all(|attempt| {
            !attempt.is_live() && !attempt.occupies && attempt.ended_at.is_some_and(|ended| ended < before)
        });
        // Late usage may have been booked today for what ended yesterday.
        let no_line_counts_today = candidate.lines.iter().all(|line| line.hour < now.day());
        is_over && no_attempt_is_needed && no_line_counts_today
    }

    /// Whether a dependency needs not be kept any more: it is met for good, and what depended on it is over. One that
    /// is not met stays until its dependent goes, because a retry of the dependent waits for it.
    pub const fn is_done(state: DependencyState, dependent: Status) -> bool {
        matches!(state, DependencyState::Met) && dependent.is_terminal()
    }

    /// Whether an event may go. `newer` is how many events came after it.
    pub fn lets_event_go(&self, at: Timestamp, newer: u64, now: Timestamp) -> bool {
        let is_old = self.event_age.is_some_and(|age| at < now - age);
        let is_beyond = self.event_count.is_some_and(|count| newer >= count);
        newer > 0 && at < now - LEAST_EVENTS && (is_old || is_beyond)
    }
}

/// Adds a line that goes to the line of the archive for its scope and reset, whose hour is that of the latest line in it.
pub fn archive(archived: &mut Line, line: &Line) {
    archived.hour = archived.hour.max(line.hour);
    archived.jobs += line.jobs;
    archived.tokens = archived.tokens.plus(line.tokens);
    archived.cost += line.cost;
    archived.refunded += line.refunded;
    archived.pull_requests += line.pull_requests;
    archived.issues += line.issues;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Fanout;
    use crate::task::TaskKey;
    use crate::task::tests::task;

    /// Noon.
    const NOW: Timestamp = Timestamp::from_micros(1_764_072_000_000_000);
    const MONTH: Retention = Retention {
        finished_age: Some(Span::from_secs(30 * 86_400)),
        finished_count: None,
        event_age: None,
        event_count: None,
    };
    const TEN: Retention = Retention {
        finished_age: None,
        finished_count: Some(10),
        event_age: Some(Span::DAY),
        event_count: Some(10),
    };

    fn days(days: i64) -> Timestamp {
        NOW - Span::DAY.times(days)
    }

    fn over(ended: Timestamp) -> Task {
        Task {
            status: Status::Completed,
            updated_at: ended,
            ..task(1, "a")
        }
    }

    fn goes(retention: &Retention, task: &Task, lines: &[Line], too_many: bool) -> bool {
        let candidate = Candidate {
            task: Some(task),
            attempts: &[],
            lines,
        };
        retention.lets_go(&candidate, NOW, too_many)
    }

    #[test]
    fn a_task_goes_when_it_ended_longer_ago_than_it_is_kept() {
        assert!(goes(&MONTH, &over(days(31)), &[], false));
        assert!(!goes(&MONTH, &over(days(29)), &[], false));
        for status in [Status::Pending, Status::Blocked, Status::InProgress] {
            let live = Task {
                status,
                ..over(days(31))
            };
            assert!(!goes(&MONTH, &live, &[], true), "{status:?}");
        }
        let untold = Task {
            fanout: Some(Fanout {
                after: TaskKey(0),
                cascade: false,
            }),
            ..over(days(31))
        };
        assert!(!goes(&MONTH, &untold, &[], true));
    }

    #[test]
    fn too_many_go_but_none_that_can_be_reported_on() {
        assert_eq!((TEN.excess(9), TEN.excess(10), TEN.excess(13)), (0, 0, 3));
        assert!(goes(&TEN, &over(days(2)), &[], true));
        assert!(!goes(&TEN, &over(days(2)), &[], false));
        assert!(!goes(&TEN, &over(days(1)), &[], true));
        assert!(!goes(&Retention::default(), &over(days(9_999)), &[], true));
        // Whatever is set.
        let at_once = Retention {
            finished_age: Some(Span::ZERO),
            ..Retention::default()
        };
        assert!(!goes(&at_once, &over(days(1)), &[], true));
    }

    #[test]
    fn what_counts_today_stays() {
        let line = |hour: Timestamp| Line::new(crate::limit::Scope::Fleet, hour, 0, None);
        assert!(goes(&MONTH, &over(days(31)), &[line(days(1).hour())], false));
        assert!(!goes(
            &MONTH,
            &over(days(31)),
            &[line(days(31)), line(NOW.hour())],
            false
        ));
    }

    #[test]
    fn events_go_from_the_oldest_and_the_last_one_stays() {
        assert!(TEN.lets_event_go(days(2), 3, NOW));
        assert!(!TEN.lets_event_go(days(2), 0, NOW));
        let young = NOW - Span::from_secs(7_200);
        assert!(TEN.lets_event_go(young, 10, NOW));
        assert!(!TEN.lets_event_go(young, 9, NOW));
        assert!(!TEN.lets_event_go(NOW - Span::from_secs(3_000), 10, NOW));
        assert!(!MONTH.lets_event_go(days(99), 99, NOW));
    }

    #[test]
    fn a_dependency_that_is_not_met_stays_with_its_dependent() {
        assert!(Retention::is_done(DependencyState::Met, Status::Cancelled));
        assert!(!Retention::is_done(DependencyState::Met, Status::Blocked));
        assert!(!Retention::is_done(DependencyState::Failed, Status::Cancelled));
    }
}
