//! Webhooks: places that are told of events, and what could not be delivered yet.
//!
//! A webhook follows the log of events from its cursor. What was delivered leaves nothing behind; what was not is a
//! [`Delivery`]: it waits for its next try, and after [`MAX_ATTEMPTS`] it is a dead letter that an operator tries again.
//!
//! # Invariants
//! - The cursor never passes an event that was neither delivered, nor left out by the filter, nor noted as a delivery.
//! - One server at a time delivers for a webhook: the one whose session has the lease.
//! - `pending` and `dead` are the numbers of its rows of deliveries.
//!
//! # Not here
//! What servers ask of it: [`crate::decide`]. How it is sent: the server.

use std::sync::Arc;

use crate::event::EventKind;
use crate::time::{Span, Timestamp};

/// How long a server may deliver for a webhook after it was last heard of.
pub const LEASE: Span = Span::from_secs(30);
/// After so many failed tries a delivery is a dead letter.
pub const MAX_ATTEMPTS: u32 = 7;
/// The most deliveries of a webhook that wait for another try. At this number its cursor waits: a place that is away
/// must not fill the store.
pub const MAX_PENDING: u32 = 1_000;
/// The most dead letters of a webhook that are kept. What would be one more is counted as missed.
pub const MAX_DEAD: u32 = 1_000;
/// A webhook whose place has taken nothing for so long is disabled by its next dead letter. One alone may be the fault of
/// the event; a place that stays away is not to be asked for ever.
pub const PATIENCE: Span = Span::from_secs(3 * 86_400);
/// The most bytes of what went wrong.
pub const MAX_ERROR_BYTES: usize = 500;

/// How long a delivery waits after its first, second, … failed try.
const BACKOFF: [Span; MAX_ATTEMPTS as usize - 1] = [
    Span::from_secs(5),
    Span::from_secs(5 * 60),
    Span::from_secs(30 * 60),
    Span::from_secs(2 * 3_600),
    Span::from_secs(5 * 3_600),
    Span::from_secs(10 * 3_600),
];
/// The longest wait that a place can ask for.
const LONGEST_WAIT: Span = Span::DAY;

/// A place that is told of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub url: Arc<str>,
    /// What it is told of; none is everything.
    pub kinds: Arc<[EventKind]>,
    /// When it was added. Its secret depends on it: one that is added anew has another.
    pub created_at: Timestamp,
    /// Why nothing is delivered, where that is so.
    pub disabled: Option<Arc<str>>,
    /// Since when its place has taken nothing of what it was sent; none while it takes.
    pub failing_since: Option<Timestamp>,
    /// All events up to this one are dealt with.
    pub cursor: u64,
    /// Who delivers.
    pub lease: Option<Lease>,
    /// How many deliveries wait for another try.
    pub pending: u32,
    /// How many are dead letters.
    pub dead: u32,
    /// How many events at most it will never be told of: they were forgotten before it was known whether it is told of their
    /// kind, or were one dead letter too many.
    pub missed: u64,
}

/// Who delivers for a webhook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The session of a server.
    pub session: Arc<str>,
    /// Then another one may take over.
    pub until: Timestamp,
}

/// Which event of which webhook.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryKey {
    /// The name of the webhook.
    pub webhook: Arc<str>,
    /// The number of the event.
    pub seq: u64,
}

/// An event that was not delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again; never, for a dead letter.
    pub due_at: Option<Timestamp>,
    /// What went wrong.
    pub error: Box<str>,
}

impl Webhook {
    /// Whether it is told of events of this kind.
    pub fn is_told_of(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// How many more deliveries may be begun while so many are under way: whatever fails must have its place.
    pub fn room(&self, under_way: usize) -> usize {
        let left = MAX_PENDING.saturating_sub(self.pending);
        usize::try_from(left)
            .unwrap_or(usize::MAX)
            .saturating_sub(under_way)
    }

    /// Whether its place took nothing of what it was last sent.
    pub const fn is_in_trouble(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Whether its cursor waits, because too many deliveries do.
    pub const fn is_stalled(&self) -> bool {
        self.pending >= MAX_PENDING
    }

    /// Whether the server with this session delivers.
    pub fn is_held_by(&self, session: &str) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| *lease.session == *session)
    }

    /// Whether a server with this session may deliver; `alone` when there can be no other.
    pub fn is_free_for(&self, session: &str, alone: bool, now: Timestamp) -> bool {
        let is_over = self.lease.as_ref().is_none_or(|lease| lease.until <= now);
        alone || is_over || self.is_held_by(session)
    }
}

impl DeliveryKey {
    /// When a delivery is tried again that has failed `attempts` times; none makes it a dead letter. A place can ask for a
    /// longer wait, up to a day, but not for a shorter one: its tries must last for as long as its trouble may.
    pub fn next_try(&self, attempts: u32, asked: Option<Span>, now: Timestamp) -> Option<Timestamp> {
        let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = *BACKOFF.get(step)?;
        let names = self.webhook.bytes().chain(self.seq.to_le_bytes());
        let own = wait + wait.jitter(names.chain(attempts.to_le_bytes()));
        Some(now + asked.map_or(own, |asked| own.max(asked.min(LONGEST_WAIT))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seq: u64) -> DeliveryKey {
        DeliveryKey {
            webhook: "chat".into(),
            seq,
        }
    }

    fn wait(seq: u64, attempts: u32, asked: Option<Span>) -> Option<i64> {
        let now = Timestamp::from_micros(1_000_000_000_000_000);
        let next = key(seq).next_try(attempts, asked, now)?;
        Some(next.since(now).as_secs())
    }

    #[test]
    fn waits_grow_and_end() {
        let table = [5, 300, 1_800, 7_200, 18_000, 36_000];
        for (attempts, seconds) in (1..).zip(table) {
            for seq in 0..50 {
                let waited = wait(seq, attempts, None).expect("it is tried again");
                assert!(
                    (seconds..=seconds * 11 / 10).contains(&waited),
                    "{attempts}: {waited}"
                );
            }
        }
        assert_eq!(wait(1, MAX_ATTEMPTS, None), None);
        assert_eq!(wait(1, u32::MAX, None), None);
    }

    #[test]
    fn deliveries_that_failed_together_do_not_come_back_together() {
        let now = Timestamp::EPOCH;
        let times: std::collections::BTreeSet<_> =
            (0..20).map(|seq| key(seq).next_try(3, None, now)).collect();
        assert!(times.len() > 10, "{times:?}");
    }

    #[test]
    fn a_place_may_ask_for_more_time_within_bounds_but_not_for_less_or_for_more_tries() {
        assert_eq!(wait(1, 1, Some(Span::from_secs(60))), Some(60));
        assert_eq!(wait(1, 4, Some(Span::from_secs(60))), wait(1, 4, None));
        assert_eq!(wait(1, 1, Some(Span::ZERO)), wait(1, 1, None));
        assert_eq!(wait(1, 1, Some(Span::from_secs(1_000_000))), Some(86_400));
        assert_eq!(wait(1, MAX_ATTEMPTS, Some(Span::from_secs(60))), None);
    }
}
