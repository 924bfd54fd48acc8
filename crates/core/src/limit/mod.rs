//! Limits: how much may be started and spent, in which scope and which period.
//!
//! One rule ([`Policy::permits`]) checks every scope of a dispatch. The allowance of an agent, the quota of a model
//! and the limits of a repository are views of it ([`Allowance`], [`ModelQuota`], [`RepoLimits`]).
//!
//! # Invariants
//! - I3: jobs started in a period never exceed its limit.
//! - I4: nothing starts unless `used + held + own hold ≤ limit` in every scope; with no hold of its own,
//!   `used + held < limit`.
//!
//! # Not here
//! What was used: [`crate::counter`]. How it is booked: [`crate::ledger`].

mod views;

pub use views::{Allowance, ModelQuota, RepoLimits};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::counter::Counter;
use crate::money::Money;
use crate::name::{AgentId, ModelName, ProjectName, RepoName, check_id, check_name};
use crate::task::Produces;
use crate::time::{Span, Timestamp};

/// From this share of a limit on, in percent, a warning is due.
pub const WARNING_PERCENT: u64 = 80;

/// Whose use is limited.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// One agent, registered or not.
    Agent(AgentId),
    /// One repository.
    Repo(RepoName),
    /// One project.
    Project(ProjectName),
    /// One model.
    Model(ModelName),
    /// All agents together.
    Fleet,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Repo(repo) => write!(f, "repo:{repo}"),
            Self::Project(project) => write!(f, "project:{project}"),
            Self::Model(model) => write!(f, "model:{model}"),
            Self::Fleet => f.write_str("fleet"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "fleet" {
            return Ok(Self::Fleet);
        }
        let Some((kind, name)) = text.split_once(':') else {
            return Err(format!(
                "`{text}` is not a scope: write fleet, project:P, agent:A, model:M or repo:OWNER/NAME"
            ));
        };
        let checked = if kind == "agent" {
            check_id(name)
        } else {
            check_name(name)
        };
        checked.map_err(|why| format!("the name in scope `{text}` {why}"))?;
        match kind {
            "agent" => Ok(Self::Agent(name.into())),
            "repo" => Ok(Self::Repo(name.into())),
            "project" => Ok(Self::Project(name.into())),
            "model" => Ok(Self::Model(name.into())),
            _ => Err(format!(
                "`{kind}` is not a kind of scope: write fleet, project, agent, model or repo"
            )),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Over which period use is counted. Hours and days are UTC clock periods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// The UTC hour.
    Hour,
    /// The UTC day.
    Day,
    /// Since the last reset.
    Total,
}

impl Window {
    /// All windows.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Total];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Total => "total",
        }
    }

    /// The start of the period that `now` lies in.
    pub fn start(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Hour => now.hour(),
            Self::Day => now.day(),
            Self::Total => Timestamp::EPOCH,
        }
    }

    /// The end of the period that `now` lies in, if it ever ends.
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Hour => Some(now.hour() + Span::HOUR),
            Self::Day => Some(now.day() + Span::DAY),
            Self::Total => None,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Quantity {
    /// Input and output tokens.
    Tokens,
    /// Money.
    Cost,
    /// Attempts started.
    Jobs,
    /// Attempts that run at the same time.
    Concurrent,
    /// Pull requests made.
    PullRequests,
    /// Issues made.
    Issues,
}

impl Quantity {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Jobs => "jobs",
            Self::Concurrent => "concurrent",
            Self::PullRequests => "pull_requests",
            Self::Issues => "issues",
        }
    }
}

const fn yes() -> bool {
    true
}

/// Upper bounds for one window, at least 1 each. What is absent is not bounded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// The period that is counted over.
    pub window: Window,
    /// Input and output tokens.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Money.
    #[serde(default)]
    pub cost: Option<Money>,
    /// Attempts started.
    #[serde(default)]
    pub jobs: Option<u64>,
    /// Attempts running at the same time; the window does not matter.
    #[serde(default)]
    pub concurrent: Option<u64>,
    /// Pull requests made.
    #[serde(default)]
    pub pull_requests: Option<u64>,
    /// Issues made.
    #[serde(default)]
    pub issues: Option<u64>,
    /// Whether running attempts are stopped when tokens or cost are used up.
    #[serde(default = "yes")]
    pub hard: bool,
}

