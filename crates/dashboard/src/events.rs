//! What happened.

use adjutant_core::time::Timestamp;
use adjutant_wire as wire;
use maud::{Markup, html};

use crate::{Abilities, format, pieces};

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Events {
    /// When.
    pub now: Timestamp,
    /// The latest events, newest first.
    pub events: Vec<wire::Event>,
    /// What the viewer may do.
    pub abilities: Abilities,
}

/// The page's content.
pub fn content(view: &Events) -> Markup {
    html! {
        h1 { "Events" }
        p.faint {
            "The latest " (view.events.len()) ", newest first, as they are committed. The whole record: "
            code { "adjutant events --follow" } " or " code { "GET /api/events" } "."
        }
        section #events data-live aria-label="Events" { (list(&view.events, view.now, view.abilities)) }
    }
}

/// Events as a list.
pub(crate) fn list(events: &[wire::Event], now: Timestamp, abilities: Abilities) -> Markup {
    html! {
        @if events.is_empty() {
            (pieces::empty("Nothing has happened yet.", &html! { "Every change of a task, an agent or a limit is told here." }))
        } @else {
            ol.events {
                @for event in events {
                    li {
                        (pieces::ago(event.timestamp, now))
                        div {
                            (kind(&event.kind)) " "
                            @if let Some(task) = &event.task_id { a.id href=(pieces::task_path(task)) { (task) } " " }
                            @if let Some(agent) = &event.agent_id { span.faint { "by " (pieces::agent_link(agent, abilities.read)) } }
                            (payload(event))
                        }
                        span.seq { "#" (event.seq) }
                    }
                }
            }
        }
    }
}

/// What kind of thing happened, in its tone.
pub(crate) fn kind(kind: &str) -> Markup {
    let tone = match kind {
        "task_completed" | "agent_online" | "agent_registered" => "good",
        "task_dispatched" | "task_claimed" | "task_progress" => "active",
        "task_attempt_failed"
        | "task_dead_lettered"
        | "lease_expired"
        | "agent_offline"
        | "agent_quarantined"
        | "quota_exceeded" => "bad",
        "quota_warning"
        | "agent_paused"
        | "agent_draining"
        | "dispatch_failed_no_agent"
        | "dispatch_failed_quota"
        | "task_retried"
        | "task_released" => "waiting",
        _ => "plain",
    };
    html! { span class={ "badge " (tone) } { (pieces::words(kind)) } }
}

/// More about it: the members of the payload, as text.
pub(crate) fn payload(event: &wire::Event) -> Markup {
    const MOST_CHARS: usize = 600;
    let Some(payload) = event.payload.as_ref().map(|payload| payload.get()) else {
        return html! {};
    };
    let text = payload
        .trim_matches(['{', '}'])
        .replace("\":", "\": ")
        .replace(",\"", ", \"");
    let text: String = text
        .chars()
        .filter(|char| *char != '"')
        .take(MOST_CHARS)
        .collect();
    html! { @if !text.is_empty() { span.detail dir="auto" { (text) } } }
}

/// The time of an event as exactly as it is known.
pub(crate) fn moment(event: &wire::Event) -> Markup {
    html! { time datetime=(event.timestamp) title=(event.timestamp) { (format::clock(event.timestamp)) } }
}
