//! `adjutant webhook show`.

use clap::Args;

use super::facts;
use crate::context::Context;
use crate::failure::Outcome;

/// Show how a webhook does: what it is told of, what waits, and since when nothing arrives
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook show chat")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
}

/// Shows it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let webhook = context.client()?.get_webhook(&arguments.name).await?;
    context.printer.show(&webhook, || facts(&webhook))
}