impl Limit {
    /// No bounds over this window.
    pub const fn none(window: Window) -> Self {
        Self {
            window,
            tokens: None,
            cost: None,
            jobs: None,
            concurrent: None,
            pull_requests: None,
            issues: None,
            hard: true,
        }
    }

    /// Whether some bound of it is zero. The views of limits show 0 as unlimited, so that 0 cannot be a bound.
    pub fn permits_nothing(&self) -> bool {
        let counts = [
            self.tokens,
            self.jobs,
            self.concurrent,
            self.pull_requests,
            self.issues,
        ];
        counts.contains(&Some(0)) || self.cost == Some(Money::ZERO)
    }

    /// Whether it bounds nothing.
    pub const fn is_empty(&self) -> bool {
        self.tokens.is_none()
            && self.cost.is_none()
            && self.jobs.is_none()
            && self.concurrent.is_none()
            && self.pull_requests.is_none()
            && self.issues.is_none()
    }
}

/// Prices of a model for a million tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Prices {
    /// Fresh input.
    #[serde(default)]
    pub input: Money,
    /// Output.
    #[serde(default)]
    pub output: Money,
    /// Cached input.
    #[serde(default)]
    pub cached: Money,
}

/// Everything that is set for one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Its limits, at most one for each window.
    pub limits: Vec<Limit>,
    /// Agents: the models that it may use; empty is any.
    pub model_allowlist: Vec<ModelName>,
    /// Agents: the longest that one attempt may run.
    pub max_job_duration: Option<Span>,
    /// Models: what a million tokens cost.
    pub prices: Prices,
    /// Repositories: nothing starts for so long after a failed attempt.
    pub cooldown_after_failure: Span,
}

/// What the start of an attempt asks of one scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// Tokens to hold.
    pub tokens: u64,
    /// Money to hold.
    pub cost: Money,
    /// What its success makes.
    pub produces: Option<Produces>,
}

/// Why a limit refuses a start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRefusal {
    /// In the words of the contract.
    pub reason: String,
    /// Whose limit it is.
    pub scope: Scope,
    /// Whether even an unused limit would refuse it.
    pub too_large: bool,
    /// When the passing of time alone helps.
    pub until: Option<Timestamp>,
}

impl Policy {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this agent may use a model.
    ///
    /// # Errors
    /// The refusal in the words that clients know.
    pub fn allows_model(&self, scope: &Scope, model: Option<&ModelName>) -> Result<(), Box<LimitRefusal>> {
        match model {
            Some(model) if !self.model_allowlist.is_empty() && !self.model_allowlist.contains(model) => {
                Err(Box::new(LimitRefusal {
                    reason: format!("model not in allowlist: {model}"),
                    scope: scope.clone(),
                    too_large: true,
                    until: None,
                }))
            }
            _ => Ok(()),
        }
    }

