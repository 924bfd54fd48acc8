//! `adjutant limit …`: limits of any scope.

mod reset;
mod set;
mod show;

use adjutant_core::money::Money;
use adjutant_wire::{ScopeLimits, ScopeUse};
use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::{dollars, number};

/// What can be done with limits.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Set(set::Arguments),
    Show(show::Arguments),
    Reset(reset::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Set(arguments) => set::run(arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
        Command::Reset(arguments) => reset::run(&arguments, context).await,
    }
}

fn show(limits: &ScopeLimits, context: &Context) -> Outcome {
    context.printer.show(limits, || {
        let mut table = Table::new(&["WINDOW", "WHAT", ">USED", ">HELD", ">LIMIT", "KIND"]);
        for window in ["hour", "day", "total"] {
            rows(limits, window, &mut table);
        }
        format!("{}\n{table}", limits.scope)
    })
}

/// A row for everything that is limited over a window, and for what is used without a limit.
fn rows(limits: &ScopeLimits, window: &str, table: &mut Table) {
    let limit = limits.limits.iter().find(|limit| limit.window.name() == window);
    let used = limits.used.iter().find(|used| used.window == window);
    let count = |what: fn(&ScopeUse) -> i128| used.map_or(0, what);
    let kind = limit.map_or("", |limit| if limit.hard { "hard" } else { "soft" });
    let counts = [
        (
            "tokens",
            count(|used| used.tokens.into()),
            i128::from(limits.held_tokens),
            limit.and_then(|limit| limit.tokens),
        ),
        (
            "jobs",
            count(|used| used.jobs.into()),
            0,
            limit.and_then(|limit| limit.jobs),
        ),
        (
            "concurrent",
            limits.active_jobs.into(),
            0,
            limit.and_then(|limit| limit.concurrent),
        ),
        (
            "pull requests",
            count(|used| used.pull_requests.into()),
            0,
            limit.and_then(|limit| limit.pull_requests),
        ),
        (
            "issues",
            count(|used| used.issues.into()),
            0,
            limit.and_then(|limit| limit.issues),
        ),
    ];
    for (what, used, held, bound) in counts {
        if bound.is_some() || (used != 0 && what != "concurrent") {
            let bound_text = bound.map_or_else(|| "-".to_owned(), number);
            let kind = if bound.is_some() { kind } else { "" };
            table.row([
                window.into(),
                what.into(),
                number(used),
                number(held),
                bound_text,
                kind.into(),
            ]);
        }
    }
    let cost = used.map_or(Money::ZERO, |used| used.cost);
    let bound = limit.and_then(|limit| limit.cost);
    if bound.is_some() || cost != Money::ZERO {
        table.row([
            window.into(),
            "cost".into(),
            dollars(cost),
            dollars(limits.held_cost),
            bound.map_or_else(|| "-".to_owned(), dollars),
            if bound.is_some() {
                kind.into()
            } else {
                String::new()
            },
        ]);
    }
}
