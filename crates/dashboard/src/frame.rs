//! The frame around every page: head, navigation, and the regions that are kept fresh.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::Abilities;
use crate::assets::{ICON, SCRIPT, STYLE};

/// Where a page stands in the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// All at a glance.
    Overview,
    /// Agents.
    Fleet,
    /// Tasks.
    Queue,
    /// Tasks without an attempt left.
    DeadLetters,
    /// Allowances, models, and other limits.
    Limits,
    /// Throughput, latency and cost.
    Trends,
    /// What happens.
    Events,
}

impl Place {
    /// All places, in the order of the navigation.
    pub const ALL: [Self; 7] = [
        Self::Overview,
        Self::Fleet,
        Self::Queue,
        Self::DeadLetters,
        Self::Limits,
        Self::Trends,
        Self::Events,
    ];

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Fleet => "/dashboard/fleet",
            Self::Queue => "/dashboard/queue",
            Self::DeadLetters => "/dashboard/dead-letters",
            Self::Limits => "/dashboard/limits",
            Self::Trends => "/dashboard/trends",
            Self::Events => "/dashboard/events",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Fleet => "Fleet",
            Self::Queue => "Tasks",
            Self::DeadLetters => "Dead letters",
            Self::Limits => "Limits",
            Self::Trends => "Trends",
            Self::Events => "Events",
        }
    }

    /// Whether it shows agents or limits, which only readers see.
    const fn needs_read(self) -> bool {
        matches!(self, Self::Fleet | Self::Limits | Self::Trends)
    }
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// The name of the token that signed in.
    pub name: &'a str,
    /// What it may do.
    pub abilities: Abilities,
    /// Whether there is a session to end.
    pub may_sign_out: bool,
}

/// A whole page around content that was rendered before.
pub fn page(title: &str, place: Place, viewer: Viewer<'_>, content: &str) -> Markup {
    let links = Place::ALL
        .into_iter()
        .filter(|place| viewer.abilities.read || !place.needs_read());
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-live-page {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/" { (mark()) "adjutant" }
                    nav aria-label="Pages" {
                        ul {
                            @for link in links {
                                li {
                                    a href=(link.path()) aria-current=[(link == place).then_some("page")] { (link.name()) }
                                }
                            }
                        }
                    }
                    div.who {
                        span #pulse role="status" aria-live="polite" { "Connecting…" }
                        a href="/docs" { "API" }
                        span.me dir="auto" title="The token that you signed in with" { (viewer.name) }
                        @if viewer.may_sign_out {
                            button.quiet type="button" data-sign-out { "Sign out" }
                        }
                    }
                }
                noscript { p.notice.warning { "Without JavaScript pages do not refresh by themselves, and buttons do nothing." } }
                div #told role="alert" {}
                main #main tabindex="-1" { (PreEscaped(content)) }
            }
        }
    }
}

/// A page without navigation: for those who are not signed in, and for refusals.
pub fn bare(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare {
                main #main {
                    p.brand { (mark()) "adjutant" }
                    div #told role="alert" {}
                    (content)
                }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · adjutant" }
            link rel="icon" type=(ICON.content_type) href=(ICON.path);
            link rel="stylesheet" href=(STYLE.path);
            script src=(SCRIPT.path) defer {}
        }
    }
}

/// The mark: three chevrons of rank.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 16 16" aria-hidden="true" {
            path d="M2 6l6-4 6 4M2 10l6-4 6 4M2 14l6-4 6 4" {}
        }
    }
}
