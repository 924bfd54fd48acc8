//! `adjutant webhook add`.

use adjutant_wire::NewWebhook;
use clap::Args;

use super::facts;
use crate::context::Context;
use crate::failure::Outcome;

/// Tell a place of events from now on; prints, this once, the secret that its requests are signed with
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant webhook add chat https://chat.example/hooks/fleet --event task_dead_lettered
  adjutant webhook add books https://books.example/hook --event quota_warning,quota_exceeded
  adjutant webhook add everything https://log.example/events

An address inside the server's own machine or network needs `serve --allow-private-peers`.")]
pub(crate) struct Arguments {
    /// Its name
    name: String,
    /// Where it is; without a query
    // Not `url`, which is where the server is.
    #[arg(value_name = "URL")]
    place: String,
    /// A type of event to tell it of; may be given several times [default: all]
    #[arg(long = "event", value_name = "TYPE", value_delimiter = ',')]
    events: Vec<String>,
}

/// Adds it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let new = NewWebhook {
        name: arguments.name.clone(),
        url: arguments.place.clone(),
        events: arguments.events.clone(),
    };
    let webhook = context.client()?.add_webhook(&new).await?;
    context.printer.show(&webhook, || facts(&webhook))
}
