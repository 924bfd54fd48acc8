//! Time in the simulation: one steady clock, a wall clock that may be set, and what a server makes of the two.

use adjutant_core::time::{Span, Timestamp};

/// The times of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    steady: Timestamp,
    /// How far the wall clock is ahead, in microseconds.
    offset: i64,
}

impl Machine {
    pub(crate) const fn new(start: Timestamp) -> Self {
        Self {
            steady: start,
            offset: 0,
        }
    }

    pub(crate) fn pass(&mut self, time: Span) {
        self.steady = self.steady + time;
    }

    /// Sets the wall clock forward or back.
    pub(crate) const fn set(&mut self, by_micros: i64) {
        self.offset += by_micros;
    }

    fn wall(self) -> Timestamp {
        Timestamp::from_micros(self.steady.as_micros() + self.offset)
    }
}

/// A clock that never steps back: what the engine's clock does on a real machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor: Timestamp,
    since: Timestamp,
}

impl Clock {
    /// A clock that starts now, and not before what a store already knows.
    pub(crate) fn new(machine: Machine, known: Timestamp) -> Self {
        Self {
            anchor: machine.wall().max(known),
            since: machine.steady,
        }
    }

    /// Time is at least this: a store speaks of it.
    pub(crate) fn advance(&mut self, machine: Machine, to: Timestamp) {
        if to > self.now(machine) {
            self.anchor = to;
            self.since = machine.steady;
        }
    }

    pub(crate) fn now(&mut self, machine: Machine) -> Timestamp {
        let steady = self.anchor + machine.steady.since(self.since);
        let wall = machine.wall();
        if wall > steady {
            self.anchor = wall;
            self.since = machine.steady;
            return wall;
        }
        steady
    }
}
