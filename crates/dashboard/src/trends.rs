//! Throughput, latency and cost.

use adjutant_core::money::Money;
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::frame::Place;
use crate::limits::{of_window, scopes};
use crate::plot::Plot;
use crate::{format, pieces};

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Trends {
    /// How many minutes the plots reach back.
    pub minutes: u32,
    /// The choices.
    pub choices: &'static [u32],
    /// The plots.
    pub plots: Vec<Plot>,
    /// Since when events were followed here.
    pub known_since: Timestamp,
    /// Whether some events were passed over, because there were more than are followed.
    pub has_gaps: bool,
    /// What the fleet used.
    pub fleet: wire::ScopeLimits,
    /// Cost by UTC day, newest first, as far as it was seen here, and whether all of the day was.
    pub days: Vec<(Timestamp, Money, bool)>,
    /// What projects used.
    pub projects: Vec<wire::ScopeLimits>,
    /// What models used.
    pub models: Vec<wire::ScopeLimits>,
    /// What agents used, of those that spent last.
    pub agents: Vec<wire::ScopeLimits>,
}

/// The page's content.
pub fn content(view: &Trends) -> Markup {
    html! {
        h1 { "Trends" }
        section #trends data-live aria-label="Over time" {
            nav.tabs aria-label="How far back" {
                @for minutes in view.choices {
                    a href={ (Place::Trends.path()) "?minutes=" (minutes) } aria-current=[(*minutes == view.minutes).then_some("true")] {
                        @if minutes % 60 == 0 { (minutes / 60) " h" } @else { (minutes) " min" }
                    }
                }
            }
            div.plots { @for plot in &view.plots { (plot.show()) } }
            p.faint {
                "Plots are kept in the memory of this server, from the events since " (pieces::at(view.known_since)) "."
                @if view.has_gaps { " At times there were more events than are followed here: the lines have gaps there." }
            }
        }
        section #cost data-live aria-labelledby="cost-title" {
            h2 #cost-title { "Cost" }
            dl.tiles {
                @for (window, name) in [("hour", "This hour"), ("day", "Today"), ("total", "Since the last reset")] {
                    @if let Some(used) = of_window(&view.fleet, window) {
                        (pieces::tile(name, &format::dollars(used.cost), &html! { (format::rough(used.tokens.max(0).unsigned_abs())) " tokens · " (format::count(used.jobs)) " jobs" }, None, ""))
                    }
                }
            }
            div.columns {
                (part("By day", &days(&view.days)))
                (part("By project", &table("Project", &view.projects, "Tasks with a project show here once usage is reported.")))
                (part("By model", &table("Model", &view.models, "Models show here once usage is reported.")))
                (part("By agent", &table("Agent", &view.agents, "Agents show here once usage is reported.")))
            }
            p.faint { "Figures of today and in all are the ledger's. Days, and which projects, models and agents are listed, are those of the events that this server followed." }
        }
    }
}

fn part(title: &str, content: &Markup) -> Markup {
    html! { div { h3 { (title) } (content) } }
}

fn table(kind: &str, rows: &[wire::ScopeLimits], next: &str) -> Markup {
    html! {
        @if rows.is_empty() { (pieces::empty("Nothing was spent.", &html! { (next) })) } @else { (scopes(kind, rows)) }
    }
}

fn days(days: &[(Timestamp, Money, bool)]) -> Markup {
    html! {
        @if days.is_empty() {
            (pieces::empty("Nothing was spent.", &html! { "Cost is what agents report, or tokens by the prices of their model." }))
        } @else {
            table {
                thead { tr { th scope="col" { "UTC day" } th.number scope="col" { "Cost" } } }
                tbody { @for (day, cost, is_whole) in days { tr { th scope="row" { (format::day(*day)) } td.number { @if !is_whole { span.faint { "at least " } } (format::dollars(*cost)) } } } }
            }
        }
    }
}
