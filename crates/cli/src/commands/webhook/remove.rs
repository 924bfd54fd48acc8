//! `adjutant webhook remove`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::text::one_line;

/// Remove a webhook, with what was not delivered
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook remove chat")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
}

/// Removes it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    context.client()?.remove_webhook(&arguments.name).await?;
    context
        .printer
        .show(&serde_json::json!({ "removed": arguments.name }), || {
            format!("{} removed\n", one_line(&arguments.name))
        })
}
