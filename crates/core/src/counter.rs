//! Counters: what was used of each scope in the current hour, the current day and in total, and what is held.
//!
//! # Invariants
//! - I9: a window's tally is exactly the sum of the ledger lines of its period and the scope's current reset.
//! - Holds and active slots belong to no period: midnight does not touch them.

use crate::limit::{Quantity, Scope, Window};
use crate::money::Money;
use crate::time::Timestamp;

/// Sums over one period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// The start of the period.
    pub start: Timestamp,
    /// Attempts started.
    pub jobs: u64,
    /// Input and output tokens, less refunds.
    pub tokens: i64,
    /// Money; never refunded.
    pub cost: Money,
    /// Pull requests made.
    pub pull_requests: u64,
    /// Issues made.
    pub issues: u64,
    /// Which warnings and exhaustions were told in this period, a bit each.
    pub told: u16,
}

impl Tally {
    /// What a turn added to `before`, added to what others made of it. What belongs to a period that is over by now
    /// is in the ledger only.
    fn rebased(&self, before: &Self, current: &Self) -> Self {
        if self.start < current.start {
            return *current;
        }
        let empty = Self {
            start: self.start,
            ..Self::default()
        };
        let of_period = |tally: &Self| if tally.start == self.start { *tally } else { empty };
        let (before, current) = (of_period(before), of_period(current));
        Self {
            start: self.start,
            jobs: (current.jobs + self.jobs).saturating_sub(before.jobs),
            tokens: current
                .tokens
                .saturating_add(self.tokens.saturating_sub(before.tokens)),
            cost: current.cost + self.cost - before.cost,
            pull_requests: (current.pull_requests + self.pull_requests).saturating_sub(before.pull_requests),
            issues: (current.issues + self.issues).saturating_sub(before.issues),
            told: current.told | self.told,
        }
    }
    /// The bit that says that this crossing was told.
    pub const fn told_bit(quantity: Quantity, exceeded: bool) -> u16 {
        let index = match quantity {
            Quantity::Tokens => 0,
            Quantity::Cost => 1,
            Quantity::Jobs => 2,
            Quantity::PullRequests => 3,
            Quantity::Issues => 4,
            Quantity::Concurrent => 5,
        };
        1 << (index * 2 + if exceeded { 1 } else { 0 })
    }
}

/// What changed in a scope: one booking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Booking {
    /// Attempts started.
    pub jobs: u64,
    /// Tokens used; negative for a refund.
    pub tokens: i64,
    /// Money spent.
    pub cost: Money,
    /// Pull requests made.
    pub pull_requests: u64,
    /// Issues made.
    pub issues: u64,
}

/// Use and holds of one scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counter {
    /// Whose.
    pub scope: Scope,
    /// How often it was reset. Ledger lines of earlier resets count no more.
    pub resets: u32,
    /// The current UTC hour.
    pub hour: Tally,
    /// The current UTC day.
    pub day: Tally,
    /// Since the last reset.
    pub total: Tally,
    /// Tokens held by live attempts.
    pub held_tokens: u64,
    /// Money held by live attempts.
    pub held_cost: Money,
    /// Pull requests that live attempts may make.
    pub held_pull_requests: u32,
    /// Issues that live attempts may make.
    pub held_issues: u32,
    /// Live attempts.
    pub active: u32,
    /// Repositories: nothing starts before this time.
    pub cooldown_until: Timestamp,
}

impl Counter {
    /// Nothing used, nothing held.
    pub const fn new(scope: Scope) -> Self {
        const EMPTY: Tally = Tally {
            start: Timestamp::EPOCH,
            jobs: 0,
            tokens: 0,
            cost: Money::ZERO,
            pull_requests: 0,
            issues: 0,
            told: 0,
        };
        Self {
            scope,
            resets: 0,
            hour: EMPTY,
            day: EMPTY,
            total: EMPTY,
            held_tokens: 0,
            held_cost: Money::ZERO,
            held_pull_requests: 0,
            held_issues: 0,
            active: 0,
            cooldown_until: Timestamp::EPOCH,
        }
    }

    /// The tally of the window's current period: empty when nothing was booked in it yet.
    pub fn window(&self, window: Window, now: Timestamp) -> Tally {
        let tally = match window {
            Window::Hour => self.hour,
            Window::Day => self.day,
            Window::Total => self.total,
        };
        let start = window.start(now);
        if tally.start == start {
            tally
        } else {
            Tally {
                start,
                ..Tally::default()
            }
        }
    }

    /// The window's tally, rolled to the period that `now` lies in.
    pub fn roll(&mut self, window: Window, now: Timestamp) -> &mut Tally {
        let rolled = self.window(window, now);
        let tally = match window {
            Window::Hour => &mut self.hour,
            Window::Day => &mut self.day,
            Window::Total => &mut self.total,
        };
        *tally = rolled;
        tally
    }

