//! How long what runs may go on without a word from the server.
//!
//! Each answer to a roll-call renews all leases at once, counted from when the roll-call was *sent*: the server
//! counts from when it arrived, which is later. The clock is this machine's monotonic one.
//!
//! ```text
//!  renewed            asked to end        made to end       the lease ends
//!  ───┼──────────────────┼───────────────────┼─────────────────┼──►  60 s: 0, 45, 55, 60
//!     └─ no answer ──────┴─ at most ⅔ of it ─┴─────────────────┘     20 s: 0, 10, 16.7, 20
//!                        └───────────── margin ────────────────┘
//! ```
//!
//! # Invariants
//! - Commands are gone before the server may give their tasks to somebody else, however short the lease is.

use std::time::Duration;

use tokio::time::Instant;

/// Commands are asked to end this long before the lease does, so that they are gone when it has; half of the lease
/// where it is shorter than twice this.
const MARGIN: Duration = Duration::from_secs(15);
/// The longest that a roll-call is waited for beyond the wait that it asked for.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(10);
/// The shortest.
const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// The leases of all attempts of a worker.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Not known before the first answer.
    ttl: Option<Duration>,
    renewed_at: Instant,
    /// Told already that it was lost.
    lost: bool,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self {
            ttl: None,
            renewed_at: Instant::now(),
            lost: false,
        }
    }

    /// The roll-call that was sent then was answered.
    pub(crate) const fn renew(&mut self, sent_at: Instant, ttl: Duration) {
        self.ttl = Some(ttl);
        self.renewed_at = sent_at;
        self.lost = false;
    }

    /// The leases are seen as lost now, until the next renewal.
    pub(crate) const fn lose(&mut self) {
        self.lost = true;
    }

    /// When they are lost; never again after [`Lease::lose`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ttl = self.ttl.filter(|_| !self.lost)?;
        Some(self.renewed_at + ttl.saturating_sub(margin(ttl)))
    }

    /// When commands must be gone that have not ended by themselves since the deadline: what is left of the margin is
    /// for a machine that is slow to end them.
    pub(crate) fn gone_by(&self) -> Option<Instant> {
        self.ttl
            .map(|ttl| self.renewed_at + ttl.saturating_sub(margin(ttl) / 3))
    }

    /// How long a roll-call waits for something to do: a quarter of the lease leaves room for one that is lost.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.ttl.map(|ttl| ttl / 4)
    }

    /// How long an answer may take beyond that before the server counts as away.
    pub(crate) fn answer_time(&self) -> Duration {
        self.ttl.map_or(MAX_ANSWER_TIME, |ttl| {
            (ttl / 4).clamp(MIN_ANSWER_TIME, MAX_ANSWER_TIME)
        })
    }
}

fn margin(ttl: Duration) -> Duration {
    MARGIN.min(ttl / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_are_gone_before_their_lease_ends_however_short_it_is() {
        let mut lease = Lease::new();
        assert_eq!(lease.gone_by(), None);
        let sent = Instant::now();
        for ttl_millis in [
            300, 1_000, 5_000, 20_000, 29_999, 30_000, 35_000, 60_000, 3_600_000,
        ] {
            let ttl = Duration::from_millis(ttl_millis);
            lease.renew(sent, ttl);
            let (asked, gone) = (lease.deadline().unwrap(), lease.gone_by().unwrap());
            assert!(asked < gone && gone < sent + ttl, "{ttl:?}");
            assert!(gone - asked <= crate::GRACE, "{ttl:?}");
            // The deadline is told once; what still ends then must be gone by the same time as before.
            lease.lose();
            assert_eq!(lease.gone_by(), Some(gone));
        }
    }

    #[tokio::test]
    async fn attempts_end_before_their_lease_does() {
        let mut lease = Lease::new();
        assert_eq!(lease.deadline(), None);
        let sent = Instant::now();
        for (ttl_secs, patience_secs) in [(60, 45), (30, 15), (20, 10), (2, 1)] {
            lease.renew(sent, Duration::from_secs(ttl_secs));
            assert_eq!(lease.deadline(), Some(sent + Duration::from_secs(patience_secs)));
        }
        lease.lose();
        assert_eq!(lease.deadline(), None);
        lease.renew(sent, Duration::from_mins(1));
        assert!(lease.deadline().is_some());
    }
}
