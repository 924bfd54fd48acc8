//! Limits and allowances on the wire.

use adjutant_core::limit::{Limit, Prices};
use adjutant_core::money::Money;
use adjutant_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{null_is_default, shape};

/// A limit over one window: `{window: hour|day|total, tokens?, cost?, jobs?, concurrent?, pull_requests?, issues?, hard}`.
pub type LimitSpec = Limit;

/// All limits of a scope, and what is used of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScopeLimits {
    /// `fleet`, `project:P`, `agent:A`, `model:M` or `repo:OWNER/NAME`; taken from the path in requests.
    #[serde(default)]
    pub scope: String,
    /// At most one for each window.
    #[schema(value_type = Vec<shape::LimitShape>)]
    pub limits: Vec<LimitSpec>,
    /// What is used, by window; read-only.
    #[serde(default, rename = "use")]
    pub used: Vec<ScopeUse>,
    /// Tokens held by live attempts; read-only.
    #[serde(default)]
    #[schema(format = "uint64")]
    pub held_tokens: u64,
    /// Cents held by live attempts; read-only.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub held_cost: Money,
    /// Live attempts; read-only.
    #[serde(default)]
    #[schema(format = "uint32")]
    pub active_jobs: u32,
}

/// What is used of a scope in one window.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScopeUse {
    /// `hour`, `day` or `total`.
    pub window: String,
    /// The start of the period; `null` for the total.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub period_start: Option<Timestamp>,
    /// Input and output tokens, less refunds.
    pub tokens: i64,
    /// Cents.
    #[schema(value_type = f64)]
    pub cost: Money,
    /// Attempts started.
    pub jobs: u64,
    /// Pull requests made.
    pub pull_requests: u64,
    /// Issues made.
    pub issues: u64,
}

/// The allowance of an agent. 0 and empty are unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Allowance {
    /// The agent; taken from the path in requests.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: String,
    /// Tokens in a UTC day.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub daily_token_limit: u64,
    /// Attempts started in a UTC day.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub daily_job_limit: u64,
    /// Attempts at the same time.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub concurrent_jobs: u64,
    /// The longest that one attempt may run, in seconds.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Duration>)]
    pub max_job_duration: Span,
    /// The models that it may use.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub model_allowlist: Vec<String>,
}

/// Whether an agent may start something, and what is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowanceCheck {
    /// Whether it may.
    pub allowed: bool,
    /// `ok`, `warning` (from 80 % of the tokens) or `exceeded`.
    pub status: String,
    /// Tokens left today, holds counted; -1 is unlimited.
    pub remaining_tokens: i64,
    /// Attempts left to start today; -1 is unlimited.
    pub remaining_jobs: i64,
    /// Why it may not; empty when it may.
    pub reason: String,
}

/// What an agent used today.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AllowanceUsage {
    /// The agent.
    pub agent_id: String,
    /// Input and output tokens, less refunds.
    pub tokens_used: i64,
    /// Attempts started.
    pub jobs_started: u64,
    /// Attempts running.
    pub active_jobs: u32,
    /// Cents.
    #[schema(value_type = f64)]
    pub cost: Money,
    /// The start of the UTC day.
    #[schema(value_type = String, format = DateTime)]
    pub period_start: Timestamp,
}

/// The quota and the prices of a model. 0 is unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The model; taken from the path in requests.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::NameOrEmpty>)]
    pub model: String,
    /// Tokens in a UTC day.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub daily_token_budget: u64,
    /// Attempts started in a UTC hour.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub hourly_rate_limit: u64,
    /// Cents in total.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Cents>)]
    pub cost_ceiling: Money,
    /// Cents for a million tokens: `{input, output, cached}`.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::PricesShape>)]
    pub prices: Prices,
}

/// The limits of a repository. 0 is unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Repo {
    /// `owner/name`; taken from the path in requests.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::RepoOrEmpty>)]
    pub repo: String,
    /// Pull requests in a UTC day.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub max_daily_prs: u64,
    /// Issues in a UTC day.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub max_daily_issues: u64,
    /// Nothing starts for so long after a failed attempt, in seconds.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Duration>)]
    pub cooldown_after_failure: Span,
}
