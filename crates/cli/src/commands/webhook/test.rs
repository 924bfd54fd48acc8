//! `adjutant webhook test`.

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::text::one_line;

/// Send a message of the type `test` to a webhook, and say how that went
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant webhook test chat")]
pub(crate) struct Arguments {
    /// The webhook
    name: String,
}

/// Tries it out.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let test = context.client()?.test_webhook(&arguments.name).await?;
    if !test.delivered && !context.printer.is_json() {
        return Err(Failure::new(format!("not delivered: {}", one_line(&test.detail))));
    }
    context
        .printer
        .show(&test, || format!("{}\n", one_line(&test.detail)))?;
    if test.delivered {
        Ok(())
    } else {
        Err(Failure::told())
    }
}
