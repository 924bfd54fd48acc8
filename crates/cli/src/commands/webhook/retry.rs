//! `adjutant webhook retry`.

use clap::Args;

use super::facts;
use crate::context::Context;
use crate::failure::Outcome;

/// Try again at once what a webhook was not told of: all of it, or one event
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant webhook retry chat
  adjutant webhook retry chat 1207")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
    /// The number of the event
    event: Option<u64>,
}

/// Has them tried again.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let webhook = match arguments.event {
        Some(event) => client.retry_delivery(&arguments.name, event).await?,
        None => client.retry_deliveries(&arguments.name).await?,
    };
    context.printer.show(&webhook, || facts(&webhook))
}
