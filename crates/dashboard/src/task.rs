//! One task: where it stands, why, what it did and cost, and what can be done with it.

use adjutant_core::money::Money;
use adjutant_core::task::Status;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::pieces::{self, Action};
use crate::{Abilities, events, format};

/// Everything about a task.
#[derive(Clone, Debug)]
pub struct Task {
    /// When.
    pub now: Timestamp,
    /// The task.
    pub task: wire::Task,
    /// The events of this page, newest first.
    pub events: Vec<wire::Event>,
    /// The address of its newest events, where these are earlier ones.
    pub first: Option<String>,
    /// The address of the events before them.
    pub next: Option<String>,
    /// The end of what it printed.
    pub output: Text,
    /// What each agent lacks, while it waits.
    pub explanation: Option<wire::Explanation>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// A text of which only a part may be shown.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// The part.
    pub shown: String,
    /// How many bytes there are in all.
    pub bytes: usize,
}

impl Text {
    /// The last bytes of a text, at most so many.
    pub fn tail(text: &str, most: usize) -> Self {
        let start = text.ceil_char_boundary(text.len().saturating_sub(most));
        Self {
            shown: text[start..].to_owned(),
            bytes: text.len(),
        }
    }

    /// The first bytes of a text, at most so many.
    pub fn head(text: &str, most: usize) -> Self {
        Self {
            shown: text[..text.floor_char_boundary(most)].to_owned(),
            bytes: text.len(),
        }
    }

    fn show(&self) -> Markup {
        html! {
            pre.text dir="auto" tabindex="0" { (self.shown) }
            @if self.shown.len() < self.bytes {
                p.faint { "A part of " (format::count(u64::try_from(self.bytes).unwrap_or(u64::MAX))) " bytes." }
            }
        }
    }
}

/// The most bytes of each text on the page.
pub const MOST_TEXT: usize = 64 << 10;
/// The most notes on the page: the newest.
const MOST_NOTES: usize = 50;

/// The page's content.
pub fn content(view: &Task) -> Markup {
    let task = &view.task;
    html! {
        p.crumbs { a href="/dashboard/queue" { "Tasks" } " / task" }
        // By itself, so that it is read out when it changes and not whenever something else does.
        p.hidden #task-status data-live role="status" aria-live="polite" { (pieces::words(task.status.name())) }
        section #task data-live aria-label="The task" {
            div.title-line {
                h1 dir="auto" { (task.title) }
                (pieces::task_status(task.status))
                (pieces::priority(task.priority))
            }
            p.id { (task.id) }
            div.actions { (actions(task, view.abilities)) }
            @if let Some(waiting) = &task.waiting { p.notice { b { "Why it waits: " } (pieces::waiting(waiting, view.now)) } }
            @if let Some(reason) = task.fail_reason.as_ref().filter(|_| task.status != Status::Completed) {
                p.notice.bad { b { "Last failure: " } span dir="auto" { (reason) } }
            }
            (progress(task))
            (facts(view))
        }
        div.columns.wide {
            section #timeline data-live aria-labelledby="timeline-title" { (timeline(view)) }
            section #usage data-live aria-labelledby="usage-title" { (usage(task)) }
        }
        section #texts data-live aria-label="Texts" { (texts(view)) }
        @if let Some(explanation) = &view.explanation {
            section #explain data-live aria-labelledby="explain-title" { (explain(explanation, view.abilities)) }
        }
    }
}

fn actions(task: &wire::Task, abilities: Abilities) -> Markup {
    let path = |verb: &str| format!("/api/tasks/{}/{verb}", pieces::encoded(&task.id));
    let is_held = task
        .waiting
        .as_ref()
        .is_some_and(|waiting| waiting.reason == "held");
    let waits = matches!(task.status, Status::Pending | Status::Blocked);
    let is_over = matches!(task.status, Status::Failed | Status::Cancelled);
    let in_backoff = task.status == Status::Pending && task.retry_count > 0;
    html! {
        @if abilities.admin {
            @if is_over || in_backoff { (Action::post("Retry", path("retry")).show()) }
            @if task.status == Status::InProgress { (Action::post("Release", path("release")).show()) }
            @if is_held { (Action::post("Unhold", path("unhold")).show()) }
            @else if waits { (Action::post("Hold", path("hold")).show()) }
        }
        @if abilities.submit && !task.status.is_terminal() {
            (Action::post("Cancel", path("cancel")).confirm("Cancel this task? What runs is told to stop.").show())
        }
    }
}

