//! The fleet: agents, a page at a time.

use adjutant_core::agent::AgentStatus;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::format;
use crate::frame::Place;
use crate::pieces::{self, Bar};

/// A page of agents.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// When.
    pub now: Timestamp,
    /// How many agents are in each state, in the order of [`AgentStatus::ALL`].
    pub counts: [u64; 5],
    /// Which state is shown; none is all.
    pub status: Option<AgentStatus>,
    /// The text that ids, names and capabilities are searched for.
    pub search: String,
    /// How many agents the search found, beside those of this page.
    pub found: u64,
    /// The agents of this page.
    pub agents: Vec<Row>,
    /// The address of the first page, where this is another.
    pub first: Option<String>,
    /// The address of the next page.
    pub next: Option<String>,
}

/// An agent, and what is left to it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The agent.
    pub agent: wire::Agent,
    /// What it may use in a day.
    pub allowance: wire::Allowance,
    /// What it has used and holds.
    pub usage: wire::ScopeLimits,
}

/// The page's content.
pub fn content(view: &Fleet) -> Markup {
    let total: u64 = view.counts.iter().sum();
    html! {
        h1 { "Fleet" }
        form.filter action=(Place::Fleet.path()) method="get" role="search" {
            label { span { "Search" } input type="search" name="search" value=(view.search) placeholder="id, name or capability" maxlength="200"; }
            @if let Some(status) = view.status { input type="hidden" name="status" value=(status.name()); }
            button type="submit" { "Search" }
        }
        section #fleet data-live aria-label="Agents" {
            nav.tabs aria-label="Agents by status" {
                a href=(Place::Fleet.path()) aria-current=[view.status.is_none().then_some("true")] { "All " b { (format::count(total)) } }
                @for (status, count) in AgentStatus::ALL.into_iter().zip(view.counts) {
                    a href={ (Place::Fleet.path()) "?status=" (status.name()) } aria-current=[(view.status == Some(status)).then_some("true")] {
                        (status.name()) " " b { (format::count(count)) }
                    }
                }
            }
            @if view.agents.is_empty() {
                @if total == 0 {
                    (pieces::empty("No agent has registered.", &html! {
                        "Start one on any machine: " code { "adjutant worker --id builder-1 --capabilities code -- claude -p {title}" } "."
                    }))
                } @else {
                    (pieces::empty("No agent is like that.", &html! { a href=(Place::Fleet.path()) { "Show all agents" } }))
                }
            } @else {
                @if !view.search.is_empty() { p.faint { (format::count(view.found)) " found" } }
                (table(view))
                (pieces::pager(view.first.as_deref(), view.next.as_deref()))
            }
        }
    }
}

fn table(view: &Fleet) -> Markup {
    html! {
        table.stack {
            thead { tr { th scope="col" { "Agent" } th scope="col" { "Status" } th scope="col" { "Load" } th scope="col" { "Capabilities" } th scope="col" { "Last heartbeat" } th scope="col" { "Allowance today" } } }
            tbody {
                @for Row { agent, allowance, usage } in &view.agents {
                    tr {
                        th scope="row" {
                            a.name href=(pieces::agent_path(&agent.id)) { (agent.id) }
                            @if agent.name != agent.id { span.id dir="auto" { (agent.name) } }
                        }
                        td data-label="Status" { (status(agent, view.now)) }
                        td data-label="Load" { (pieces::load(agent.current_load, agent.max_load)) }
                        td data-label="Capabilities" { (pieces::chips(&agent.capabilities, "none")) }
                        td data-label="Last heartbeat" { (pieces::ago(agent.last_heartbeat, view.now)) }
                        td data-label="Allowance today" { (allowance_bars(allowance, usage)) }
                    }
                }
            }
        }
    }
}

/// Status, and until when it lasts where that is known.
pub(crate) fn status(agent: &wire::Agent, now: Timestamp) -> Markup {
    html! {
        (pieces::agent_status(agent.status))
        @if let Some(until) = agent.quarantined_until.filter(|until| *until > now) {
            span.faint { "until " (format::minute(until)) " UTC" }
        }
        @if let Some(until) = agent.paused_until.filter(|until| *until > now) {
            span.faint { "paused until " (format::minute(until)) " UTC" }
        }
    }
}

/// What an agent used of its day.
pub(crate) fn allowance_bars(allowance: &wire::Allowance, usage: &wire::ScopeLimits) -> Markup {
    let today = usage.used.iter().find(|used| used.window == "day");
    let limit = |limit: u64| (limit > 0).then_some(limit);
    html! {
        (Bar {
            what: "tokens",
            used: today.map_or(0, |used| used.tokens),
            held: usage.held_tokens,
            of: limit(allowance.daily_token_limit),
            write: format::rough,
        }.show())
        (Bar {
            what: "jobs",
            used: today.map_or(0, |used| i64::try_from(used.jobs).unwrap_or(i64::MAX)),
            held: 0,
            of: limit(allowance.daily_job_limit),
            write: format::count,
        }.show())
    }
}
