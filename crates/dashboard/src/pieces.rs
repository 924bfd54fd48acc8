//! Pieces that pages share: badges, bars, times, buttons, pagers, empty places.

use adjutant_core::agent::AgentStatus;
use adjutant_core::task::{Priority, Status};
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::format;

/// From this share on a bar warns, in percent.
const WARNING_PERCENT: u64 = 80;

/// How a status looks; the text says it as well.
fn badge(tone: &str, text: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (text) } }
}

/// The state of a task.
pub(crate) fn task_status(status: Status) -> Markup {
    let tone = match status {
        Status::Pending => "waiting",
        Status::InProgress => "active",
        Status::Completed => "good",
        Status::Failed => "bad",
        Status::Blocked | Status::Cancelled => "muted",
    };
    badge(tone, &words(status.name()))
}

/// The state of an agent.
pub(crate) fn agent_status(status: AgentStatus) -> Markup {
    let tone = match status {
        AgentStatus::Available => "good",
        AgentStatus::Busy => "active",
        AgentStatus::Draining => "waiting",
        AgentStatus::Quarantined => "bad",
        AgentStatus::Offline => "muted",
    };
    badge(tone, status.name())
}

/// How urgent a task is.
pub(crate) fn priority(priority: Priority) -> Markup {
    let tone = match priority {
        Priority::Critical => "bad",
        Priority::High => "waiting",
        Priority::Medium | Priority::Low => "plain",
    };
    badge(tone, priority.name())
}

/// A name of the wire as words.
pub(crate) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Labels, capabilities or models.
pub(crate) fn chips(names: &[String], none: &str) -> Markup {
    const SHOWN: usize = 8;
    html! {
        @if names.is_empty() { span.faint { (none) } }
        @for name in names.iter().take(SHOWN) { span.chip dir="auto" { (name) } " " }
        @if names.len() > SHOWN { span.faint { "+" (names.len() - SHOWN) } }
    }
}

/// How long ago something was; the script counts on.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(time) title={ (format::clock(time)) " UTC" } data-ago { (format::duration(now.since(time))) " ago" }
    }
}

/// How long something lasts by now.
pub(crate) fn since(time: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(time) title={ (format::clock(time)) " UTC" } data-for { (format::duration(now.since(time))) }
    }
}

/// A point in time.
pub(crate) fn at(time: Timestamp) -> Markup {
    html! { time datetime=(time) { (format::clock(time)) " UTC" } }
}

/// The address of a task's page.
pub(crate) fn task_path(id: &str) -> String {
    format!("/dashboard/tasks/{}", encoded(id))
}

/// The address of an agent's page.
pub(crate) fn agent_path(id: &str) -> String {
    format!("/dashboard/agents/{}", encoded(id))
}

/// The address of a scope's limits.
pub(crate) fn scope_path(scope: &str) -> String {
    format!("/dashboard/limits?scope={}", encoded(scope))
}

/// A link to an agent, for those who may see it.
pub(crate) fn agent_link(id: &str, may_read: bool) -> Markup {
    html! {
        @if may_read { a.name href=(agent_path(id)) { (id) } } @else { span.name { (id) } }
    }
}

/// A link to a task by its title.
pub(crate) fn task_link(id: &str, title: &str) -> Markup {
    html! {
        a.title href=(task_path(id)) dir="auto" { (title) }
        span.id { (id) }
    }
}

/// Percent-encoding of everything that has a meaning in an address.
pub fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut address = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-~:".contains(&byte) {
            address.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(address, "%{byte:02X}");
        }
    }
    address
}

/// What is used of something, and how much there is.
pub(crate) struct Bar<'a> {
    /// What it is.
    pub(crate) what: &'a str,
    /// What is used; less than nothing where more was given back.
    pub(crate) used: i64,
    /// What is held for what runs.
    pub(crate) held: u64,
    /// How much there is; none is unlimited.
    pub(crate) of: Option<u64>,
    /// How a number is written.
    pub(crate) write: fn(u64) -> String,
}

