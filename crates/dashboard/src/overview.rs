//! The first page: all at a glance.

use adjutant_core::agent::AgentStatus;
use adjutant_core::task::Status;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::Abilities;
use crate::frame::Place;
use crate::limits::use_bars;
use crate::pieces::{self, tile};
use crate::plot::Plot;
use crate::{events, format, queue};

/// What the first page shows.
#[derive(Clone, Debug)]
pub struct Overview {
    /// When.
    pub now: Timestamp,
    /// How many tasks are in each state, in the order of [`Status::ALL`].
    pub tasks: [u64; 6],
    /// How many agents are in each state, in the order of [`AgentStatus::ALL`].
    pub agents: [u64; 5],
    /// The first tasks that run.
    pub running: Vec<wire::Task>,
    /// What the fleet used, for those who may see it.
    pub fleet: Option<wire::ScopeLimits>,
    /// Throughput and waits of the last hour.
    pub plots: Vec<Plot>,
    /// What happened last, newest first.
    pub events: Vec<wire::Event>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// The page's content.
pub fn content(view: &Overview) -> Markup {
    let of = |status: Status| view.tasks[usize::from(status.code())];
    html! {
        h1 { "Overview" }
        section #glance data-live aria-labelledby="glance-title" {
            h2.hidden #glance-title { "At a glance" }
            dl.tiles {
                (task_tile("Waiting", Status::Pending, of(Status::Pending), "waiting"))
                (task_tile("Running", Status::InProgress, of(Status::InProgress), "active"))
                (task_tile("Blocked", Status::Blocked, of(Status::Blocked), ""))
                (task_tile("Completed", Status::Completed, of(Status::Completed), "good"))
                (tile("Dead letters", &format::count(of(Status::Failed)),
                    &html! { @if of(Status::Failed) > 0 { "need a person" } @else { "none to mend" } },
                    Some(Place::DeadLetters.path()), if of(Status::Failed) > 0 { "bad" } else { "" }))
                (agents_tile(view))
            }
            @if view.tasks.iter().sum::<u64>() == 0 {
                (pieces::empty("No task yet.", &html! {
                    "Submit one: " code { "adjutant task add \"Say hello\"" } ", and start a worker that takes it: "
                    code { "adjutant worker --id me -- cat" } "."
                }))
            }
        }
        section #plots data-live.plots aria-label="The last hour" {
            @for plot in &view.plots { (plot.show()) }
        }
        div.columns {
            section #running data-live aria-labelledby="running-title" {
                h2 #running-title { "Running now" }
                @if view.running.is_empty() {
                    (pieces::empty("Nothing runs.", &html! { "Tasks start as soon as an agent that can take them has room." }))
                } @else {
                    (queue::running(&view.running, view.now, view.abilities))
                }
            }
            section #latest data-live aria-labelledby="latest-title" {
                h2 #latest-title { "Latest events" }
                (events::list(&view.events, view.now, view.abilities))
            }
        }
        @if let Some(fleet) = &view.fleet {
            section #today data-live aria-labelledby="today-title" {
                h2 #today-title { "The fleet today" }
                (use_bars(fleet))
                p.faint { a href=(pieces::scope_path("fleet")) { "Limits of the fleet" } }
            }
        }
    }
}

fn task_tile(name: &str, status: Status, count: u64, tone: &str) -> Markup {
    let path = format!("{}?status={}", Place::Queue.path(), status.name());
    let tone = if count > 0 { tone } else { "" };
    tile(name, &format::count(count), &html! {}, Some(&path), tone)
}

fn agents_tile(view: &Overview) -> Markup {
    let total: u64 = view.agents.iter().sum();
    let parts: Vec<_> = AgentStatus::ALL
        .iter()
        .zip(view.agents)
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{} {}", format::count(count), status.name()))
        .collect();
    let path = view.abilities.read.then_some(Place::Fleet.path());
    tile(
        "Agents",
        &format::count(total),
        &html! { (parts.join(" · ")) },
        path,
        "",
    )
}
