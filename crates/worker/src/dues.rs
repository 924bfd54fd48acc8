//! Usage that an attempt left behind when the server could not be told: owed until it is booked.
//!
//! Totals of an attempt count once however often they are sent, and the server books them for a day after the attempt
//! has ended; so all that is needed is to keep them and to try again.

use std::collections::VecDeque;
use std::time::Duration;

use adjutant_wire::UsageReport;
use tokio::time::Instant;

/// The most reports that are kept. Each attempt leaves one for each of its models, and only while the server is away:
/// then nothing new starts either.
const MAX_DUES: usize = 10_000;
/// While roll-calls are answered and reports are not, they are tried this often.
const PAUSE: Duration = Duration::from_secs(5);

/// What is owed, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Dues {
    reports: VecDeque<UsageReport>,
    not_before: Option<Instant>,
}

impl Dues {
    pub(crate) fn owe(&mut self, reports: Vec<UsageReport>) {
        self.reports.extend(reports);
        while self.reports.len() > MAX_DUES
            && let Some(lost) = self.reports.pop_front()
        {
            tracing::warn!(task = %lost.job_id, attempt = lost.attempt, "too much usage is owed: some is forgotten");
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.reports.len()
    }

    /// What is to be paid next.
    pub(crate) fn next(&self) -> Option<&UsageReport> {
        self.reports.front()
    }

    /// It is booked, or never will be.
    pub(crate) fn settled(&mut self) {
        self.reports.pop_front();
    }

    /// It could not be told.
    pub(crate) fn put_off(&mut self) {
        self.not_before = Some(Instant::now() + PAUSE);
    }

    /// Whether to try now. While the server is away that is before every roll-call: both show whether it is back, and
    /// usage should arrive before the completion that ends its attempt.
    pub(crate) fn are_due(&self, reachable: bool) -> bool {
        !self.reports.is_empty() && (!reachable || self.not_before.is_none_or(|at| at <= Instant::now()))
    }
}
