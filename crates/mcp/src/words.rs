//! Words: tasks as a model reads them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// What a list, or the answer to a change, shows of a task: all but what can be long.
const BRIEF: &[&str] = &[
    "id",
    "title",
    "status",
    "priority",
    "labels",
    "model",
    "project",
    "repo",
    "dependencies",
    "attempt",
    "claimed_by",
    "lease_expires_at",
    "progress",
    "retry_count",
    "max_retries",
    "fail_reason",
    "waiting",
    "usage",
    "not_before",
    "created_at",
    "updated_at",
];

/// A task without what can be long.
pub(crate) fn brief(task: &Value) -> Value {
    let fields: Map<String, Value> = BRIEF
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), task.get(name)?.clone())))
        .collect();
    Value::Object(fields)
}

/// A field that is a text; empty when it is absent.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a field that is a list; none when it is absent.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A task on one line.
pub(crate) fn line(task: &Value) -> String {
    let mut line = format!(
        "{} [{}, {}] {}",
        text(task, "id"),
        text(task, "status"),
        text(task, "priority"),
        text(task, "title")
    );
    if text(task, "status") == "in_progress" {
        let _ = write!(
            line,
            " — held by {}, attempt {}, {} %",
            text(task, "claimed_by"),
            task["attempt"],
            task["progress"]
        );
    }
    if let Some(waiting) = task.get("waiting").filter(|waiting| waiting.is_object()) {
        let _ = write!(line, " — waits: {}", why(waiting));
    }
    if text(task, "status") == "failed" {
        let _ = write!(line, " — {}", text(task, "fail_reason"));
    }
    line
}

/// Why a task waits.
pub(crate) fn why(waiting: &Value) -> String {
    match text(waiting, "detail") {
        "" => text(waiting, "reason").to_owned(),
        detail => format!("{} ({detail})", text(waiting, "reason")),
    }
}

/// Everything that somebody who works on a task must know of it.
pub(crate) fn assignment(task: &Value) -> String {
    let mut all = format!("Title: {}\n", text(task, "title"));
    for (name, field) in [
        ("Priority", "priority"),
        ("Model", "model"),
        ("Project", "project"),
        ("Repository", "repo"),
        ("To produce", "produces"),
    ] {
        let value = text(task, field);
        if !value.is_empty() {
            let _ = writeln!(all, "{name}: {value}");
        }
    }
    for (name, field) in [("Labels", "labels"), ("Files", "files")] {
        let values: Vec<_> = items(task, field).iter().filter_map(Value::as_str).collect();
        if !values.is_empty() {
            let _ = writeln!(all, "{name}: {}", values.join(", "));
        }
    }
    if let Some(reason) = task.get("fail_reason").and_then(Value::as_str) {
        let _ = writeln!(all, "An earlier attempt failed: {reason}");
    }
    let description = text(task, "description");
    if !description.is_empty() {
        let _ = writeln!(all, "\n{description}");
    }
    if let Some(payload) = task.get("payload").filter(|payload| !payload.is_null()) {
        let _ = writeln!(all, "\nPayload: {payload}");
    }
    all
}

/// A task, what has to be done, and what came out.
pub(crate) fn whole(task: &Value) -> String {
    let mut all = format!("{}\n\n{}", line(task), assignment(task));
    for note in items(task, "notes") {
        let _ = writeln!(all, "\nNote by {}: {}", text(note, "author"), text(note, "text"));
    }
    if let Some(result) = task.get("result").filter(|result| result.is_object()) {
        all.push_str("\nResult: ");
        all.push_str(if result["success"] == true {
            "success\n"
        } else {
            "failure\n"
        });
        for field in ["output", "error_message"] {
            let value = text(result, field);
            if !value.is_empty() {
                let _ = writeln!(all, "{value}");
            }
        }
        let artifacts: Vec<_> = items(result, "artifacts")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !artifacts.is_empty() {
            let _ = writeln!(all, "Artifacts: {}", artifacts.join(", "));
        }
    }
    all
}

/// What an agent is given to do, and what to stop.
pub(crate) fn given(tasks: &[Value], stop: &[Value], drains: bool, lease_ttl: &Value) -> String {
    let mut words = String::new();
    for given in tasks {
        let (id, attempt) = (text(given, "task_id"), &given["attempt"]);
        let _ = if given["resumed"] == true {
            writeln!(
                words,
                "Task {id} is yours already (attempt {attempt}): if you have begun it, go on."
            )
        } else {
            writeln!(words, "Task {id} is yours (attempt {attempt}).")
        };
        words.push_str(&assignment(&given["task"]));
        let _ = writeln!(
            words,
            "\nWhen you are done call complete_task with task_id \"{id}\" and attempt {attempt}.\n"
        );
    }
    if tasks.is_empty() {
        words.push_str(if drains {
            "You are to take nothing new: finish what you hold, and stop asking."
        } else {
            "There is nothing to do for you right now. Call next_task again to go on waiting."
        });
    } else {
        let _ = write!(
            words,
            "Let the server hear from you at least every {lease_ttl} s (update_task), or your tasks go to others."
        );
    }
    words.push_str(&stops(stop));
    words
}

/// What an agent is told to stop.
pub(crate) fn stops(stops: &[Value]) -> String {
    let mut all = String::new();
    for stop in stops {
        let _ = write!(
            all,
            "\nSTOP working on task {} (attempt {}): {}. Whatever you report of it is not needed any more.",
            text(stop, "id"),
            stop["attempt"],
            text(stop, "reason")
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_assignment_leaves_nothing_out_that_is_needed_to_do_it() {
        let task = json!({"title": "T", "priority": "high", "labels": ["a", "b"], "repo": "o/n", "files": ["f"],
            "description": "Do it.", "payload": {"k": 1}, "fail_reason": "broke", "model": null});
        let text = assignment(&task);
        for part in [
            "Title: T",
            "high",
            "a, b",
            "o/n",
            "Files: f",
            "Do it.",
            "Payload: {\"k\":1}",
            "failed: broke",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("Model"), "{text}");
    }

    #[test]
    fn a_brief_task_has_nothing_that_can_be_long() {
        let task = json!({"id": "t", "description": "long", "payload": {}, "notes": [], "result": {}, "status": "pending"});
        assert_eq!(brief(&task), json!({"id": "t", "status": "pending"}));
    }
}
