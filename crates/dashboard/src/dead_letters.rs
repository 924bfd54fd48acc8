//! Dead letters: tasks without an attempt left, to be started afresh one by one or many at once.

use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::{Abilities, format, pieces};

/// A page of dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// When.
    pub now: Timestamp,
    /// How many there are.
    pub count: u64,
    /// Those of this page.
    pub tasks: Vec<wire::Task>,
    /// The address of the first page, where this is another.
    pub first: Option<String>,
    /// The address of the next page.
    pub next: Option<String>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// The page's content. It is not kept fresh, so that what was chosen stays chosen.
pub fn content(view: &DeadLetters) -> Markup {
    let may_retry = view.abilities.admin;
    html! {
        h1 { "Dead letters" }
        p.faint { (format::count(view.count)) " tasks failed as often as they may. Retrying one starts it afresh, with all of its attempts." }
        @if view.tasks.is_empty() {
            (pieces::empty("No dead letters.", &html! { "A task that fails as often as its " code { "max_retries" } " allows is put here." }))
        } @else {
            form #dead data-bulk="/api/tasks/{}/retry" {
                @if may_retry {
                    div.actions {
                        label.check { input type="checkbox" data-all; span { "All on this page" } }
                        button.primary type="submit" { "Retry the chosen" }
                        span #bulk-state role="status" aria-live="polite" {}
                    }
                }
                table.stack {
                    thead { tr {
                        @if may_retry { th scope="col" { span.hidden { "Choose" } } }
                        th scope="col" { "Task" } th scope="col" { "Why it failed" } th scope="col" { "Last agent" } th.number scope="col" { "Failures" } th scope="col" { "When" }
                    } }
                    tbody {
                        @for task in &view.tasks {
                            tr data-row=(task.id) {
                                @if may_retry { td.choose { label { span.hidden dir="auto" { "Choose " (task.title) } input type="checkbox" name="id" value=(task.id); } } }
                                th scope="row" { (pieces::task_link(&task.id, &task.title)) }
                                td data-label="Why it failed" { span.detail dir="auto" { (task.fail_reason.as_deref().unwrap_or("no reason was told")) } }
                                td data-label="Last agent" { @match &task.claimed_by { Some(agent) => (pieces::agent_link(agent, view.abilities.read)), None => span.faint { "–" } } }
                                td.number data-label="Failures" { (task.retry_count) }
                                td data-label="When" { (pieces::ago(task.updated_at, view.now)) }
                            }
                        }
                    }
                }
            }
            (pieces::pager(view.first.as_deref(), view.next.as_deref()))
        }
    }
}
