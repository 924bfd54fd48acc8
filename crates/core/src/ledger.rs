//! The ledger: what each attempt was charged and refunded, by scope, hour, reset and model.
//!
//! Counters are sums of these lines and nothing else. A line says in which UTC hour it was charged and how often
//! its scope had been reset by then, so a refund always goes to the period of its charge.
//!
//! # Invariants
//! - I9: counters equal the sums of the ledger exactly, in every period.
//! - Settlement happens exactly once for an attempt; it never returns more than was charged.

use crate::attempt::{Attempt, AttemptKey, Outcome, Tokens};
use crate::limit::Scope;
use crate::money::Money;
use crate::name::ModelName;
use crate::time::Timestamp;

/// What one attempt used of one scope in one hour with one model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Whose use it counts as.
    pub scope: Scope,
    /// The start of the UTC hour in which it was charged.
    pub hour: Timestamp,
    /// How often the scope had been reset.
    pub resets: u32,
    /// The model, where it is known.
    pub model: Option<ModelName>,
    /// Attempts started.
    pub jobs: u64,
    /// Tokens used.
    pub tokens: Tokens,
    /// Money spent.
    pub cost: Money,
    /// Tokens refunded, never more than were charged.
    pub refunded: u64,
    /// Pull requests made.
    pub pull_requests: u64,
    /// Issues made.
    pub issues: u64,
}

impl Line {
    /// A line with nothing on it.
    pub fn new(scope: Scope, hour: Timestamp, resets: u32, model: Option<ModelName>) -> Self {
        Self {
            scope,
            hour,
            resets,
            model,
            jobs: 0,
            tokens: Tokens::default(),
            cost: Money::ZERO,
            refunded: 0,
            pull_requests: 0,
            issues: 0,
        }
    }

    /// What its tokens count for limits: charges less refunds.
    pub fn net_tokens(&self) -> i64 {
        crate::limit::signed(self.tokens.counted()) - crate::limit::signed(self.refunded)
    }
}

/// All lines of one attempt: the row that a store loads and saves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Whose.
    pub attempt: AttemptKey,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl Account {
    /// An attempt that was charged nothing.
    pub const fn new(attempt: AttemptKey) -> Self {
        Self {
            attempt,
            lines: Vec::new(),
        }
    }

    /// The line for this scope, hour, reset and model; made when there is none.
    pub fn line(
        &mut self,
        scope: &Scope,
        hour: Timestamp,
        resets: u32,
        model: Option<&ModelName>,
    ) -> &mut Line {
        let found = self.lines.iter().position(|line| {
            line.scope == *scope && line.hour == hour && line.resets == resets && line.model.as_ref() == model
        });
        let index = found.unwrap_or_else(|| {
            self.lines
                .push(Line::new(scope.clone(), hour, resets, model.cloned()));
            self.lines.len() - 1
        });
        &mut self.lines[index]
    }
}

/// The part of its charge that an attempt gets back, in percent: half for failing, all of it when an operator
/// cancelled it, nothing when it succeeded or was given back.
pub const fn refund_percent(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Completed | Outcome::Released => 0,
        Outcome::Failed | Outcome::Lost | Outcome::TimedOut => 50,
        Outcome::Cancelled => 100,
    }
}

/// The scopes that an attempt's start counts for, in lock order. `model` is the one that it counts for.
pub fn scopes(attempt: &Attempt, model: Option<&ModelName>) -> Vec<Scope> {
    let mut scopes = Vec::with_capacity(5);
    scopes.push(Scope::Agent(attempt.agent.clone()));
    scopes.extend(attempt.repo.clone().map(Scope::Repo));
    scopes.extend(attempt.project.clone().map(Scope::Project));
    scopes.extend(model.cloned().map(Scope::Model));
    scopes.push(Scope::Fleet);
    scopes
}