fn progress(task: &wire::Task) -> Markup {
    html! {
        @if task.status == Status::InProgress {
            div.progress {
                label for="progress" { "Progress" }
                progress #progress max="100" value=(task.progress) { (task.progress) " %" }
                span { (task.progress) " %" }
            }
        }
    }
}

fn facts(view: &Task) -> Markup {
    let (task, now) = (&view.task, view.now);
    let scope = |kind: &str, name: &String| {
        html! {
            @if view.abilities.read { a href=(pieces::scope_path(&format!("{kind}:{name}"))) dir="auto" { (name) } }
            @else { span dir="auto" { (name) } }
        }
    };
    html! {
        dl.facts {
            div { dt { "Agent" } dd { @match &task.claimed_by { Some(agent) => (pieces::agent_link(agent, view.abilities.read)), None => span.faint { "none yet" } } } }
            div { dt { "Attempt" } dd { (task.attempt) span.faint { " · " (task.retry_count) " of " (task.max_retries) " failures" } } }
            div { dt { "Created" } dd { (pieces::ago(task.created_at, now)) } }
            @if let Some(at) = task.claimed_at { div { dt { "Started" } dd { (pieces::ago(at, now)) } } }
            @if let Some(at) = task.lease_expires_at { div { dt { "Lease until" } dd { (pieces::at(at)) } } }
            @if let Some(at) = task.not_before { div { dt { "Not before" } dd { (pieces::at(at)) } } }
            @if let Some(timeout) = task.timeout { div { dt { "Timeout" } dd { (format::duration(timeout)) } } }
            @if !task.labels.is_empty() { div { dt { "Labels" } dd { (pieces::chips(&task.labels, "")) } } }
            @if !task.prefers.is_empty() { div { dt { "Prefers" } dd { (pieces::chips(&task.prefers, "")) } } }
            @if let Some(model) = &task.model { div { dt { "Model" } dd { (scope("model", model)) } } }
            @if let Some(project) = &task.project { div { dt { "Project" } dd { (scope("project", project)) } } }
            @if let Some(repo) = &task.repo { div { dt { "Repository" } dd { (scope("repo", repo)) } } }
            @if !task.locks.is_empty() { div { dt { "Locks" } dd { (pieces::chips(&task.locks, "")) } } }
            @if !task.dependencies.is_empty() { div { dt { "Depends on" } dd { (ids(&task.dependencies, task.dependencies.len())) } } }
            @if task.blockers_count > 0 { div { dt { "Waited for by" } dd { (ids(&task.blockers, usize::try_from(task.blockers_count).unwrap_or(usize::MAX))) } } }
        }
    }
}

/// The first of some tasks.
fn ids(ids: &[String], count: usize) -> Markup {
    const SHOWN: usize = 10;
    html! {
        @for id in ids.iter().take(SHOWN) { a.id href=(pieces::task_path(id)) { (id) } " " }
        @if count > SHOWN.min(ids.len()) { span.faint { "+" (count - SHOWN.min(ids.len())) } }
    }
}

/// Events, the newest first, set apart by attempts.
fn timeline(view: &Task) -> Markup {
    html! {
        h2 #timeline-title { "Timeline, in UTC" }
        @if view.events.is_empty() {
            (pieces::empty("No events are kept.", &html! { "A server may forget events after some time." }))
        } @else {
            ol.timeline {
                @for event in &view.events {
                    li class=[(event.kind == "task_dispatched" || event.kind == "task_claimed").then_some("start")] {
                        (events::moment(event))
                        div {
                            (events::kind(&event.kind)) " "
                            @if let Some(agent) = &event.agent_id { span.faint { "by " (pieces::agent_link(agent, view.abilities.read)) } }
                            (events::payload(event))
                        }
                    }
                }
            }
            (pieces::pager(view.first.as_deref(), view.next.as_deref()))
        }
    }
}

