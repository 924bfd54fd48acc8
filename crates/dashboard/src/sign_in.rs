//! What those see who are not signed in, and what those see who may not.

use maud::{Markup, html};

use crate::frame;

/// The page that a sign-in link opens, and that stands where somebody is not signed in: `state` says why. The script
/// reads the code behind the `#`, which no server and no log sees.
pub fn page(state: &str) -> Markup {
    frame::bare(
        "Sign in",
        &html! {
            section data-sign-in {
                h1 { "Sign in" }
                p #sign-in-state role="status" aria-live="polite" dir="auto" { (state) }
                p { "On a machine where the command line reaches this server, run" }
                pre { code { "adjutant token link" } }
                p { "and open the link that it prints. A link works once, for ten minutes, and gives this browser the roles of the token that asked for it: "
                    code { "ADJUTANT_TOKEN=… adjutant token link" } " makes one for another token." }
                noscript { p.notice.warning { "Signing in needs JavaScript." } }
            }
        },
    )
}

/// A refusal.
pub fn refusal(code: u16, message: &str, details: &str) -> Markup {
    let title = match code {
        403 => "Not yours to see",
        404 => "Not found",
        422 | 400 => "That cannot be asked",
        503 => "Not now",
        _ => "That did not work",
    };
    frame::bare(
        title,
        &html! {
            h1 { (title) }
            p dir="auto" { (message) }
            @if !details.is_empty() { p.faint dir="auto" { (details) } }
            p { a.button href="/" { "To the overview" } }
        },
    )
}
