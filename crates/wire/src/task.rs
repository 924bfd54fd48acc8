//! Tasks on the wire.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use adjutant_core::task::{Priority, Produces, Status};
use adjutant_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ErrorBody, RawJson, null_is_default, present, shape};

/// A task to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewTask {
    /// 1–128 of `[A-Za-z0-9._:-]`; made by the server when absent.
    #[serde(default)]
    #[schema(value_type = Option<shape::Id>)]
    pub id: Option<String>,
    /// 1–500 characters.
    #[schema(min_length = 1, max_length = 500, pattern = "\\S")]
    pub title: String,
    /// What has to be done; up to 1 MiB.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<String>)]
    pub description: String,
    /// How urgent it is: `critical`, `high`, `medium` (the default) or `low`.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::PriorityName>, example = "medium")]
    pub priority: Priority,
    /// Capabilities that an agent must all have.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub labels: Vec<String>,
    /// Capabilities that raise an agent's score; never required.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub prefers: Vec<String>,
    /// The model that the job must use.
    #[serde(default)]
    #[schema(value_type = Option<shape::NameOrEmpty>)]
    pub model: Option<String>,
    /// The project whose limits it counts for.
    #[serde(default)]
    #[schema(value_type = Option<shape::NameOrEmpty>)]
    pub project: Option<String>,
    /// The repository whose limits it counts for, `owner/name`.
    #[serde(default)]
    #[schema(value_type = Option<shape::RepoOrEmpty>)]
    pub repo: Option<String>,
    /// What a success adds to the repository's daily count: `pull_request` or `issue`.
    #[serde(default)]
    #[schema(value_type = Option<shape::ProducesName>)]
    pub produces: Option<Produces>,
    /// Relevant files; information only.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<String>>, max_items = 1000)]
    pub files: Vec<String>,
    /// Names that no other task in progress may share.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Names>)]
    pub locks: Vec<String>,
    /// Any JSON, handed to the agent untouched; up to 1 MiB.
    #[serde(default)]
    #[schema(value_type = shape::AnyJson)]
    pub payload: Option<RawJson>,
    /// Tasks that must be completed first; at most 1,000.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Ids>)]
    pub dependencies: Vec<String>,
    /// Tokens held at dispatch; 0 is unknown.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Count>)]
    pub estimated_tokens: u64,
    /// Upper bound of one attempt, in seconds or as `"30m"`.
    #[serde(default)]
    #[schema(value_type = Option<shape::Duration>)]
    pub timeout: Option<Span>,
    /// Not dispatched earlier.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// Failed attempts before dead letter; 0 is the default, 3.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<shape::Small>)]
    pub max_retries: u32,
}

/// A task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What has to be done.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// How urgent it is.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = shape::PriorityName)]
    pub priority: Priority,
    /// Where it stands: `pending`, `blocked`, `in_progress`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = shape::StatusName)]
    pub status: Status,
    /// Capabilities that an agent must all have.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: Vec<String>,
    /// Capabilities that raise an agent's score.
    #[serde(default, deserialize_with = "null_is_default")]
    pub prefers: Vec<String>,
    /// The model that the job must use.
    #[serde(default)]
    pub model: Option<String>,
    /// The project whose limits it counts for.
    #[serde(default)]
    pub project: Option<String>,
    /// The repository whose limits it counts for.
    #[serde(default)]
    pub repo: Option<String>,
    /// What a success adds to the repository's daily count.
    #[serde(default)]
    #[schema(value_type = Option<shape::ProducesName>)]
    pub produces: Option<Produces>,
    /// Relevant files.
    #[serde(default, deserialize_with = "null_is_default")]
    pub files: Vec<String>,
    /// Names that no other task in progress may share.
    #[serde(default, deserialize_with = "null_is_default")]
    pub locks: Vec<String>,
    /// Any JSON.
    #[serde(default)]
    #[schema(value_type = shape::AnyJson)]
    pub payload: Option<RawJson>,
    /// Tasks that must be completed first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub dependencies: Vec<String>,
    /// The first hundred tasks that wait for this one.
    #[serde(default, deserialize_with = "null_is_default")]
    pub blockers: Vec<String>,
    /// How many tasks named this one as a dependency.
    #[serde(default, deserialize_with = "null_is_default")]
    pub blockers_count: u32,
    /// Tokens held at dispatch.
    #[serde(default, deserialize_with = "null_is_default")]
    pub estimated_tokens: u64,
    /// Upper bound of one attempt, in seconds.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub timeout: Option<Span>,
    /// Not dispatched earlier.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// Failed attempts before dead letter.
    #[serde(default, deserialize_with = "null_is_default")]
    pub max_retries: u32,
    /// Failed attempts so far.
    #[serde(default, deserialize_with = "null_is_default")]
    pub retry_count: u32,
    /// When the last attempt started.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_attempt: Option<Timestamp>,
    /// Why the last failed attempt failed.
    #[serde(default)]
    pub fail_reason: Option<String>,
    /// Number of the current or last attempt; the fencing token.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attempt: u32,
    /// Who holds it, or held it at its end.
    #[serde(default)]
    pub claimed_by: Option<String>,
    /// Since when.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub claimed_at: Option<Timestamp>,
    /// Until when, unless the holder is heard of again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lease_expires_at: Option<Timestamp>,
    /// 0–100.
    #[serde(default, deserialize_with = "null_is_default")]
    pub progress: u8,
    /// What was remarked.
    #[serde(default, deserialize_with = "notes_of_any_server")]
    pub notes: Vec<Note>,
    /// How the last finished attempt went.
    #[serde(default)]
    pub result: Option<TaskResult>,
    /// What it cost so far.
    #[serde(default, deserialize_with = "null_is_default")]
    pub usage: TaskUse,
    /// Why it waits, while it is pending or blocked.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// When it arrived; rises strictly.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Reads notes, also those of a server that keeps them as plain text.
