//! `adjutant limit reset`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Set the counters of a scope back to nothing
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant limit reset project:web")]
pub(crate) struct Arguments {
    /// fleet, project:P, agent:A, model:M or repo:OWNER/NAME
    #[arg(value_parser = values::scope)]
    scope: String,
}

/// Resets them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    client.reset_limits(&arguments.scope).await?;
    super::show(&client.limits(&arguments.scope).await?, context)
}
