//! Arguments of the tools. The comments are what models read of them.
//!
//! Only shapes are checked here. What is valid is for the API to say, which names the field.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::ApiError;

/// Reads the arguments of a call.
///
/// # Errors
/// Names the argument that is missing, unknown or of a wrong type.
pub(crate) fn read<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let path = error.path().to_string();
        let what = error.into_inner().to_string();
        // What is missing or unknown is named by the text itself, where it stands at the top.
        ApiError::argument(if path == "." {
            what
        } else {
            format!("{path}: {what}")
        })
    })
}

/// Refuses a text that is empty: as a part of a path it would name something else.
pub(crate) fn filled(name: &str, value: &str) -> Result<(), ApiError> {
    if value.is_empty() {
        return Err(ApiError::argument(format!("{name}: must not be empty")));
    }
    Ok(())
}

/// A value as JSON, without what is absent.
pub(crate) fn body(value: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value)
        .map_err(|error| ApiError::argument(format!("the arguments cannot be written as JSON: {error}")))
}

/// How urgent a task is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Priority {
    Critical,
    High,
    Medium,
    Low,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Status {
    Pending,
    Blocked,
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Blocked => "blocked",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Priority {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// What a success counts for in its repository.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Produces {
    PullRequest,
    Issue,
}

/// A length of time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum Duration {
    /// Whole seconds.
    Seconds(u64),
    /// With a unit, such as `30m`.
    Text(String),
}

/// `register`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// The agent that you are. Only needed when your token is not for one agent alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What you can do: you get tasks whose labels are all among these. Say all of them each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) capabilities: Option<Vec<String>>,
    /// The language models that you can use; leave it out when it does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) models: Option<Vec<String>>,
    /// The most tasks that you take at a time. Leave it out for 1; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_load: Option<u32>,
    /// Any JSON that people shall see beside your name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Value>,
}

/// A task that an agent works on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Running {
    /// The task.
    #[serde(rename(serialize = "id"))]
    pub(crate) task_id: String,
    /// The number of its attempt, as you were given it.
    pub(crate) attempt: u32,
}

/// `next_task`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextTask {
    /// The tasks that you work on right now and know of. Leave it out when you work on none, or do not remember:
    /// whatever you hold and do not list here is given to you again, so nothing is lost.
    pub(crate) running: Option<Vec<Running>>,
    /// How many seconds to wait for a task when there is none; 20 when it is left out, at most 240. A long wait costs
    /// nothing but the time.
    pub(crate) wait: Option<f64>,
    /// The most new tasks to be given at once. Leave it out for as many as you have room for.
    pub(crate) max: Option<u32>,
    /// The agent that you are. Only needed when your token is not for one agent alone.
    pub(crate) agent_id: Option<String>,
}

/// `update_task`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateTask {
    /// The task.
    #[serde(skip_serializing)]
    pub(crate) task_id: String,
    /// The number of your attempt, as you were given it with the task: it shows that the task is still yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// How far you are, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub(crate) progress: Option<u8>,
    /// A remark for people, appended to those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notes: Option<String>,
    /// The agent that you are. Only needed when your token is not for one agent alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
}

/// `report_usage`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportUsage {
    /// The task that you spent it on.
    #[serde(rename(serialize = "job_id"))]
    pub(crate) task_id: String,
    /// The number of your attempt, as you were given it with the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// The language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Fresh input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_in: Option<u64>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_out: Option<u64>,
    /// Cached input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_cached: Option<u64>,
    /// What it cost, in cents. Leave it out to have it worked out from the model's prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<f64>,
    /// Whether these are the totals of your attempt so far (true) or what came on top since the last report (false,
    /// as when it is left out). A report of totals may be sent twice without counting twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<bool>,
    /// The agent that you are. Only needed when your token is not for one agent alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
}

/// `complete_task`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteTask {
    /// The task.
    #[serde(skip_serializing)]
    pub(crate) task_id: String,
    /// Whether the work is done. False is a failed attempt: the task is tried again later, perhaps by another agent.
    pub(crate) success: bool,
    /// The number of your attempt, as you were given it with the task: it shows that the task is still yours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// What came out, in words or as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    /// What went wrong, when it is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<String>,
    /// Files, links or names of what came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts: Option<Vec<String>>,
    /// The language model that the tokens are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Fresh input tokens of the whole attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_in: Option<u64>,
    /// Output tokens of the whole attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_out: Option<u64>,
    /// Cached input tokens of the whole attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_cached: Option<u64>,
    /// What the whole attempt cost, in cents. Leave it out to have it worked out from the model's prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<f64>,
    /// With `success` false: your provider limits your rate until then, such as `2026-11-24T18:30:00Z`. It is no failure
    /// of the task, and you are given nothing until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limited_until: Option<String>,
    /// The agent that you are. Only needed when your token is not for one agent alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
}

