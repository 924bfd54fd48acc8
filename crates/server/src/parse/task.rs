//! Tasks that come in, and changes of them.

use std::collections::HashSet;
use std::sync::Arc;

use adjutant_core::command::{NewTask, TaskPatch};
use adjutant_core::name::TaskId;
use adjutant_core::rejection::Rejection;
use adjutant_core::task::{Body, Demand, MAX_DEPENDENCIES, MAX_LIST, Status};
use adjutant_core::time::Span;
use adjutant_wire as wire;
use uuid::Uuid;

use super::{
    MAX_TEXT_BYTES, at_most, bytes, chars, count, id, lines, names, optional_id, optional_name, raw_json,
    repo,
};
use crate::access::caller::{Caller, forbidden};
use crate::access::table::{AGENT, ATTEMPT, Rights, SUBMIT};

/// The most characters of a title.
const MAX_TITLE_CHARS: usize = 500;
/// The most bytes of one note.
const MAX_NOTE_BYTES: usize = 64 << 10;

/// A task to create.
pub(crate) fn new_task(task: wire::NewTask) -> Result<NewTask, Rejection> {
    let (id, fresh_id) = match task.id {
        Some(text) => (id("id", &text)?, false),
        None => (fresh_id(), true),
    };
    if task.title.trim().is_empty() {
        return Err(Rejection::field("title", "must not be empty"));
    }
    chars("title", &task.title, MAX_TITLE_CHARS)?;
    bytes("description", &task.description, MAX_TEXT_BYTES)?;
    let repo_name = task.repo.as_deref().filter(|text| !text.is_empty());
    Ok(NewTask {
        id,
        fresh_id,
        demand: Demand {
            labels: names("labels", &task.labels, MAX_LIST)?,
            prefers: names("prefers", &task.prefers, MAX_LIST)?,
            model: optional_name("model", task.model.as_deref())?,
        },
        priority: task.priority,
        project: optional_name("project", task.project.as_deref())?,
        repo: repo_name.map(|text| repo("repo", text)).transpose()?,
        produces: task.produces,
        locks: names("locks", &task.locks, MAX_LIST)?.into(),
        estimated_tokens: count("estimated_tokens", task.estimated_tokens)?,
        // No time at all is no bound, as with all limits.
        timeout: task.timeout.filter(|timeout: &Span| !timeout.is_zero()),
        not_before: task.not_before,
        max_retries: task.max_retries,
        body: Arc::new(Body {
            title: task.title,
            description: task.description,
            payload: raw_json("payload", task.payload, MAX_TEXT_BYTES)?,
            files: lines("files", task.files, MAX_LIST)?,
            dependencies: dependencies(&task.dependencies)?,
        }),
    })
}

/// An id that no other task has, and that sorts by the time of its making.
fn fresh_id() -> TaskId {
    format!("task_{}", Uuid::now_v7().simple()).into()
}

fn dependencies(texts: &[String]) -> Result<Vec<TaskId>, Rejection> {
    at_most("dependencies", texts.len(), MAX_DEPENDENCIES)?;
    let mut seen = HashSet::with_capacity(texts.len());
    let mut ids = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let own: TaskId = id(format_args!("dependencies[{index}]"), text)?;
        if seen.insert(text) {
            ids.push(own);
        }
    }
    Ok(ids)
}

/// Changes of the task `task`.
pub(crate) fn task_patch(
    task: &TaskId,
    patch: wire::TaskPatch,
    caller: &Caller,
) -> Result<TaskPatch, Rejection> {
    let agent = optional_id("agent_id", patch.agent_id.as_deref())?;
    let speaker = caller.speaker(task, patch.attempt, agent)?;
    only_within_reach(&patch, caller)?;
    if patch.progress.is_some_and(|progress| progress > 100) {
        return Err(Rejection::field("progress", "must be from 0 to 100"));
    }
    let note = patch.notes.filter(|note| !note.is_empty());
    if let Some(note) = &note {
        bytes("notes", note, MAX_NOTE_BYTES)?;
    }
    let labels =
        |field, texts: Option<Vec<String>>| texts.map(|texts| names(field, &texts, MAX_LIST)).transpose();
    Ok(TaskPatch {
        attempt: speaker.attempt,
        agent: speaker.agent,
        status: patch.status,
        progress: patch.progress,
        note,
        priority: patch.priority,
        labels: labels("labels", patch.labels)?,
        prefers: labels("prefers", patch.prefers)?,
        not_before: patch.not_before,
        max_retries: patch.max_retries,
        estimated_tokens: patch
            .estimated_tokens
            .map(|tokens| count("estimated_tokens", tokens))
            .transpose()?,
    })
}

