//! Usage reports, events, status and access tokens on the wire.

use std::collections::BTreeMap;

use adjutant_core::money::Money;
use adjutant_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::Agent;
use crate::limit::AllowanceCheck;
use crate::task::Waiting;
use crate::{RawJson, null_is_default, shape};

/// What a usage report is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageEvent {
    /// Tokens of something that runs.
    #[default]
    Usage,
    /// A job that was dispatched elsewhere starts.
    JobStarted,
    /// It is done.
    JobCompleted,
    /// It failed.
    JobFailed,
    /// It was cancelled.
    JobCancelled,
}

/// Tokens and cost that an agent reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Who ran it; may be absent with the token of an attempt, which knows.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: String,
    /// The task, or the job that was dispatched elsewhere.
    #[schema(value_type = shape::Id)]
    pub job_id: String,
    /// The model.
    #[serde(default)]
    #[schema(value_type = Option<shape::NameOrEmpty>)]
    pub model: Option<String>,
    /// Fresh input tokens.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_in: u64,
    /// Output tokens.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_out: u64,
    /// Cached input tokens.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_cached: u64,
    /// Cents; worked out from prices when absent.
    #[serde(default)]
    #[schema(value_type = Option<shape::Cents>)]
    pub cost: Option<Money>,
    /// Whether these are totals of the attempt and model instead of an increase.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<bool>)]
    pub total: bool,
    /// What it is about.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<UsageEvent>)]
    pub event: UsageEvent,
    /// The attempt; the latest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub attempt: Option<u32>,
}

/// Live output of an attempt.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// What it printed.
    pub text: String,
    /// The attempt that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub attempt: Option<u32>,
    /// The agent that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: Option<String>,
}

/// That something was done, where there is nothing to show.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Acknowledgement {
    /// In words.
    pub message: String,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the order of commits, without gaps.
    pub seq: u64,
    /// What kind of thing happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// To which task.
    pub task_id: Option<String>,
    /// To or by which agent.
    pub agent_id: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// More about it.
    #[schema(value_type = shape::AnyJson)]
    pub payload: Option<RawJson>,
}

/// What each agent lacks for a task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The task.
    pub task_id: String,
    /// Its state.
    pub status: String,
    /// Why it waits, while it is pending or blocked.
    pub waiting: Option<Waiting>,
    /// How many agents were considered.
    pub considered: u64,
    /// What they lack, most common first.
    pub groups: Vec<ExplanationGroup>,
}

/// Agents that lack the same.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplanationGroup {
    /// What they lack.
    pub reason: String,
    /// How many there are.
    pub count: u64,
    /// The first hundred by name.
    pub agents: Vec<String>,
}

/// The whole fleet at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetStatus {
    /// All agents, by id.
    pub agents: Vec<FleetAgent>,
    /// How many tasks are in each state.
    pub tasks: BTreeMap<String, u64>,
    /// The last event.
    pub last_seq: u64,
}

/// An agent with what is left of its allowance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetAgent {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// What is left.
    pub allowance: AllowanceCheck,
}

/// Whether the server is well.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
}

/// An access token to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Its name.
    #[schema(value_type = shape::Id)]
    pub name: String,
    /// What it allows: `admin`, `submit`, `read`, `agent:ID`, `agent:*`.
    #[schema(value_type = Vec<shape::RoleName>, min_items = 1, max_items = 100)]
    pub roles: Vec<String>,
}

/// An access token, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub roles: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An access token that was just made: the only time that its secret is shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub roles: Vec<String>,
    /// The secret.
    pub token: String,
}

/// A link that signs a browser in to the dashboard.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SignInLink {
    /// Where to go, once.
    pub url: String,
    /// For how many seconds it may be used.
    pub expires_in: u64,
}