/// `release_task`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseTask {
    /// The task.
    #[serde(skip_serializing)]
    pub(crate) task_id: String,
    /// The number of your attempt, as you were given it with the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// The agent that you are. Only needed when your token is not for one agent alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<String>,
}

/// `check_allowance`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckAllowance {
    /// The language model that you mean to use, to count its limits too.
    pub(crate) model: Option<String>,
    /// The agent. Only needed when your token is not for one agent alone.
    pub(crate) agent_id: Option<String>,
}

/// `create_task`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTask {
    /// What has to be done, in a line; 1 to 500 characters.
    pub(crate) title: String,
    /// What has to be done, in full: whoever gets it knows nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// An id of your own choice, of `[A-Za-z0-9._:-]`: other tasks can name it as a dependency, and sending it twice makes
    /// no second task. Made by the server when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// How urgent it is; `medium` when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<Priority>,
    /// What an agent must be able to do, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<Vec<String>>,
    /// What an agent should be able to do, but need not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefers: Option<Vec<String>>,
    /// Ids of the tasks that must be completed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dependencies: Option<Vec<String>>,
    /// Names, such as of files or branches: two tasks that share one are never worked on at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) locks: Option<Vec<String>>,
    /// Relevant files, for information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<Vec<String>>,
    /// Any JSON, handed to the agent as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Value>,
    /// The language model that must be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// The project whose limits it counts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// The repository whose limits it counts for, as `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repo: Option<String>,
    /// What a success counts for in the repository's limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) produces: Option<Produces>,
    /// How many tokens it will take, so that much is held back for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) estimated_tokens: Option<u64>,
    /// The longest that one attempt may take: seconds, or a text such as `30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
    /// Not to be started earlier, such as `2026-11-24T18:30:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<String>,
    /// After how many failed attempts it is given up; 3 when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_retries: Option<u32>,
}

/// `create_tasks`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTasks {
    /// The tasks, at most 1000. Give those an `id` that others of them depend on.
    pub(crate) tasks: Vec<CreateTask>,
}

/// `list_tasks`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTasks {
    /// In this state. `pending` lists them in the order in which they will start, everything else newest first.
    pub(crate) status: Option<Status>,
    /// This urgent.
    pub(crate) priority: Option<Priority>,
    /// Of this project.
    pub(crate) project: Option<String>,
    /// Held by this agent, or by it at the end.
    pub(crate) claimed_by: Option<String>,
    /// With all of these labels.
    pub(crate) labels: Option<Vec<String>>,
    /// The most tasks to list, up to 1000; 50 when it is left out.
    pub(crate) limit: Option<u32>,
    /// Where to go on: `next_cursor` of the answer before.
    pub(crate) cursor: Option<String>,
}

/// `get_task`, `explain_task`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneTask {
    /// The task.
    pub(crate) task_id: String,
}

/// `cancel_task`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelTask {
    /// The task.
    pub(crate) task_id: String,
    /// Whether to cancel all tasks that depend on it as well.
    pub(crate) cascade: Option<bool>,
}

/// `fleet_status`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetStatus {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(arguments: Value) -> String {
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        read::<T>(arguments).unwrap_err().message
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (message, name) in [
            (refusal::<CompleteTask>(json!({"success": true})), "task_id"),
            (
                refusal::<CompleteTask>(json!({"task_id": "t", "success": "yes"})),
                "success: ",
            ),
            (refusal::<OneTask>(json!({"task_id": 7})), "task_id: "),
            (
                refusal::<OneTask>(json!({"task_id": "t", "taskid": "t"})),
                "taskid",
            ),
            (
                refusal::<UpdateTask>(json!({"task_id": "t", "progress": 300})),
                "progress: ",
            ),
            (
                refusal::<NextTask>(json!({"running": [{"task_id": "t"}]})),
                "running[0]: missing field `attempt`",
            ),
            (
                refusal::<CreateTasks>(
                    json!({"tasks": [{"title": "a"}, {"title": "b", "priority": "urgent"}]}),
                ),
                "tasks[1].priority: ",
            ),
        ] {
            assert!(message.contains(name), "{name}: {message}");
        }
    }

    #[test]
    fn what_is_null_is_left_out() {
        let Value::Object(arguments) =
            json!({"task_id": "t", "success": true, "attempt": null, "artifacts": null})
        else {
            panic!("not an object")
        };
        let complete: CompleteTask = read(arguments).unwrap();
        assert_eq!(body(&complete).unwrap(), json!({"success": true}));
    }

    #[test]
    fn bodies_have_the_names_of_the_api() {
        let running = Running {
            task_id: "t".into(),
            attempt: 2,
        };
        assert_eq!(body(&running).unwrap(), json!({"id": "t", "attempt": 2}));
    }
}
