//! Time that never steps back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use adjutant_core::time::{Span, Timestamp};

/// Where `now` comes from.
pub trait Clock: Send {
    /// The time; never earlier than an earlier answer.
    fn now(&mut self) -> Timestamp;

    /// Time is at least this: a store speaks of it.
    fn advance(&mut self, to: Timestamp);
}

/// The machine's clock. When it is set forward, or the machine slept, time jumps ahead; when it is set back, time goes
/// on from where it was at the pace of the monotonic clock.
#[derive(Debug)]
pub struct SystemClock(SharedClock);

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self(SharedClock::at(wall()))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn micros(value: u128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The time of the machine, as it stands. What turns go by is a [`Clock`].
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(micros(since_epoch.as_micros()))
}

impl Clock for SystemClock {
    fn now(&mut self) -> Timestamp {
        self.0.advance(wall());
        self.0.now()
    }

    fn advance(&mut self, to: Timestamp) {
        self.0.advance(to);
    }
}

/// The clock of a store that servers share: it goes on from what the store says, whatever the machine's clock says.
#[derive(Debug)]
pub struct SharedClock {
    anchor: Timestamp,
    since: Instant,
}

impl SharedClock {
    /// A clock that goes on from here.
    pub fn at(now: Timestamp) -> Self {
        Self {
            anchor: now,
            since: Instant::now(),
        }
    }
}

impl Clock for SharedClock {
    fn now(&mut self) -> Timestamp {
        self.anchor + Span::from_micros(micros(self.since.elapsed().as_micros()))
    }

    fn advance(&mut self, to: Timestamp) {
        if to > self.now() {
            *self = Self::at(to);
        }
    }
}

/// The time of the turns, for those beside them: it goes on from the last one.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    since: Instant,
    /// What time it was then, in microseconds.
    anchor: Arc<AtomicI64>,
}

impl Dial {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self {
            since: Instant::now(),
            anchor: Arc::new(AtomicI64::new(now.as_micros())),
        }
    }

    fn elapsed(&self) -> i64 {
        micros(self.since.elapsed().as_micros())
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.anchor
            .store(now.as_micros() - self.elapsed(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.anchor.load(Ordering::Relaxed).saturating_add(self.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_take_time_back() {
        let ahead = wall() + Span::HOUR;
        let mut clock = SystemClock(SharedClock::at(ahead));
        let first = clock.now();
        assert!(first >= ahead);
        assert!(clock.now() >= first);
    }

    #[test]
    fn a_clock_goes_on_from_what_a_store_knows() {
        let mut clock = SystemClock::new();
        let known = wall() + Span::DAY;
        clock.advance(known);
        assert!(clock.now() >= known);
        clock.advance(wall());
        assert!(clock.now() >= known);
    }

    #[test]
    fn who_stands_beside_is_told_the_time_of_the_turns() {
        let dial = Dial::at(Timestamp::EPOCH + Span::HOUR);
        let beside = dial.clone();
        assert!(beside.now() >= Timestamp::EPOCH + Span::HOUR);
        dial.set(Timestamp::EPOCH + Span::DAY);
        let after = beside.now().since(Timestamp::EPOCH + Span::DAY);
        assert!(after >= Span::ZERO && after < Span::HOUR, "{after:?}");
    }
}
