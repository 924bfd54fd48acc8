//! Tasks as an A2A client sees them.

use std::collections::HashMap;

use ::a2a::{Artifact, Message, Part, Role, TaskState, TaskStatus, TaskStatusUpdateEvent};
use adjutant_core::task::Status;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::message::context_of;

/// What of a task is shown beside its state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    /// The most messages of its history; none is all.
    pub(crate) history: Option<usize>,
    /// Whether what came out is shown.
    pub(crate) artifacts: bool,
}

/// A task.
pub(crate) fn task(task: &wire::Task, show: Show) -> ::a2a::Task {
    let artifacts = Some(artifacts(task)).filter(|all| show.artifacts && !all.is_empty());
    // There is one message; more of it than nothing is all of it.
    let history = (show.history != Some(0)).then(|| vec![request(task)]);
    ::a2a::Task {
        id: task.id.clone(),
        context_id: context_of(&task.id).to_owned(),
        status: status(task),
        artifacts,
        history,
        metadata: Some(metadata(task)),
    }
}

/// Where a task stands, as a stream tells it.
pub(crate) fn update(task: &wire::Task) -> TaskStatusUpdateEvent {
    TaskStatusUpdateEvent {
        task_id: task.id.clone(),
        context_id: context_of(&task.id).to_owned(),
        status: status(task),
        metadata: Some(metadata(task)),
    }
}

/// The state in the words of the protocol.
pub(crate) fn state(status: Status) -> TaskState {
    match status {
        Status::Pending | Status::Blocked => TaskState::Submitted,
        Status::InProgress => TaskState::Working,
        Status::Completed => TaskState::Completed,
        Status::Failed => TaskState::Failed,
        Status::Cancelled => TaskState::Canceled,
    }
}

/// The states that a word of the protocol stands for.
pub(crate) fn statuses(wanted: &TaskState) -> Vec<Status> {
    let all = Status::ALL.iter().copied();
    all.filter(|status| state(*status) == *wanted).collect()
}

/// What came out of a task that has ended.
pub(crate) fn artifacts(task: &wire::Task) -> Vec<Artifact> {
    let Some(result) = task.result.as_ref().filter(|_| task.status.is_terminal()) else {
        return Vec::new();
    };
    let output = Some(&result.output).filter(|output| !output.is_empty());
    let output = output.map(|output| artifact("output".to_owned(), "output", Part::text(output)));
    let others = result.artifacts.iter().enumerate().map(|(index, text)| {
        let part = if is_link(text) {
            Part::url(text)
        } else {
            Part::text(text)
        };
        artifact(format!("artifact-{}", index + 1), text, part)
    });
    output.into_iter().chain(others).collect()
}

fn artifact(id: String, name: &str, part: Part) -> Artifact {
    Artifact {
        artifact_id: id,
        name: Some(name.to_owned()),
        description: None,
        parts: vec![part],
        metadata: None,
        extensions: None,
    }
}

