//! `adjutant limit show`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::values;

/// Show the limits of a scope and what is used of them
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant limit show fleet")]
pub(crate) struct Arguments {
    /// fleet, project:P, agent:A, model:M or repo:OWNER/NAME
    #[arg(value_parser = values::scope)]
    scope: String,
}

/// Shows them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    super::show(&context.client()?.limits(&arguments.scope).await?, context)
}
