//! The wire format: what the HTTP API takes and gives, as types that the server, the client and the documents share.
//!
//! Values that are absent are `null` in answers, never left out; unknown fields are ignored in requests.
//! Durations are whole seconds (read also as `"90s"`, `"30m"`, `"2h"`), money is decimal cents, times are RFC 3339
//! in UTC with microseconds.

mod agent;
mod error;
mod limit;
mod ops;
pub mod shape;
mod task;
mod webhook;

pub use agent::{Agent, AgentNote, Heartbeat, NewAgent, Running, Start, Stop, SyncAnswer, SyncRequest};
pub use error::{ApiError, ErrorBody};
pub use limit::{Allowance, AllowanceCheck, AllowanceUsage, LimitSpec, Model, Repo, ScopeLimits, ScopeUse};
pub use ops::{
    Acknowledgement, Event, Explanation, ExplanationGroup, FleetAgent, FleetStatus, Health, NewToken, Output,
    SignInLink, Token, TokenMade, UsageEvent, UsageReport,
};
pub use task::{
    AttemptRef, BatchItem, Claim, Completion, ModelUse, NewTask, Note, Task, TaskMessage, TaskPatch,
    TaskResult, TaskUse, Waiting,
};
pub use webhook::{NewWebhook, Webhook, WebhookDelivery, WebhookTest};

/// JSON text that is passed on untouched.
pub type RawJson = Box<serde_json::value::RawValue>;

/// Reads a field that may be absent, `null` or a value, and keeps the three apart.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things here, and serde offers no other way to tell them apart"
)]
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}

/// Reads a field where `null` means the same as absent.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    <Option<T> as serde::Deserialize>::deserialize(deserializer).map(Option::unwrap_or_default)
}