fn is_link(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

fn status(task: &wire::Task) -> TaskStatus {
    let id = format!("{}:status:{}", task.id, task.updated_at.as_micros());
    TaskStatus {
        state: state(task.status),
        message: said(task).map(|text| message(task, id, Role::Agent, vec![Part::text(text)])),
        timestamp: moment(task.updated_at),
    }
}

/// What there is to say of where it stands: why it waits, how far it is, or why it failed.
fn said(task: &wire::Task) -> Option<String> {
    let progress = || (task.progress > 0).then(|| format!("{} % done", task.progress));
    let note = || task.notes.last().map(|note| note.text.clone());
    let error = || Some(task.result.as_ref()?.error_message.clone());
    let text = match task.status {
        Status::Pending | Status::Blocked => task.waiting.as_ref().map(|waiting| {
            if waiting.detail.is_empty() {
                waiting.reason.clone()
            } else {
                format!("{}: {}", waiting.reason, waiting.detail)
            }
        }),
        Status::InProgress => note().or_else(progress),
        Status::Completed => None,
        Status::Failed | Status::Cancelled => task.fail_reason.clone().or_else(error),
    };
    text.filter(|text| !text.is_empty())
}

/// The message that the task was, as far as it was kept.
fn request(task: &wire::Task) -> Message {
    let text = if task.description.is_empty() {
        &task.title
    } else {
        &task.description
    };
    let mut parts = vec![Part::text(text)];
    let data = task.payload.as_ref().map(|payload| payload.get());
    parts.extend(
        data.and_then(|data| serde_json::from_str(data).ok())
            .map(Part::data),
    );
    message(task, format!("{}:request", task.id), Role::User, parts)
}

fn message(task: &wire::Task, id: String, role: Role, parts: Vec<Part>) -> Message {
    Message {
        message_id: id,
        context_id: Some(context_of(&task.id).to_owned()),
        task_id: Some(task.id.clone()),
        role,
        parts,
        metadata: None,
        extensions: None,
        reference_task_ids: None,
    }
}

/// What adjutant says beyond the protocol.
fn metadata(task: &wire::Task) -> HashMap<String, Value> {
    let own = json!({
        "status": task.status,
        "attempt": task.attempt,
        "progress": task.progress,
        "agent": task.claimed_by,
        "usage": task.usage,
    });
    HashMap::from([("adjutant".to_owned(), own)])
}

fn moment(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Show = Show {
        history: None,
        artifacts: true,
    };

    fn task(more: &Value) -> wire::Task {
        let mut task =
            json!({"id": "t", "title": "T", "status": "pending", "updated_at": "2026-11-24T18:30:00.5Z"});
        for (name, value) in more.as_object().unwrap() {
            task[name] = value.clone();
        }
        serde_json::from_value(task).unwrap()
    }

    fn shown(more: &Value, show: Show) -> Value {
        serde_json::to_value(super::task(&task(more), show)).unwrap()
    }

    #[test]
    fn states_and_what_is_said_of_them() {
        let waiting =
            json!({"reason": "no_agents", "detail": "nobody is there", "since": "2026-11-24T18:30:00Z"});
        let notes = json!([{"at": "2026-11-24T18:30:00Z", "author": "a", "text": "old"},
            {"at": "2026-11-24T18:30:00Z", "author": "a", "text": "new"}]);
        for (more, state, text) in [
            (
                json!({"waiting": waiting}),
                "SUBMITTED",
                Some("no_agents: nobody is there"),
            ),
            (json!({"status": "blocked"}), "SUBMITTED", None),
            (json!({"status": "in_progress"}), "WORKING", None),
            (
                json!({"status": "in_progress", "progress": 40}),
                "WORKING",
                Some("40 % done"),
            ),
            (
                json!({"status": "in_progress", "progress": 40, "notes": notes}),
                "WORKING",
                Some("new"),
            ),
            (json!({"status": "completed", "notes": notes}), "COMPLETED", None),
            (
                json!({"status": "failed", "fail_reason": "broken"}),
                "FAILED",
                Some("broken"),
            ),
            (
                json!({"status": "failed", "result": {"success": false, "error_message": "e"}}),
                "FAILED",
                Some("e"),
            ),
            (json!({"status": "cancelled"}), "CANCELED", None),
        ] {
            let status = &shown(&more, ALL)["status"];
            assert_eq!(status["state"], format!("TASK_STATE_{state}"), "{more}");
            assert_eq!(status["message"]["parts"][0]["text"].as_str(), text, "{more}");
            if text.is_some() {
                assert_eq!(status["message"]["role"], "ROLE_AGENT");
            }
            assert_eq!(status["timestamp"], "2026-11-24T18:30:00.500Z");
        }
    }

    #[test]
    fn artifacts_are_the_output_and_what_came_out_beside_it() {
        let result =
            json!({"success": true, "output": "o", "artifacts": ["https://h/a", "b.txt", "ftp://h/c"]});
        let done = json!({"status": "completed", "result": result});
        let all = shown(&done, ALL)["artifacts"].clone();
        let parts: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|artifact| {
                (
                    artifact["artifactId"].as_str().unwrap(),
                    artifact["parts"][0].clone(),
                )
            })
            .collect();
        assert_eq!(
            parts,
            [
                ("output", json!({"text": "o"})),
                ("artifact-1", json!({"url": "https://h/a"})),
                ("artifact-2", json!({"text": "b.txt"})),
                ("artifact-3", json!({"text": "ftp://h/c"})),
            ]
        );
        let bare = Show {
            artifacts: false,
            ..ALL
        };
        assert!(shown(&done, bare).get("artifacts").is_none());
        // What a failed attempt left behind while the next one is awaited is not what came out.
        assert!(shown(&json!({"result": result}), ALL).get("artifacts").is_none());
        assert!(
            shown(&json!({"status": "completed"}), ALL)
                .get("artifacts")
                .is_none()
        );
    }

    #[test]
    fn the_history_is_the_message_that_the_task_was() {
        let sent = json!({"description": "Do it", "payload": {"k": 1}});
        let history = shown(&sent, ALL)["history"].clone();
        assert_eq!(history[0]["role"], "ROLE_USER");
        assert_eq!(
            history[0]["parts"],
            json!([{"text": "Do it"}, {"data": {"k": 1}}])
        );
        assert_eq!(
            shown(&json!({}), ALL)["history"][0]["parts"],
            json!([{"text": "T"}])
        );
        let none = Show {
            history: Some(0),
            ..ALL
        };
        assert!(shown(&sent, none).get("history").is_none());
        let one = Show {
            history: Some(1),
            ..ALL
        };
        assert_eq!(shown(&sent, one)["history"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn every_state_of_ours_is_found_under_its_word() {
        for status in Status::ALL {
            assert!(statuses(&state(status)).contains(&status), "{status:?}");
        }
        assert!(statuses(&TaskState::Rejected).is_empty());
    }
}
