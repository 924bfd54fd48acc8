//! `adjutant allowance reset`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Set the counters of an agent back to nothing
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant allowance reset laptop-claude")]
pub(crate) struct Arguments {
    /// The agent, registered or not
    agent: String,
}

/// Resets them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    client.reset_allowance(&arguments.agent).await?;
    super::show(&super::standing(&client, &arguments.agent).await?, context)
}