    /// The limit of this window, if one is set.
    pub fn limit(&self, window: Window) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.window == window)
    }

    /// Replaces the limit of its window, or removes it when it bounds nothing.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limits.retain(|other| other.window != limit.window);
        if !limit.is_empty() {
            self.limits.push(limit);
            self.limits.sort_by_key(|limit| limit.window);
        }
    }

    /// Whether an attempt that asks for this much may start now.
    ///
    /// # Errors
    /// The first limit that refuses it.
    pub fn permits(
        &self,
        scope: &Scope,
        counter: &Counter,
        ask: Ask,
        now: Timestamp,
    ) -> Result<(), Box<LimitRefusal>> {
        if let Scope::Repo(repo) = scope
            && !self.cooldown_after_failure.is_zero()
            && now < counter.cooldown_until
        {
            return Err(Box::new(LimitRefusal {
                reason: format!("repository cooling down after failure: {repo}"),
                scope: scope.clone(),
                too_large: false,
                until: Some(counter.cooldown_until),
            }));
        }
        let mut refusal = None;
        for limit in &self.limits {
            if let Some((quantity, too_large)) = limit.refuses(counter, ask, now)
                && (refusal.is_none() || too_large)
            {
                // What can never pass says more than what cannot pass now.
                refusal = Some(Box::new(LimitRefusal {
                    reason: reason(scope, limit.window, quantity),
                    scope: scope.clone(),
                    too_large,
                    until: match quantity {
                        Quantity::Concurrent => None,
                        _ if too_large => None,
                        _ => limit.window.end(now),
                    },
                }));
                if too_large {
                    break;
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The hard limit on tokens or cost that is used up, holds aside, if there is one.
    pub fn used_up(&self, counter: &Counter, now: Timestamp) -> Option<(Window, Quantity)> {
        self.limits.iter().filter(|limit| limit.hard).find_map(|limit| {
            let used = counter.window(limit.window, now);
            if limit.tokens.is_some_and(|bound| used.tokens >= signed(bound)) {
                Some((limit.window, Quantity::Tokens))
            } else if limit.cost.is_some_and(|bound| used.cost >= bound) {
                Some((limit.window, Quantity::Cost))
            } else {
                None
            }
        })
    }
}

/// A count of tokens as a signed number; counts are far below the bound.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Limit {
    /// What refuses this start, and whether the limit is smaller than the ask itself.
    fn refuses(&self, counter: &Counter, ask: Ask, now: Timestamp) -> Option<(Quantity, bool)> {
        let used = counter.window(self.window, now);
        if let Some(bound) = self.tokens {
            let (bound, own) = (signed(bound), signed(ask.tokens));
            let taken = used.tokens.saturating_add(signed(counter.held_tokens));
            if taken >= bound || taken.saturating_add(own) > bound {
                return Some((Quantity::Tokens, own > bound));
            }
        }
        if let Some(bound) = self.cost {
            let taken = used.cost + counter.held_cost;
            if taken >= bound || taken + ask.cost > bound {
                return Some((Quantity::Cost, ask.cost > bound));
            }
        }
        if self.jobs.is_some_and(|bound| used.jobs >= bound) {
            return Some((Quantity::Jobs, self.jobs == Some(0)));
        }
        if self
            .concurrent
            .is_some_and(|bound| u64::from(counter.active) >= bound)
        {
            return Some((Quantity::Concurrent, self.concurrent == Some(0)));
        }
        let full = |bound: Option<u64>, used: u64, held: u32| {
            bound.is_some_and(|bound| used.saturating_add(u64::from(held)) >= bound)
        };
        match ask.produces {
            Some(Produces::PullRequest)
                if full(self.pull_requests, used.pull_requests, counter.held_pull_requests) =>
            {
                Some((Quantity::PullRequests, self.pull_requests == Some(0)))
            }
            Some(Produces::Issue) if full(self.issues, used.issues, counter.held_issues) => {
                Some((Quantity::Issues, self.issues == Some(0)))
            }
            _ => None,
        }
    }
}

/// The reason why a limit refuses, in the words that clients know.
pub fn reason(scope: &Scope, window: Window, quantity: Quantity) -> String {
    match (scope, window, quantity) {
        (Scope::Agent(_), Window::Day, Quantity::Tokens) => "daily token limit exceeded".into(),
        (Scope::Agent(_), Window::Day, Quantity::Jobs) => "daily job limit exceeded".into(),
        (Scope::Agent(_), _, Quantity::Concurrent) => "concurrent job limit reached".into(),
        (Scope::Model(model), Window::Day, Quantity::Tokens) => {
            format!("global model token budget exceeded for: {model}")
        }
        (Scope::Model(model), Window::Hour, Quantity::Jobs) => {
            format!("model hourly rate limit reached for: {model}")
        }
        (Scope::Model(model), Window::Total, Quantity::Cost) => {
            format!("model cost ceiling reached for: {model}")
        }
        (Scope::Repo(repo), Window::Day, Quantity::PullRequests) => {
            format!("repository daily pull request limit reached: {repo}")
        }
        (Scope::Repo(repo), Window::Day, Quantity::Issues) => {
            format!("repository daily issue limit reached: {repo}")
        }
        _ => format!("{scope} {} {} limit reached", window.name(), quantity.name()),
    }
}
