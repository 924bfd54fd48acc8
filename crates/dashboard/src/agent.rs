//! One agent.

use adjutant_core::agent::AgentStatus;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::fleet::{allowance_bars, status};
use crate::limits::use_bars;
use crate::pieces::{self, Action};
use crate::{Abilities, queue};

/// An agent with its tasks.
#[derive(Clone, Debug)]
pub struct Agent {
    /// When.
    pub now: Timestamp,
    /// The agent.
    pub agent: wire::Agent,
    /// What it may use in a day.
    pub allowance: wire::Allowance,
    /// What it has used and holds.
    pub usage: wire::ScopeLimits,
    /// The tasks that it holds or held, newest first.
    pub tasks: Vec<wire::Task>,
    /// The address of the first page of tasks, where this is another.
    pub first: Option<String>,
    /// The address of the next page of tasks.
    pub next: Option<String>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// The page's content.
pub fn content(view: &Agent) -> Markup {
    let agent = &view.agent;
    let scope = format!("agent:{}", agent.id);
    html! {
        p.crumbs { a href="/dashboard/fleet" { "Fleet" } " / agent" }
        section #agent data-live aria-label="The agent" {
            div.title-line {
                h1 dir="auto" { (agent.name) }
                (status(agent, view.now))
            }
            p.id { (agent.id) }
            @if view.abilities.admin { div.actions { (actions(agent)) } }
            dl.facts {
                div { dt { "Load" } dd { (pieces::load(agent.current_load, agent.max_load)) } }
                div { dt { "Last heartbeat" } dd { (pieces::ago(agent.last_heartbeat, view.now)) } }
                @if let Some(url) = &agent.url { div { dt { "Reached by A2A at" } dd { code { (url) } } } }
                div { dt { "Registered" } dd { (pieces::at(agent.registered_at)) } }
                div { dt { "Capabilities" } dd { (pieces::chips(&agent.capabilities, "none")) } }
                div { dt { "Models" } dd { (pieces::chips(&agent.models, "any")) } }
                div { dt { "Allowance today" } dd { (allowance_bars(&view.allowance, &view.usage)) a href=(pieces::scope_path(&scope)) { "Edit the allowance" } } }
            }
            (use_bars(&view.usage))
        }
        section #tasks data-live aria-labelledby="tasks-title" {
            h2 #tasks-title { "Its tasks" }
            @if view.tasks.is_empty() {
                (pieces::empty("It has not held a task.", &html! { "It gets one as soon as one fits its capabilities and models." }))
            } @else {
                (queue::table(&view.tasks, view.now, view.abilities))
                (pieces::pager(view.first.as_deref(), view.next.as_deref()))
            }
        }
    }
}

fn actions(agent: &wire::Agent) -> Markup {
    let path = |verb: &str| format!("/api/agents/{}/{verb}", pieces::encoded(&agent.id));
    html! {
        @if agent.status == AgentStatus::Draining {
            (Action::post("End the drain", path("undrain")).show())
        } @else {
            (Action::post("Drain", path("drain")).show())
        }
        @if agent.quarantined_until.is_some() || agent.paused_until.is_some() {
            (Action::post("Lift", path("lift")).show())
        }
    }
}