/// Refuses changes that only operators may make: an agent reports on its own work, and the process that does the
/// work of an attempt may not even give it back.
fn only_within_reach(patch: &wire::TaskPatch, caller: &Caller) -> Result<(), Rejection> {
    if caller.actor.is_admin() {
        return Ok(());
    }
    let operators = [
        ("priority", patch.priority.is_some()),
        ("labels", patch.labels.is_some()),
        ("prefers", patch.prefers.is_some()),
        ("not_before", patch.not_before.is_some()),
        ("max_retries", patch.max_retries.is_some()),
        ("estimated_tokens", patch.estimated_tokens.is_some()),
    ];
    if let Some((field, _)) = operators.iter().find(|(_, named)| *named) {
        return Err(forbidden(format!("{field}: only an administrator may change it")));
    }
    let rights = Rights::of(&caller.actor);
    if rights.and(AGENT).is_empty() && rights.and(ATTEMPT).is_empty() {
        // Who only submits may take a task back, and nothing else.
        let cancels = wire::TaskPatch {
            status: Some(Status::Cancelled),
            ..wire::TaskPatch::default()
        };
        return if *patch == cancels {
            Ok(())
        } else {
            Err(forbidden("this token may only set the status to `cancelled`"))
        };
    }
    let refused = match patch.status {
        Some(Status::Cancelled) => rights.and(SUBMIT).is_empty(),
        Some(Status::Pending) => rights == ATTEMPT,
        _ => false,
    };
    if refused {
        return Err(forbidden("status: this token may not cancel or release the task"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adjutant_core::task::{Priority, Produces};

    use super::*;
    use crate::access::caller::tests::{attempt, caller};
    use crate::json::object;

    fn read(text: &str) -> Result<NewTask, Rejection> {
        object(text.as_bytes()).and_then(new_task)
    }

    #[test]
    fn a_task_keeps_what_it_was_given() {
        let task = read(
            r#"{"id": "t-1", "title": "T", "description": "D", "priority": "high", "labels": ["a"], "prefers": ["b"],
                "model": "m", "project": "p", "repo": "o/n", "produces": "pull_request", "files": ["f"],
                "locks": ["l"], "payload": {"k": [1, null]}, "dependencies": ["x", "y", "x"], "estimated_tokens": 7,
                "timeout": "2m", "not_before": "2026-11-24T18:30:00Z", "max_retries": 1, "status": "failed",
                "created_at": 7}"#,
        )
        .unwrap();
        assert_eq!((task.id.as_str(), task.fresh_id), ("t-1", false));
        assert_eq!(
            (task.priority, task.produces),
            (Priority::High, Some(Produces::PullRequest))
        );
        assert_eq!(task.demand.labels, ["a".into()]);
        assert_eq!(task.demand.prefers, ["b".into()]);
        assert_eq!(task.body.payload.as_deref(), Some(r#"{"k": [1, null]}"#));
        assert_eq!(task.body.dependencies, ["x".into(), "y".into()]);
        assert_eq!(task.timeout, Some(Span::from_secs(120)));
        assert_eq!(task.max_retries, 1);
    }

    #[test]
    fn what_is_absent_null_or_empty_means_none() {
        for text in [
            r#"{"title": "T"}"#,
            r#"{"title": "T", "id": null, "description": null, "priority": null, "labels": null, "payload": null,
                "timeout": null, "max_retries": null, "dependencies": null}"#,
            r#"{"title": "T", "model": "", "project": "", "repo": "", "timeout": 0}"#,
        ] {
            let task = read(text).unwrap();
            assert!(task.fresh_id && task.id.as_str().starts_with("task_"), "{text}");
            assert_eq!(
                (task.demand, task.priority),
                (Demand::default(), Priority::Medium),
                "{text}"
            );
            assert_eq!(
                (task.project, task.repo, task.timeout),
                (None, None, None),
                "{text}"
            );
            assert_eq!(task.body.payload, None, "{text}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let many = |item: &str, count: usize| vec![item; count].join(",");
        for (fields, field) in [
            (r#""id": """#.to_owned(), "id"),
            (r#""id": "a b""#.to_owned(), "id"),
            (r#""labels": [""]"#.to_owned(), "labels[0]"),
            (format!(r#""labels": [{}]"#, many("\"a\"", 1_001)), "labels"),
            (r#""repo": "name""#.to_owned(), "repo"),
            (r#""model": "a\nb""#.to_owned(), "model"),
            (r#""dependencies": ["a b"]"#.to_owned(), "dependencies[0]"),
            (
                format!(r#""dependencies": [{}]"#, many("\"a\"", 1_001)),
                "dependencies",
            ),
            (
                r#""estimated_tokens": 1000000000001"#.to_owned(),
                "estimated_tokens",
            ),
            (r#""max_retries": 4294967296"#.to_owned(), "max_retries"),
            (
                format!(r#""description": "{}""#, "x".repeat(MAX_TEXT_BYTES + 1)),
                "description",
            ),
            (
                format!(r#""payload": "{}""#, "x".repeat(MAX_TEXT_BYTES)),
                "payload",
            ),
            (r#""payload": "\u0000""#.to_owned(), "payload"),
            (format!(r#""files": ["{}"]"#, "x".repeat(5_000)), "files[0]"),
        ] {
            let refused = read(&format!(r#"{{"title": "T", {fields}}}"#)).unwrap_err();
            assert!(refused.message.starts_with(field), "{field}: {}", refused.message);
        }
        for title in ["", "  ", &"x".repeat(501)] {
            let refused = read(&serde_json::json!({"title": title}).to_string()).unwrap_err();
            assert!(refused.message.starts_with("title: "), "{}", refused.message);
        }
        assert!(read(&serde_json::json!({"title": "ä".repeat(500)}).to_string()).is_ok());
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = |text: &str, caller: &Caller| {
            object(text.as_bytes()).and_then(|patch| task_patch(&"t".into(), patch, caller))
        };
        let admin = caller(&["admin"]);
        assert_eq!(patch("{}", &admin).unwrap(), TaskPatch::default());
        let changed = patch(
            r#"{"progress": 100, "notes": "n", "not_before": null, "agent_id": "a"}"#,
            &admin,
        )
        .unwrap();
        assert_eq!(
            (changed.progress, changed.note.as_deref()),
            (Some(100), Some("n"))
        );
        assert_eq!(
            (changed.not_before, changed.agent),
            (Some(None), Some("a".into()))
        );
        assert_eq!(patch(r#"{"notes": ""}"#, &admin).unwrap().note, None);
        assert_eq!(patch("{}", &attempt("t", 2)).unwrap().attempt, Some(2));
        for text in [
            r#"{"progress": 101}"#,
            r#"{"progress": 300}"#,
            r#"{"progress": -1}"#,
        ] {
            assert!(
                patch(text, &admin).unwrap_err().message.starts_with("progress: "),
                "{text}"
            );
        }
        assert!(patch("{}", &attempt("u", 2)).is_err());
        assert!(patch(r#"{"agent_id": "b"}"#, &caller(&["agent:a"])).is_err());
    }

    #[test]
    fn agents_report_on_their_work_and_operators_change_what_is_asked() {
        let (agent, client) = (caller(&["agent:a"]), caller(&["submit", "agent:a"]));
        let (admin, child) = (caller(&["admin"]), attempt("t", 1));
        for (text, allowed) in [
            (
                r#"{"progress": 5, "notes": "n", "status": "in_progress"}"#,
                [true, true, true, true],
            ),
            (r#"{"status": "failed"}"#, [true, true, true, true]),
            (r#"{"status": "pending"}"#, [true, true, true, false]),
            (r#"{"status": "cancelled"}"#, [true, true, false, false]),
            (r#"{"priority": "low"}"#, [true, false, false, false]),
            (r#"{"not_before": null}"#, [true, false, false, false]),
            (r#"{"max_retries": 9}"#, [true, false, false, false]),
        ] {
            let callers = [&admin, &client, &agent, &child];
            let got = callers.map(|caller| {
                object(text.as_bytes())
                    .and_then(|patch| task_patch(&"t".into(), patch, caller))
                    .is_ok()
            });
            assert_eq!(got, allowed, "{text}");
        }
    }
}
