//! `adjutant webhook dead`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::{number, or_dash, time};

/// List what was not delivered: dead letters, and with --waiting what is tried again
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook dead chat")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
    /// Deliveries that wait for another try as well
    #[arg(long)]
    waiting: bool,
}

/// Lists them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let mut deliveries = context.client()?.list_deliveries(&arguments.name).await?;
    deliveries.retain(|delivery| arguments.waiting || delivery.due_at.is_none());
    context.printer.show(&deliveries, || {
        let headings = [">EVENT", "STATUS", ">TRIES", "NEXT TRY", "WHY"];
        let mut table = Table::new(&headings).or_else("nothing: all is delivered");
        for delivery in &deliveries {
            table.row([
                delivery.seq.to_string(),
                delivery.status.clone(),
                number(delivery.attempts),
                or_dash(&delivery.due_at.map(time).unwrap_or_default()),
                delivery.error.clone(),
            ]);
        }
        table.to_string()
    })
}
