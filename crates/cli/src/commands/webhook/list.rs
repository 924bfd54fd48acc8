//! `adjutant webhook list`.

use clap::Args;

use super::events;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::number;

/// List webhooks
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook list")]
pub(crate) struct Arguments {}

/// Lists them.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let webhooks = context.client()?.list_webhooks().await?;
    context.printer.show(&webhooks, || {
        let headings = ["NAME", "STATUS", ">WAITING", ">DEAD", "EVENTS", "URL"];
        let mut table = Table::new(&headings).or_else("no webhooks");
        for webhook in &webhooks {
            table.row([
                webhook.name.clone(),
                webhook.status.clone(),
                number(webhook.pending),
                number(webhook.dead),
                events(webhook),
                webhook.url.clone(),
            ]);
        }
        table.to_string()
    })
}
