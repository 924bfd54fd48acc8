//! Tools for those who plan, and those who watch.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::api::{ApiError, Request};
use crate::arguments::{
    CancelTask, CreateTask, CreateTasks, FleetStatus, ListTasks, OneTask, Priority, Status, body, filled,
};
use crate::handler::Visitor;
use crate::outcome::Outcome;
use crate::words::{brief, items, line, text, whole, why};

/// How many tasks are listed when nothing is said: what a model can read at a glance.
const DEFAULT_LIST: u32 = 50;

pub(super) async fn create_task(visitor: Visitor, arguments: CreateTask) -> Result<Outcome, ApiError> {
    let task = visitor
        .ask(Request::post(&["api", "tasks"], body(&arguments)?))
        .await?
        .body;
    Ok(Outcome::new(
        format!("Created: {}", line(&task)),
        json!({"task": task}),
    ))
}

pub(super) async fn create_tasks(visitor: Visitor, arguments: CreateTasks) -> Result<Outcome, ApiError> {
    let request = Request::post(&["api", "batch", "tasks"], body(&arguments.tasks)?);
    let answer = visitor.ask(request).await?.body;
    let answers = answer.as_array().map_or(&[][..], Vec::as_slice);
    let mut words = String::new();
    let mut shown = Vec::with_capacity(answers.len());
    for (asked, item) in arguments.tasks.iter().zip(answers) {
        if let Some(error) = item.get("error").filter(|error| error.is_object()) {
            let details = match text(error, "details") {
                "" => String::new(),
                details => format!(" ({details})"),
            };
            let _ = writeln!(
                words,
                "REFUSED `{}`: {}{details} [{}]",
                asked.title,
                text(error, "message"),
                text(error, "error")
            );
            shown.push(json!({"status": item["status"], "error": error}));
        } else if let Some(task) = item.get("task") {
            let _ = writeln!(words, "created: {}", line(task));
            shown.push(json!({"status": item["status"], "task": brief(task)}));
        } else {
            // So many at once that the answer had no room for all of them.
            let _ = writeln!(words, "created: `{}`", asked.title);
            shown.push(json!({"status": item["status"]}));
        }
    }
    let refused = shown.iter().filter(|item| item.get("error").is_some()).count();
    let created = shown.len() - refused;
    Ok(Outcome {
        text: format!("{created} created, {refused} refused.\n{words}"),
        structured: json!({"created": created, "refused": refused, "tasks": shown}),
        // What was created stays: to say that the call failed would have it sent again.
        is_error: created == 0 && refused > 0,
    })
}

pub(super) async fn list_tasks(visitor: Visitor, arguments: ListTasks) -> Result<Outcome, ApiError> {
    let labels = arguments.labels.filter(|labels| !labels.is_empty());
    if let Some(label) = labels.iter().flatten().find(|label| label.contains(',')) {
        return Err(ApiError::argument(format!(
            "labels: `{label}` has a comma, which tasks cannot be looked for by"
        )));
    }
    let request = Request::get(&["api", "tasks"])
        .query("status", arguments.status.map(Status::name))
        .query("priority", arguments.priority.map(Priority::name))
        .query("project", arguments.project)
        .query("claimed_by", arguments.claimed_by)
        .query("labels", labels.map(|labels| labels.join(",")))
        .query("limit", Some(arguments.limit.unwrap_or(DEFAULT_LIST).to_string()))
        .query("cursor", arguments.cursor);
    let reply = visitor.ask(request).await?;
    let tasks = reply.body.as_array().map_or(&[][..], Vec::as_slice);
    let mut words = match tasks.len() {
        0 => "No tasks.".to_owned(),
        number => format!("{number} tasks:"),
    };
    for task in tasks {
        let _ = write!(words, "\n{}", line(task));
    }
    if let Some(next) = &reply.next {
        let _ = write!(words, "\nThere are more: call this again with cursor \"{next}\".");
    }
    let shown: Vec<Value> = tasks.iter().map(brief).collect();
    Ok(Outcome::new(
        words,
        json!({"tasks": shown, "next_cursor": reply.next}),
    ))
}

pub(super) async fn get_task(visitor: Visitor, arguments: OneTask) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    let task = visitor
        .ask(Request::get(&["api", "tasks", &arguments.task_id]))
        .await?
        .body;
    Ok(Outcome::new(whole(&task), json!({"task": task})))
}

pub(super) async fn explain_task(visitor: Visitor, arguments: OneTask) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    let request = Request::get(&["api", "tasks", &arguments.task_id, "explain"]);
    let explained = visitor.ask(request).await?.body;
    let mut words = format!(
        "Task {} is {}",
        text(&explained, "task_id"),
        text(&explained, "status")
    );
    if let Some(waiting) = explained.get("waiting").filter(|waiting| waiting.is_object()) {
        let _ = write!(words, " and waits: {}", why(waiting));
    }
    let _ = write!(words, ". Agents considered: {}.", explained["considered"]);
    for group in items(&explained, "groups") {
        let agents: Vec<_> = items(group, "agents").iter().filter_map(Value::as_str).collect();
        let _ = write!(
            words,
            "\n{} of them: {} ({})",
            group["count"],
            text(group, "reason"),
            agents.join(", ")
        );
    }
    Ok(Outcome::new(words, explained))
}

pub(super) async fn cancel_task(visitor: Visitor, arguments: CancelTask) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    let request = Request::post(&["api", "tasks", &arguments.task_id, "cancel"], json!({}))
        .query("cascade", arguments.cascade.map(|cascade| cascade.to_string()));
    let task = visitor.ask(request).await?.body;
    Ok(Outcome::new(
        format!("Cancelled: {}", line(&task)),
        json!({"task": brief(&task)}),
    ))
}

pub(super) async fn fleet_status(visitor: Visitor, _: FleetStatus) -> Result<Outcome, ApiError> {
    let status = visitor.ask(Request::get(&["api", "status"])).await?.body;
    let counts: BTreeSet<String> = status["tasks"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(state, count)| format!("{state} {count}"))
        .collect();
    let counts: Vec<_> = counts.into_iter().collect();
    let mut words = format!("Tasks: {}.", counts.join(", "));
    let agents = items(&status, "agents");
    if agents.is_empty() {
        words.push_str("\nThere are no agents.");
    }
    for agent in agents {
        let capabilities: Vec<_> = items(agent, "capabilities")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let most = match agent["max_load"].as_u64() {
            Some(0) | None => "unlimited".to_owned(),
            Some(most) => most.to_string(),
        };
        let _ = write!(
            words,
            "\nAgent {} [{}]: {} of {most} tasks; can: {}",
            text(agent, "id"),
            text(agent, "status"),
            agent["current_load"],
            capabilities.join(", ")
        );
        let reason = text(&agent["allowance"], "reason");
        if !reason.is_empty() {
            let _ = write!(words, "; {reason}");
        }
    }
    Ok(Outcome::new(words, status))
}