    /// Adds a booking of the hour `hour` and the reset `resets` to every window that it still belongs to at `now`.
    pub fn book(&mut self, hour: Timestamp, resets: u32, booking: Booking, now: Timestamp) {
        if resets != self.resets {
            return;
        }
        for window in Window::ALL {
            if window.start(hour) != window.start(now) {
                continue;
            }
            let tally = self.roll(window, now);
            tally.jobs += booking.jobs;
            tally.tokens = tally.tokens.saturating_add(booking.tokens);
            tally.cost += booking.cost;
            tally.pull_requests += booking.pull_requests;
            tally.issues += booking.issues;
        }
    }

    /// This counter, which a turn made from `before`, where meanwhile others made `current` from it: what the turn
    /// added, added to that. None when the periods were set back by one of them: then nothing can be added.
    #[must_use]
    pub fn rebased(&self, before: &Self, current: &Self) -> Option<Self> {
        if self.resets != before.resets || current.resets != before.resets {
            return None;
        }
        let count = |now: u32, before: u32, current: u32| {
            let sum = i64::from(current) + i64::from(now) - i64::from(before);
            u32::try_from(sum.max(0)).unwrap_or(u32::MAX)
        };
        let tokens = (current.held_tokens + self.held_tokens).saturating_sub(before.held_tokens);
        Some(Self {
            scope: self.scope.clone(),
            resets: current.resets,
            hour: self.hour.rebased(&before.hour, &current.hour),
            day: self.day.rebased(&before.day, &current.day),
            total: self.total.rebased(&before.total, &current.total),
            held_tokens: tokens,
            held_cost: (current.held_cost + self.held_cost - before.held_cost).or_zero(),
            held_pull_requests: count(
                self.held_pull_requests,
                before.held_pull_requests,
                current.held_pull_requests,
            ),
            held_issues: count(self.held_issues, before.held_issues, current.held_issues),
            active: count(self.active, before.active, current.active),
            cooldown_until: self.cooldown_until.max(current.cooldown_until),
        })
    }

    /// Starts all periods anew. Holds and active slots stay: what runs, runs.
    pub fn reset(&mut self) {
        self.resets += 1;
        self.hour = Tally::default();
        self.day = Tally::default();
        self.total = Tally::default();
        self.cooldown_until = Timestamp::EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn booked(counter: &Counter, jobs: u64, now: Timestamp) -> Counter {
        let mut counter = counter.clone();
        let booking = Booking {
            jobs,
            tokens: 10,
            cost: Money::from_nanos(7),
            ..Booking::default()
        };
        counter.book(now.hour(), counter.resets, booking, now);
        counter.held_tokens += 100;
        counter.active += 1;
        counter
    }

    #[test]
    fn what_two_turns_add_is_the_same_as_one_after_the_other() {
        let noon = Timestamp::EPOCH + Span::DAY.times(20_000) + Span::HOUR.times(12);
        let fresh = Counter::new(Scope::Fleet);
        for (first, second) in [
            (noon, noon),
            (noon, noon + Span::HOUR),
            (noon, noon + Span::HOUR.times(12)),
            (noon, noon + Span::DAY),
        ] {
            for before in [
                fresh.clone(),
                booked(&fresh, 3, noon - Span::HOUR),
                booked(&fresh, 3, noon),
            ] {
                let others = booked(&before, 1, first);
                let own = booked(&before, 2, second);
                assert_eq!(own.rebased(&before, &others), Some(booked(&others, 2, second)));
            }
        }
    }

    #[test]
    fn what_belongs_to_a_period_that_is_over_counts_in_the_longer_ones_only() {
        let late = Timestamp::EPOCH + Span::HOUR.times(24) - Span::from_secs(1);
        let fresh = Counter::new(Scope::Fleet);
        let others = booked(&fresh, 1, late + Span::from_secs(2));
        let both = booked(&fresh, 2, late)
            .rebased(&fresh, &others)
            .expect("nothing was reset");
        assert_eq!([both.hour.jobs, both.day.jobs, both.total.jobs], [1, 1, 3]);
        assert_eq!(both.hour.start, others.hour.start);
    }

    #[test]
    fn what_ends_is_taken_off_and_a_reset_is_not_added_to() {
        let fresh = Counter::new(Scope::Fleet);
        let before = booked(&fresh, 1, Timestamp::EPOCH);
        let others = booked(&before, 1, Timestamp::EPOCH);
        let mut own = before.clone();
        (own.held_tokens, own.active) = (0, 0);
        let both = own.rebased(&before, &others).expect("nothing was reset");
        assert_eq!((both.held_tokens, both.active, both.total.jobs), (100, 1, 2));
        let mut reset = before.clone();
        reset.reset();
        assert_eq!(own.rebased(&before, &reset), None);
        assert_eq!(reset.rebased(&before, &others), None);
    }
}
