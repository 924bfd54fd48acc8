//! What a worker tells those who watch it.

use std::fmt;

use adjutant_core::attempt::{StopReason, Tokens};
use adjutant_core::money::Money;

/// Watches a worker. Called from its tasks: it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn notice(&self, notice: Notice);
}

impl<F: Fn(Notice) + Send + Sync> Observer for F {
    fn notice(&self, notice: Notice) {
        self(notice);
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _: Notice) {}
}

/// Something that happened to a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The agent is registered; again after the server forgot it.
    Registered,
    /// The server is away since now; what runs goes on.
    Unreachable {
        /// What happened.
        error: String,
    },
    /// The server refuses the worker since now, because its token was revoked, say. What runs goes on for as long as its
    /// lease lasts, and what is done is kept meanwhile.
    Denied {
        /// What it said.
        error: String,
    },
    /// The server is back.
    Reachable,
    /// The agent was told to take nothing new, or no longer is.
    Draining(bool),
    /// An attempt starts.
    Started {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// The task's title.
        title: String,
    },
    /// An attempt's totals, whenever its command prints them.
    Usage {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// Over all models.
        tokens: Tokens,
        /// Over all models; none when the command does not say.
        cost: Option<Money>,
    },
    /// A command ended by itself, or by its timeout.
    Finished {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// Whether it did the work.
        success: bool,
        /// What went wrong; empty after a success.
        message: String,
    },
    /// An attempt is over because it was stopped; its processes are gone.
    Stopped {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// Why.
        cause: Cause,
    },
    /// The server did not take the result of an attempt, and will not.
    Refused {
        /// The task.
        id: String,
        /// The attempt.
        attempt: u32,
        /// What it said.
        error: String,
    },
}

/// Why a running attempt was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server said so.
    Server(StopReason),
    /// The server was away for so long that the task may run elsewhere soon.
    LeaseLost,
    /// The worker ends.
    Shutdown,
    /// Another worker speaks for the agent.
    Superseded,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(reason) => reason.name(),
            Self::LeaseLost => "the server was away for too long",
            Self::Shutdown => "the worker ends",
            Self::Superseded => "another worker took over",
        })
    }
}

/// What a worker did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Attempts started.
    pub started: u64,
    /// Commands that did the work.
    pub succeeded: u64,
    /// Commands that failed, or ran out of time.
    pub failed: u64,
    /// Attempts that were stopped.
    pub stopped: u64,
    /// Results that the server did not take.
    pub refused: u64,
    /// Results that could not be delivered before the end.
    pub undelivered: u64,
}
