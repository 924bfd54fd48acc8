//! Tasks by state, a page at a time; and what the queue is made of.

use adjutant_core::task::{Priority, Status};
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::frame::Place;
use crate::pieces;
use crate::{Abilities, format};

/// A page of tasks.
#[derive(Clone, Debug)]
pub struct Queue {
    /// When.
    pub now: Timestamp,
    /// How many tasks are in each state, in the order of [`Status::ALL`].
    pub counts: [u64; 6],
    /// Which state is shown; none is all.
    pub status: Option<Status>,
    /// The first in line of each priority.
    pub first_in_line: Vec<wire::Task>,
    /// Since when the longest-ready task of each priority is ready, in the order of [`Priority::ALL`].
    pub ready_since: [Option<Timestamp>; 4],
    /// What the next in line ask for, where those who wait are shown.
    pub classes: Option<Classes>,
    /// The tasks of this page.
    pub tasks: Vec<wire::Task>,
    /// The address of the first page, where this is another.
    pub first: Option<String>,
    /// The address of the next page.
    pub next: Option<String>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// What the next in line ask for, counted by what they ask.
#[derive(Clone, Debug)]
pub struct Classes {
    /// Most asked for first.
    pub classes: Vec<Class>,
    /// How many tasks were looked at: the first in line.
    pub looked_at: usize,
    /// Whether there are more behind them.
    pub more: bool,
}

/// What some tasks ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// The labels that an agent must have.
    pub labels: Vec<String>,
    /// The labels that it had better have.
    pub prefers: Vec<String>,
    /// The model.
    pub model: Option<String>,
    /// How many tasks ask for it.
    pub count: usize,
}

/// The page's content.
pub fn content(view: &Queue) -> Markup {
    let total: u64 = view.counts.iter().sum();
    let path = Place::Queue.path();
    html! {
        h1 { "Tasks" }
        form.filter action="/dashboard/find" method="get" role="search" {
            label { span { "Task id" } input type="search" name="id" required maxlength="128" placeholder="task_…"; }
            button type="submit" { "Open" }
        }
        section #queue data-live aria-label="Tasks" {
            nav.tabs aria-label="Tasks by status" {
                a href=(path) aria-current=[view.status.is_none().then_some("true")] { "All " b { (format::count(total)) } }
                @for status in Status::ALL {
                    a href={ (path) "?status=" (status.name()) } aria-current=[(view.status == Some(status)).then_some("true")] {
                        (pieces::words(status.name())) " " b { (format::count(view.counts[usize::from(status.code())])) }
                    }
                }
            }
            @if view.status == Some(Status::Pending) { (line(view)) }
            @if view.tasks.is_empty() {
                (pieces::empty("No task here.", &html! {
                    @if total == 0 { "Submit one: " code { "adjutant task add \"Say hello\"" } "." }
                    @else { a href=(path) { "Show all tasks" } }
                }))
            } @else {
                p.faint { @if view.status == Some(Status::Pending) { "In the order in which they will be dispatched." } @else { "Newest first." } }
                (table(&view.tasks, view.now, view.abilities))
                (pieces::pager(view.first.as_deref(), view.next.as_deref()))
            }
        }
    }
}

/// Who is next, since when somebody could have started, and what is asked for.
fn line(view: &Queue) -> Markup {
    html! {
        div.columns {
            section aria-labelledby="first-title" {
                h2 #first-title { "First in line, by priority" }
                @if view.first_in_line.is_empty() {
                    (pieces::empty("Nobody waits.", &html! { "Every task that could start has started." }))
                } @else {
                    ul.rows {
                        @for task in &view.first_in_line {
                            li {
                                div.row-head { (pieces::priority(task.priority)) (pieces::task_link(&task.id, &task.title)) }
                                @if let Some(waiting) = &task.waiting { p.why { (pieces::waiting(waiting, view.now)) } }
                            }
                        }
                    }
                    @if let Some((priority, since)) = longest(view) {
                        p.faint { "Ready for longest: a task of priority " (priority.name()) ", ready " (pieces::ago(since, view.now)) "." }
                    }
                }
            }
            @if let Some(classes) = &view.classes {
                section aria-labelledby="classes-title" {
                    h2 #classes-title { "What they ask for" }
                    (class_list(classes))
                }
            }
        }
    }
}

/// The priority of the task that has been ready for longest, and since when it is.
fn longest(view: &Queue) -> Option<(Priority, Timestamp)> {
    let ready = Priority::ALL.into_iter().zip(view.ready_since);
    ready
        .filter_map(|(priority, since)| Some((priority, since?)))
        .min_by_key(|(_, since)| *since)
}

fn class_list(classes: &Classes) -> Markup {
    html! {
        @if classes.classes.is_empty() {
            (pieces::empty("Nothing is asked for.", &html! { "Labels, preferences and models of waiting tasks are counted here." }))
        } @else {
            table {
                thead { tr { th scope="col" { "Labels and model" } th.number scope="col" { "Tasks" } } }
                tbody {
                    @for class in &classes.classes {
                        tr {
                            td {
                                (pieces::chips(&class.labels, "any agent"))
                                @if let Some(model) = &class.model { span.faint { " on " } span.chip { (model) } }
                                @if !class.prefers.is_empty() { span.faint { " prefers " } (pieces::chips(&class.prefers, "")) }
                            }
                            td.number { (class.count) }
                        }
                    }
                }
            }
            p.faint {
                @if classes.more { "Among the first " (classes.looked_at) " in line." } @else { "All that wait." }
            }
        }
    }
}

/// Tasks as a table.
pub(crate) fn table(tasks: &[wire::Task], now: Timestamp, abilities: Abilities) -> Markup {
    html! {
        table.stack {
            thead { tr { th scope="col" { "Task" } th scope="col" { "Status" } th scope="col" { "Priority" } th scope="col" { "Agent, or why it waits" } th scope="col" { "Created" } } }
            tbody {
                @for task in tasks {
                    tr {
                        th scope="row" { (pieces::task_link(&task.id, &task.title)) }
                        td data-label="Status" { (pieces::task_status(task.status)) @if task.status == Status::InProgress && task.progress > 0 { span.faint { (task.progress) " %" } } }
                        td data-label="Priority" { (pieces::priority(task.priority)) }
                        td data-label="Agent or reason" { (holder(task, now, abilities)) }
                        td data-label="Created" { (pieces::ago(task.created_at, now)) }
                    }
                }
            }
        }
    }
}

fn holder(task: &wire::Task, now: Timestamp, abilities: Abilities) -> Markup {
    html! {
        @if let Some(waiting) = &task.waiting {
            (pieces::waiting(waiting, now))
        } @else if let Some(agent) = &task.claimed_by {
            (pieces::agent_link(agent, abilities.read))
        } @else {
            span.faint { "–" }
        }
    }
}

/// Tasks that run, in brief.
pub(crate) fn running(tasks: &[wire::Task], now: Timestamp, abilities: Abilities) -> Markup {
    html! {
        ul.rows {
            @for task in tasks {
                li {
                    div.row-head { (pieces::task_link(&task.id, &task.title)) }
                    p.why {
                        @if let Some(agent) = &task.claimed_by { "on " (pieces::agent_link(agent, abilities.read)) " " }
                        @if let Some(since) = task.claimed_at { span.faint { "for " (pieces::since(since, now)) } }
                        @if task.progress > 0 { span.faint { " · " (task.progress) " %" } }
                        @if task.attempt > 1 { span.faint { " · attempt " (task.attempt) } }
                    }
                }
            }
        }
    }
}
