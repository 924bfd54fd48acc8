//! `adjutant model show`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Show the quota and the prices of a model
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant model show sonnet")]
pub(crate) struct Arguments {
    /// The model
    model: String,
}

/// Shows them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    super::show(&context.client()?.model(&arguments.model).await?, context)
}
