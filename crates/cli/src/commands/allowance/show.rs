//! `adjutant allowance show`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Show what an agent may use and what it used today
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant allowance show laptop-claude")]
pub(crate) struct Arguments {
    /// The agent, registered or not
    agent: String,
}

/// Shows it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    super::show(
        &super::standing(&context.client()?, &arguments.agent).await?,
        context,
    )
}