impl Bar<'_> {
    /// As a line of text with a bar below, where there is a limit.
    pub(crate) fn show(&self) -> Markup {
        let used = self.used.max(0).unsigned_abs();
        let write = self.write;
        html! {
            div.measure {
                span.measure-text {
                    span.faint { (self.what) } " "
                    b { (write(used)) }
                    @match self.of {
                        Some(of) => { " of " (write(of)) }
                        None => { span.faint { " · no limit" } }
                    }
                    @if self.held > 0 { span.faint { " (+" (write(self.held)) " held)" } }
                }
                @if let Some(of) = self.of { (track(used, self.held, of, true)) }
            }
        }
    }
}

/// A bar, drawn without styles in the markup. A full load is no reason to warn; a limit that is used up is.
fn track(used: u64, held: u64, of: u64, warns: bool) -> Markup {
    let share = |amount: u64| {
        let share = u128::from(amount) * 100 / u128::from(of.max(1));
        u64::try_from(share.min(100)).unwrap_or(100)
    };
    let (full, both) = (share(used), share(used.saturating_add(held)));
    let tone = match full {
        100 if warns => "over",
        percent if warns && percent >= WARNING_PERCENT => "near",
        _ => "fine",
    };
    html! {
        svg.track viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label={ (full) " percent used" } {
            rect.ground width="100" height="4" {}
            rect.held width=(both) height="4" {}
            rect class=(tone) width=(full) height="4" {}
        }
    }
}

/// A load out of a maximum.
pub(crate) fn load(current: u32, most: u32) -> Markup {
    html! {
        div.measure {
            span.measure-text {
                b { (current) } @if most == 0 { span.faint { " · no limit" } } @else { " of " (most) }
            }
            @if most > 0 { (track(u64::from(current), 0, u64::from(most), false)) }
        }
    }
}

/// A number with a name, on a tile.
pub(crate) fn tile(name: &str, value: &str, note: &Markup, path: Option<&str>, tone: &str) -> Markup {
    html! {
        div class={ "tile " (tone) } {
            dt { @match path { Some(path) => a href=(path) { (name) }, None => (name) } }
            dd { b { (value) } span.faint { (note) } }
        }
    }
}

/// Why a task waits.
pub(crate) fn waiting(waiting: &wire::Waiting, now: Timestamp) -> Markup {
    html! {
        span.reason { (words(&waiting.reason)) }
        @if !waiting.detail.is_empty() { span.detail dir="auto" { (waiting.detail) } }
        @if waiting.since <= now { span.faint { "for " (since(waiting.since, now)) } }
    }
}

/// A button that asks the API for something.
pub(crate) struct Action<'a> {
    /// Unlike any other on the page: the focus is put back by it.
    pub(crate) id: String,
    /// What it says.
    pub(crate) name: &'a str,
    /// The address.
    pub(crate) path: String,
    /// The method.
    pub(crate) method: &'a str,
    /// What is asked before, where it cannot be undone.
    pub(crate) confirm: Option<&'a str>,
}

impl<'a> Action<'a> {
    /// A POST without a body.
    pub(crate) fn post(name: &'a str, path: String) -> Self {
        Self {
            id: format!("do-{}", name.to_lowercase().replace(' ', "-")),
            name,
            path,
            method: "POST",
            confirm: None,
        }
    }

    /// One that asks before.
    pub(crate) fn confirm(self, question: &'a str) -> Self {
        Self {
            confirm: Some(question),
            ..self
        }
    }

    /// The button.
    pub(crate) fn show(&self) -> Markup {
        html! {
            button id=(self.id) type="button" class=[self.confirm.map(|_| "danger")]
                data-action=(self.path) data-method=(self.method) data-confirm=[self.confirm] { (self.name) }
        }
    }
}

/// Where a list goes on.
pub(crate) fn pager(first: Option<&str>, next: Option<&str>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav.pager aria-label="Pages of this list" {
                @if let Some(path) = first { a.button href=(path) { "First page" } }
                @if let Some(path) = next { a.button href=(path) rel="next" { "Next page" } }
            }
        }
    }
}

/// What stands where there is nothing, and what to do next.
pub(crate) fn empty(title: &str, next: &Markup) -> Markup {
    html! { div.empty { p.empty-title { (title) } p { (next) } } }
}
