//! Attempts: one execution of a task by one agent, from its start to its settlement.
//!
//! A dispatch *offers* an attempt; it is *taken* once the agent lists it in a sync (or reports on it); it *ends*
//! exactly once, with an [`Outcome`]. The attempt's number is the fencing token: of two attempts of a task the
//! higher number is current, and nothing that names a lower one changes the task.
//!
//! # Invariants
//! - I1: only a task's latest attempt is ever live.
//! - I8: a stale attempt changes nothing but the ledger.
//! - An attempt that was cancelled or timed out while taken may still run on its machine: it keeps its place in
//!   `max_load` and its locks (`occupies`) until the agent no longer lists it, though its accounting is settled.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::name::{AgentId, LockName, ModelName, ProjectName, RepoName, TaskId};
use crate::task::{Produces, TaskKey};
use crate::time::{Span, Timestamp};

/// Which attempt of which task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptKey {
    /// The task, or the job that was dispatched elsewhere.
    pub task: TaskKey,
    /// 1 for the first attempt.
    pub number: u32,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The work is done.
    Completed,
    /// The agent reported a failure.
    Failed,
    /// The agent went silent, or no longer knew of it.
    Lost,
    /// It ran out of time.
    TimedOut,
    /// An operator cancelled the task.
    Cancelled,
    /// It was given back, with no failure counted.
    Released,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::Failed,
        Self::Lost,
        Self::TimedOut,
        Self::Cancelled,
        Self::Released,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
        }
    }

    /// Whether a success may still be accepted after this end, as long as no newer attempt started.
    pub const fn may_succeed_late(self) -> bool {
        matches!(self, Self::Lost | Self::TimedOut)
    }
}

/// Where an attempt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttemptState {
    /// Assigned; its agent has not said that it has it.
    Offered,
    /// Its agent has it.
    Taken,
    /// Over and settled.
    Ended(Outcome),
}

impl AttemptState {
    /// Whether the attempt holds the task's lease.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Offered | Self::Taken)
    }
}

/// Why an agent is told to stop an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// An operator cancelled the task.
    Cancelled,
    /// The attempt ran out of time.
    Timeout,
    /// A hard limit is used up.
    Limit,
    /// The attempt was given back, or reassigned after its lease was lost.
    Released,
    /// The attempt ended as lost; a newer one may run elsewhere.
    Lost,
    /// The task has ended.
    Ended,
    /// The server knows no such attempt of this agent.
    Unknown,
}

impl StopReason {
    /// Why an attempt that ended like this is to be stopped where it still runs.
    pub const fn after(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Lost => Self::Lost,
            Outcome::Released => Self::Released,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::TimedOut => Self::Timeout,
            Outcome::Completed | Outcome::Failed => Self::Ended,
        }
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

/// Tokens of language models: fresh input, output (with thinking) and cached input.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Fresh input.
    #[serde(default)]
    pub tokens_in: u64,
    /// Output, thinking included.
    #[serde(default)]
    pub tokens_out: u64,
    /// Input that was read from a cache: it costs money but does not count for limits on tokens.
    #[serde(default)]
    pub tokens_cached: u64,
}

impl Tokens {
    /// The most tokens of one kind that one report may name: enough for years, far from overflow.
    pub const MAX: u64 = 1_000_000_000_000;

    /// What counts for limits on tokens: input and output, not what came from a cache.
    pub const fn counted(self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }

    /// Both amounts together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            tokens_cached: self.tokens_cached.saturating_add(other.tokens_cached),
        }
    }

    /// How much `self` exceeds `booked`, kind by kind; never negative.
    #[must_use]
    pub const fn beyond(self, booked: Self) -> Self {
        Self {
            tokens_in: self.tokens_in.saturating_sub(booked.tokens_in),
            tokens_out: self.tokens_out.saturating_sub(booked.tokens_out),
            tokens_cached: self.tokens_cached.saturating_sub(booked.tokens_cached),
        }
    }

    /// Whether nothing was used.
    pub const fn is_zero(self) -> bool {
        self.tokens_in == 0 && self.tokens_out == 0 && self.tokens_cached == 0
    }
}

