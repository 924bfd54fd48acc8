//! `adjutant top`: the fleet and the queue, live, in a terminal.
//!
//! [`state`] is what is known and how it changes, [`view`] how it looks: both are pure, and tests need no terminal.
//! [`ask`] speaks to the server, [`screen`] to the terminal. [`snapshot`] is the same for those who have none.

mod ask;
mod deed;
mod detail;
mod filter;
mod keys;
mod layout;
mod list;
mod pace;
mod rows;
mod screen;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal as _;

use clap::Args;

use self::filter::QueueFilter;
use self::view::Theme;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Watch the fleet and the queue live, and steer them by keys
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant top
  adjutant top --filter 'status:in_progress project:web'
  adjutant top --once

Press ? for the keys.")]
pub(crate) struct Arguments {
    /// Print what there is now, and end; so does --json
    #[arg(long)]
    once: bool,
    /// The tasks to show first: words, and status:, priority:, project:, agent:, label: with a name
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
}

/// Watches.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let filter =
        QueueFilter::parse(&arguments.filter).map_err(|why| Failure::usage(format!("--filter: {why}")))?;
    if arguments.once || context.printer.is_json() {
        return snapshot::print(&context.client()?, &filter, context).await;
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("stdout is not a terminal, and top needs one")
            .hint("--once prints what there is now, and --json the same for programs"));
    }
    if context.configuration.is_dumb_terminal() {
        return Err(
            Failure::usage("TERM says that this terminal cannot place text, and top needs that")
                .hint("--once prints what there is now"),
        );
    }
    let client = context
        .client_builder()?
        // A server that is away is told of at once, and asked again a second later anyway.
        .retries(0)
        .timeout(ask::PATIENCE)
        .build()?;
    let theme = Theme::new(context.configuration.wants_colours());
    screen::run(&client, filter, theme).await
}
