//! `adjutant token …`: access tokens.

mod create;
mod link;
mod list;
mod revoke;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;

/// What can be done with access tokens.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Create(create::Arguments),
    Link(link::Arguments),
    List(list::Arguments),
    Revoke(revoke::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Create(arguments) => create::run(&arguments, context).await,
        Command::Link(arguments) => link::run(&arguments, context).await,
        Command::List(arguments) => list::run(&arguments, context).await,
        Command::Revoke(arguments) => revoke::run(&arguments, context).await,
    }
}
