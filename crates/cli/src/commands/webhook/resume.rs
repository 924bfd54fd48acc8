//! `adjutant webhook resume`.

use clap::Args;

use super::facts;
use crate::context::Context;
use crate::failure::Outcome;

/// Deliver again for a webhook that was disabled, from where it stopped
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook resume chat")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
}

/// Resumes it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let webhook = context.client()?.resume_webhook(&arguments.name).await?;
    context.printer.show(&webhook, || facts(&webhook))
}
