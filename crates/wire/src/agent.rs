//! Agents and their roll-call on the wire.

use adjutant_core::agent::AgentStatus;
use adjutant_core::attempt::StopReason;
use adjutant_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::task::{Completion, Task};
use crate::{BatchItem, RawJson, null_is_default, shape};

/// An agent that registers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewAgent {
    /// 1–128 of `[A-Za-z0-9._:-]`.
    #[schema(value_type = shape::Id)]
    pub id: String,
    /// Its name for people; the id when absent.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// What it can do.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub capabilities: Vec<String>,
    /// The models that it can use; empty is any.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub models: Vec<String>,
    /// The most attempts at a time; 0 is unlimited, absent is 1.
    #[serde(default)]
    #[schema(value_type = Option<shape::Small>)]
    pub max_load: Option<u32>,
    /// Any JSON, kept for people.
    #[serde(default)]
    #[schema(value_type = shape::AnyJson)]
    pub metadata: Option<RawJson>,
    /// A random string of the worker process that speaks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub session: Option<String>,
    /// `a2a` for an agent without a worker: the server itself sends its tasks to `url` by A2A. For
    /// administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(a2a)?$")]
    pub protocol: Option<String>,
    /// Where such an agent is: `https://…` or `http://…`. Its host is looked up now, and no other address spoken to
    /// later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 2000,
        pattern = "^(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?)?$"
    )]
    pub url: Option<String>,
    /// The environment variable of the server that has the bearer token for it, `ADJUTANT_PEER_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(ADJUTANT_PEER_[A-Z0-9_]{1,114})?$")]
    pub token_env: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The models that it can use; empty is any.
    pub models: Vec<String>,
    /// `available`, `busy`, `draining`, `quarantined` or `offline`.
    #[schema(value_type = String)]
    pub status: AgentStatus,
    /// When it was last heard of.
    #[schema(value_type = String, format = DateTime)]
    pub last_heartbeat: Timestamp,
    /// How many attempts it has.
    pub current_load: u32,
    /// The most attempts at a time; 0 is unlimited.
    pub max_load: u32,
    /// Takes nothing until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Timestamp>,
    /// Quarantined until then.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub quarantined_until: Option<Timestamp>,
    /// Any JSON, kept for people.
    #[serde(default, deserialize_with = "json_of_any_reader")]
    #[schema(value_type = shape::AnyJson)]
    pub metadata: Option<RawJson>,
    /// When it first registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    /// `a2a` for an agent that the server itself speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Where such an agent is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The only addresses that the server goes to for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    /// The environment variable of the server that has the token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
}

/// Reads JSON text by way of a value: raw text cannot be read where an agent is flattened into another object.
fn json_of_any_reader<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RawJson>, D::Error> {
    match <Option<serde_json::Value> as Deserialize>::deserialize(deserializer)? {
        None => Ok(None),
        Some(value) => serde_json::value::to_raw_value(&value)
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}

/// An attempt that the agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Running {
    /// The task.
    #[schema(value_type = shape::Id)]
    pub id: String,
    /// The attempt.
    #[schema(value_type = shape::Small)]
    pub attempt: u32,
}

/// A roll-call: what the agent runs and what it finished.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SyncRequest {
    /// The session given at registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub session: Option<String>,
    /// Rises with each sync of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// All attempts that the agent runs, and that were not acknowledged as done. What it has taken and does not list
    /// is lost: so the list must be there, if only empty.
    #[schema(max_items = 10000)]
    pub running: Vec<Running>,
    /// Attempts that it finished and that were not acknowledged yet.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<Completion>>, max_items = 1000)]
    pub done: Vec<Completion>,
    /// The most attempts to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub max: Option<u32>,
    /// Seconds to wait for something to start or stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub wait: Option<f64>,
}

/// A heartbeat: it proves life and leaves attempts as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// The session given at registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub session: Option<String>,
}

/// The answer to a roll-call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SyncAnswer {
    /// What to start.
    pub start: Vec<Start>,
    /// What to stop.
    pub stop: Vec<Stop>,
    /// How each completion in `done` went, in the order given.
    #[serde(default)]
    pub done: Vec<BatchItem>,
    /// Whether to finish what runs and take nothing new.
    pub drain: bool,
    /// How long the leases last from now, in seconds.
    #[schema(value_type = u64)]
    pub lease_ttl: Span,
}

/// An attempt to start.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Start {
    /// The task.
    pub task: Task,
    /// The attempt's number.
    pub attempt: u32,
    /// Until when it is the agent's, unless it syncs again.
    #[schema(value_type = String, format = DateTime)]
    pub lease_expires_at: Timestamp,
    /// The longest that the attempt may run, in seconds: the smaller of the task's timeout and the agent's
    /// `max_job_duration`.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub timeout: Option<Span>,
    /// A token for this attempt alone, for the process that does the work.
    #[serde(default)]
    pub token: Option<String>,
}

/// An attempt to stop.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Stop {
    /// The task.
    pub id: String,
    /// The attempt's number.
    pub attempt: u32,
    /// `cancelled`, `timeout`, `limit`, `released`, `lost`, `ended` or `unknown`.
    #[schema(value_type = String)]
    pub reason: StopReason,
}

/// An agent that was removed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentNote {
    /// Its id.
    pub id: String,
    /// In words.
    pub message: String,
}
