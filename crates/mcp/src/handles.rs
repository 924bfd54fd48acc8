//! Handles: tasks of ours as tasks of the protocol (extension `io.modelcontextprotocol/tasks`).
//!
//! A client that follows such tasks is answered with a handle when it creates a task, and asks for it until the work is
//! done. The handle is the id of the task, so nothing is kept for it, and any server can be asked.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, CreateTaskResult, DetailedTask, ErrorCode, GetTaskResult, JsonObject, Task, TaskPayload,
    TaskStatus,
};
use serde_json::{Value, json};

use crate::api::{ApiError, Request};
use crate::handler::Visitor;
use crate::outcome::Outcome;
use crate::words::{line, text, whole, why};

/// How often a client should ask: work takes minutes.
const POLL_INTERVAL_MS: u64 = 5_000;
/// The JSON-RPC code of a task that failed: of the range that is left to servers.
const FAILED: ErrorCode = ErrorCode(-32_000);

/// The handle of a task that was just created.
pub(crate) fn created(task: &Value) -> CreateTaskResult {
    CreateTaskResult::new(shown(task))
}

/// Where a task stands, and what came out of it.
pub(crate) async fn get(visitor: &Visitor, id: &str) -> Result<GetTaskResult, ErrorData> {
    let task = read(visitor, id).await?;
    let payload = payload(&task)?;
    Ok(GetTaskResult::new(DetailedTask::new(shown(&task), payload)))
}

/// Takes note of what a client sends to a task: nothing, since tasks of ours ask their creators for nothing.
pub(crate) async fn update(visitor: &Visitor, id: &str) -> Result<(), ErrorData> {
    read(visitor, id).await.map(drop)
}

/// Cancels a task.
pub(crate) async fn cancel(visitor: &Visitor, id: &str) -> Result<(), ErrorData> {
    let request = Request::post(&["api", "tasks", id, "cancel"], json!({}));
    visitor.ask(request).await.map(drop).map_err(error)
}

async fn read(visitor: &Visitor, id: &str) -> Result<Value, ErrorData> {
    let reply = visitor.ask(Request::get(&["api", "tasks", id])).await;
    Ok(reply.map_err(error)?.body)
}

fn error(error: ApiError) -> ErrorData {
    let code = match error.status {
        500.. => ErrorCode::INTERNAL_ERROR,
        _ => ErrorCode::INVALID_PARAMS,
    };
    let outcome = Outcome::from(error);
    ErrorData::new(code, outcome.text, Some(outcome.structured))
}

fn status(task: &Value) -> TaskStatus {
    match text(task, "status") {
        "completed" => TaskStatus::Completed,
        "failed" => TaskStatus::Failed,
        "cancelled" => TaskStatus::Cancelled,
        _ => TaskStatus::Working,
    }
}

fn shown(task: &Value) -> Task {
    let handle = Task::new(
        text(task, "id"),
        status(task),
        text(task, "created_at"),
        text(task, "updated_at"),
    )
    .with_poll_interval_ms(POLL_INTERVAL_MS);
    match message(task) {
        Some(message) => handle.with_status_message(message),
        None => handle,
    }
}

fn message(task: &Value) -> Option<String> {
    let waiting = task.get("waiting").filter(|waiting| waiting.is_object());
    match (text(task, "status"), waiting) {
        ("in_progress", _) => Some(format!(
            "{} works on it, {} % done",
            text(task, "claimed_by"),
            task["progress"]
        )),
        ("failed", _) => Some(text(task, "fail_reason").to_owned()),
        (_, Some(waiting)) => Some(format!("waits: {}", why(waiting))),
        _ => None,
    }
}

fn payload(task: &Value) -> Result<TaskPayload, ErrorData> {
    Ok(match status(task) {
        TaskStatus::Completed => TaskPayload::Completed {
            result: object(&CallToolResult::from(Outcome::new(
                whole(task),
                json!({"task": task}),
            )))?,
        },
        TaskStatus::Failed => TaskPayload::Failed {
            error: object(&ErrorData::new(
                FAILED,
                line(task),
                Some(json!({"fail_reason": task["fail_reason"], "task_id": task["id"]})),
            ))?,
        },
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        _ => TaskPayload::Working,
    })
}

fn object(value: &impl serde::Serialize) -> Result<JsonObject, ErrorData> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ErrorData::internal_error("a result is not an object", None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(status: &str) -> Value {
        json!({"id": "t", "title": "T", "status": status, "priority": "high", "progress": 40, "claimed_by": "a",
            "attempt": 1, "fail_reason": "broke", "created_at": "2026-11-24T18:30:00Z",
            "updated_at": "2026-11-24T18:31:00Z", "waiting": null,
            "result": {"success": true, "output": "out", "artifacts": [], "error_message": ""}})
    }

    #[test]
    fn every_state_has_one_of_the_protocol() {
        for (ours, theirs) in [
            ("pending", "working"),
            ("blocked", "working"),
            ("in_progress", "working"),
            ("completed", "completed"),
            ("failed", "failed"),
            ("cancelled", "cancelled"),
        ] {
            let task = task(ours);
            let detailed = DetailedTask::new(shown(&task), payload(&task).unwrap());
            let shown = serde_json::to_value(GetTaskResult::new(detailed)).unwrap();
            assert_eq!(shown["status"], theirs, "{ours}");
            assert_eq!(shown["taskId"], "t");
            assert_eq!(shown["pollIntervalMs"], 5000);
            assert_eq!(shown["result"].is_object(), ours == "completed", "{ours}");
            assert_eq!(shown["error"].is_object(), ours == "failed", "{ours}");
        }
    }

    #[test]
    fn the_result_of_a_task_is_that_of_the_tool() {
        let TaskPayload::Completed { result } = payload(&task("completed")).unwrap() else {
            panic!("not completed")
        };
        assert!(result["content"][0]["text"].as_str().unwrap().contains("out"));
        assert_eq!(result["structuredContent"]["task"]["id"], "t");
        assert_eq!(message(&task("in_progress")).unwrap(), "a works on it, 40 % done");
    }
}