fn usage(task: &wire::Task) -> Markup {
    let usage = &task.usage;
    html! {
        h2 #usage-title { "Usage and cost" }
        @if usage.models.is_empty() {
            (pieces::empty("Nothing was used yet.", &html! { "Workers report tokens while they run." }))
        } @else {
            table.stack {
                thead { tr { th scope="col" { "Model" } th.number scope="col" { "In" } th.number scope="col" { "Cached" } th.number scope="col" { "Out" } th.number scope="col" { "Cost" } } }
                tbody {
                    @for entry in &usage.models {
                        (usage_row(entry.model.as_deref().unwrap_or("not told"), [entry.tokens.tokens_in, entry.tokens.tokens_cached, entry.tokens.tokens_out], entry.cost))
                    }
                }
                tfoot { (usage_row("All attempts", [usage.tokens_in, usage.tokens_cached, usage.tokens_out], usage.cost)) }
            }
        }
        h2 { "Notes" }
        @if task.notes.is_empty() {
            (pieces::empty("No notes.", &html! { "Agents and people append them with " code { "PATCH" } "." }))
        } @else {
            ol.notes {
                @for note in task.notes.iter().rev().take(MOST_NOTES) {
                    li { p.faint { span dir="auto" { (note.author) } " · " (pieces::at(note.at)) } p.text dir="auto" { (Text::head(&note.text, MOST_TEXT / 8).shown) } }
                }
            }
            @if task.notes.len() > MOST_NOTES { p.faint { "The newest " (MOST_NOTES) " of " (task.notes.len()) "." } }
        }
    }
}

/// What was used of a model: fresh, cached, and output tokens.
fn usage_row(model: &str, tokens: [u64; 3], cost: Money) -> Markup {
    html! {
        tr {
            th scope="row" dir="auto" { (model) }
            @for (name, tokens) in ["In", "Cached", "Out"].into_iter().zip(tokens) {
                td.number data-label=(name) { (format::count(tokens)) }
            }
            td.number data-label="Cost" { (format::dollars(cost)) }
        }
    }
}

fn texts(view: &Task) -> Markup {
    let task = &view.task;
    html! {
        @if !task.description.is_empty() {
            h2 { "Description" }
            (Text::head(&task.description, MOST_TEXT).show())
        }
        @if let Some(payload) = &task.payload {
            details { summary { "Payload" } (Text::head(payload.get(), MOST_TEXT).show()) }
        }
        h2 { "Live output" }
        @if view.output.bytes == 0 {
            (pieces::empty("It has printed nothing.", &html! { "What a command prints while it runs comes here." }))
        } @else {
            (view.output.show())
        }
        @if let Some(result) = &task.result {
            h2 { "Result" }
            p { @if result.success { "The last attempt succeeded." } @else { "The last attempt failed." } }
            @if !result.output.is_empty() { (Text::tail(&result.output, MOST_TEXT).show()) }
            @if !result.error_message.is_empty() { h3 { "Error" } (Text::tail(&result.error_message, MOST_TEXT).show()) }
            @if !result.artifacts.is_empty() { h3 { "Artifacts" } ul { @for artifact in result.artifacts.iter().take(100) { li dir="auto" { (artifact) } } } }
        }
    }
}

/// What each agent lacks.
fn explain(explanation: &wire::Explanation, abilities: Abilities) -> Markup {
    const SHOWN: usize = 12;
    // Some reasons differ from agent to agent.
    const GROUPS: usize = 50;
    html! {
        h2 #explain-title { "What each agent lacks" }
        @if explanation.groups.is_empty() {
            (pieces::empty("No agent was considered.", &html! { "Start a worker with the capabilities that this task asks for." }))
        } @else {
            table.stack {
                thead { tr { th scope="col" { "What is missing" } th.number scope="col" { "Agents" } th scope="col" { "Among them" } } }
                tbody {
                    @for group in explanation.groups.iter().take(GROUPS) {
                        tr {
                            th scope="row" dir="auto" { (group.reason) }
                            td.number data-label="Agents" { (format::count(group.count)) }
                            td data-label="Among them" { @for agent in group.agents.iter().take(SHOWN) { (pieces::agent_link(agent, abilities.read)) " " } }
                        }
                    }
                }
            }
            @if explanation.groups.len() > GROUPS {
                p.faint { "The first " (GROUPS) " of " (format::count(u64::try_from(explanation.groups.len()).unwrap_or(u64::MAX))) " reasons." }
            }
        }
    }
}
