//! `adjutant task show`.

use adjutant_wire::Task;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::{Facts, WIDTH};
use crate::text::{dollars, number, plain, time};

/// Show everything about a task
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task show task_0190b2a4")]
pub(crate) struct Arguments {
    /// The task
    id: String,
}

/// Shows it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let task = context.client()?.get_task(&arguments.id).await?;
    context.printer.show(&task, || text(&task, WIDTH))
}

/// Everything about it, facts in so many columns.
pub(crate) fn text(task: &Task, width: usize) -> String {
    let mut facts = Facts::default();
    facts.add("id", &task.id);
    facts.add("title", &task.title);
    facts.add("status", task.status.name());
    if let Some(waiting) = &task.waiting {
        facts.add("waits for", format!("{}: {}", waiting.reason, waiting.detail));
        facts.add("ready since", time(waiting.since));
    }
    facts.add("priority", task.priority.name());
    facts.add_some("labels", task.labels.join(" "));
    facts.add_some("prefers", task.prefers.join(" "));
    facts.add_some("model", task.model.as_deref().unwrap_or_default());
    facts.add_some("project", task.project.as_deref().unwrap_or_default());
    facts.add_some("repo", task.repo.as_deref().unwrap_or_default());
    facts.add_some("locks", task.locks.join(" "));
    facts.add_some("files", task.files.join(" "));
    facts.add_some("after", task.dependencies.join(" "));
    if task.blockers_count > 0 {
        facts.add(
            "before",
            format!("{} ({} in all)", task.blockers.join(" "), task.blockers_count),
        );
    }
    if let Some(timeout) = task.timeout {
        facts.add("timeout", timeout.to_string());
    }
    if let Some(at) = task.not_before {
        facts.add("not before", time(at));
    }
    facts.add_some("agent", task.claimed_by.as_deref().unwrap_or_default());
    facts.add(
        "attempt",
        format!(
            "{} ({} of {} failed)",
            task.attempt, task.retry_count, task.max_retries
        ),
    );
    facts.add_some("failed because", task.fail_reason.as_deref().unwrap_or_default());
    if let Some(at) = task.lease_expires_at {
        facts.add("lease until", time(at));
    }
    facts.add("progress", format!("{} %", task.progress));
    let usage = &task.usage;
    if usage.tokens_in + usage.tokens_out + usage.tokens_cached > 0 {
        facts.add(
            "tokens",
            format!(
                "{} in, {} out, {} cached, {}",
                number(usage.tokens_in),
                number(usage.tokens_out),
                number(usage.tokens_cached),
                dollars(usage.cost)
            ),
        );
    }
    facts.add("created", time(task.created_at));
    facts.add("changed", time(task.updated_at));

    let mut text = format!("{facts:width$}");
    let mut section = |title: &str, body: &str| {
        if !body.trim().is_empty() {
            text.extend(["\n", title, ":\n", &plain(body.trim_end()), "\n"]);
        }
    };
    section("description", &task.description);
    section(
        "payload",
        task.payload.as_ref().map_or("", |payload| payload.get()),
    );
    let notes: Vec<String> = task
        .notes
        .iter()
        .map(|note| format!("{} {}: {}", time(note.at), note.author, note.text))
        .collect();
    section("notes", &notes.join("\n"));
    if let Some(result) = &task.result {
        section("output", &result.output);
        section("error", &result.error_message);
        section("artifacts", &result.artifacts.join("\n"));
    }
    text
}