/// What was used of one model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModelUsage {
    /// The model; none when the report did not say.
    pub model: Option<ModelName>,
    /// Its tokens.
    pub tokens: Tokens,
    /// Its cost in nano-dollars.
    #[serde(with = "nanos")]
    pub cost: Money,
}

mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::money::Money;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn serialize<S: Serializer>(money: &Money, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(money.as_nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        i64::deserialize(deserializer).map(Money::from_nanos)
    }
}

/// Adds an amount to the entry of `model`.
pub fn add_usage(usage: &mut Vec<ModelUsage>, model: Option<&ModelName>, tokens: Tokens, cost: Money) {
    if let Some(entry) = usage.iter_mut().find(|entry| entry.model.as_ref() == model) {
        entry.tokens = entry.tokens.plus(tokens);
        entry.cost += cost;
    } else {
        usage.push(ModelUsage {
            model: model.cloned(),
            tokens,
            cost,
        });
    }
}

/// What an attempt holds of its limits until it is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hold {
    /// Tokens that were set aside at the start and are not used yet.
    pub tokens: u64,
    /// Money that was set aside at the start and is not used yet.
    pub cost: Money,
}

/// One execution of a task, or of a job that was dispatched elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, none implies another"
)]
pub struct Attempt {
    /// Which attempt of which task.
    pub key: AttemptKey,
    /// The id of the task or job.
    pub task_id: TaskId,
    /// A job that was dispatched elsewhere and is only accounted for here.
    pub external: bool,
    /// Who runs it.
    pub agent: AgentId,
    /// Whether that agent was registered when it started: then its lease is the agent's liveness.
    pub registered: bool,
    /// Where it stands.
    pub state: AttemptState,
    /// Whether it has a place in its agent's load and holds its locks.
    pub occupies: bool,
    /// The model that it counts for.
    pub model: Option<ModelName>,
    /// The project that it counts for.
    pub project: Option<ProjectName>,
    /// The repository that it counts for.
    pub repo: Option<RepoName>,
    /// What its success adds to the repository's daily count.
    pub produces: Option<Produces>,
    /// The locks that it holds while it occupies.
    pub locks: Arc<[LockName]>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it was first part of an answer to its agent. Not stored: after a restart it counts anew.
    pub delivered_at: Option<Timestamp>,
    /// The longest that it may run, from when it was taken.
    pub timeout: Option<Span>,
    /// What it still holds.
    pub hold: Hold,
    /// What it used, by model.
    pub usage: Vec<ModelUsage>,
    /// Why its agent was told to stop it.
    pub stop: Option<StopReason>,
    /// Whether some answer has told that stop already. Not stored.
    pub stop_told: bool,
    /// An ended claim of an agent that is not registered keeps its locks until its lease would have ended.
    pub lingers_until: Option<Timestamp>,
}

impl Attempt {
    /// Tokens that count for limits, over all models.
    pub fn tokens(&self) -> u64 {
        self.usage.iter().map(|entry| entry.tokens.counted()).sum()
    }

    /// Cost over all models.
    pub fn cost(&self) -> Money {
        self.usage.iter().map(|entry| entry.cost).sum()
    }

    /// Whether it holds the task's lease.
    pub const fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// Whether `other` differs at most in what is not stored.
    pub fn same_stored(&self, other: &Self) -> bool {
        let softened = Self {
            delivered_at: other.delivered_at,
            stop_told: other.stop_told,
            ..self.clone()
        };
        softened == *other
    }

    /// How it ended, once it has.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            AttemptState::Ended(outcome) => Some(outcome),
            AttemptState::Offered | AttemptState::Taken => None,
        }
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task.0, self.number)
    }
}