fn notes_of_any_server<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Note>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Notes {
        Own(Vec<Note>),
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Notes::Own(notes)) => notes,
        Some(Notes::Text(text)) if !text.is_empty() => vec![Note {
            at: Timestamp::EPOCH,
            author: String::new(),
            text,
        }],
        Some(Notes::Text(_) | Notes::Other(_)) | None => Vec::new(),
    })
}

/// A remark on a task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// By whom.
    pub author: String,
    /// What it says.
    pub text: String,
}

/// How an attempt went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskResult {
    /// Whether the work is done.
    pub success: bool,
    /// What came out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub output: String,
    /// Files, links or names that came out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub artifacts: Vec<String>,
    /// What went wrong.
    #[serde(default, deserialize_with = "null_is_default")]
    pub error_message: String,
}

/// What a task used, over all attempts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskUse {
    /// Fresh input tokens.
    #[serde(default)]
    pub tokens_in: u64,
    /// Output tokens.
    #[serde(default)]
    pub tokens_out: u64,
    /// Cached input tokens.
    #[serde(default)]
    pub tokens_cached: u64,
    /// Cents.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub cost: Money,
    /// The same by model.
    #[serde(default)]
    pub models: Vec<ModelUse>,
}

/// What was used of one model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelUse {
    /// The model; `null` when reports did not say.
    pub model: Option<String>,
    /// Its tokens.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub tokens: Tokens,
    /// Cents.
    #[schema(value_type = f64)]
    pub cost: Money,
}

/// Why a task waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// The first reason that applies: `held`, `dependency_failed`, `dependency`, `not_before`, `locked`,
    /// `repo_limit`, `no_agents`, `no_capable_agent`, `model_quota`, `quota` or `all_busy`.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// When the task became ready.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// Changes of a task. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskPatch {
    /// `completed` or `failed` ends the attempt, `pending` gives it back, `cancelled` cancels the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::StatusName>)]
    pub status: Option<Status>,
    /// 0–100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub progress: Option<u8>,
    /// A note to append.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// The attempt that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub attempt: Option<u32>,
    /// The agent that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: Option<String>,
    /// A new urgency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::PriorityName>)]
    pub priority: Option<Priority>,
    /// New required labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Names>)]
    pub labels: Option<Vec<String>>,
    /// New preferred labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Names>)]
    pub prefers: Option<Vec<String>>,
    /// A new earliest time; `null` is none.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Option<Timestamp>>,
    /// A new number of failed attempts before dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub max_retries: Option<u32>,
    /// A new estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Count>)]
    pub estimated_tokens: Option<u64>,
}

/// Who claims; the token's name when absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// The agent.
    #[serde(default)]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: Option<String>,
}

/// Which attempt speaks, where a request needs no more.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AttemptRef {
    /// The attempt.
    #[serde(default)]
    #[schema(value_type = Option<shape::Small>)]
    pub attempt: Option<u32>,
    /// The agent.
    #[serde(default)]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: Option<String>,
}

/// The end of an attempt.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// The task: needed in batches and in `done`, where no path names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub id: Option<String>,
    /// Whether the work is done.
    pub success: bool,
    /// What came out.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<String>)]
    pub output: String,
    /// Files, links or names that came out.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<String>>, max_items = 1000)]
    pub artifacts: Vec<String>,
    /// What went wrong.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<String>)]
    pub error_message: String,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Small>)]
    pub attempt: Option<u32>,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::IdOrEmpty>)]
    pub agent_id: Option<String>,
    /// The model that the tokens are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::NameOrEmpty>)]
    pub model: Option<String>,
    /// The attempt's total of fresh input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_in: Option<u64>,
    /// The attempt's total of output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_out: Option<u64>,
    /// The attempt's total of cached input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Count>)]
    pub tokens_cached: Option<u64>,
    /// The attempt's total cost in cents; worked out from prices when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shape::Cents>)]
    pub cost: Option<Money>,
    /// Not a failure of the task: the agent's provider limits its rate until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rate_limited_until: Option<Timestamp>,
}

/// A task, and what was done with it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskMessage {
    /// The task as it is now.
    pub task: Task,
    /// In words.
    #[serde(default)]
    pub message: String,
}

/// How one item of a batch went.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchItem {
    /// The status code that the item would have got alone.
    pub status: u16,
    /// The task, when it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The error, when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}
