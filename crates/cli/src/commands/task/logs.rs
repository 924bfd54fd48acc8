//! `adjutant task logs`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::text::plain;

/// Print the newest output of a task
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task logs task_0190b2a4 | tail")]
pub(crate) struct Arguments {
    /// The task
    id: String,
}

/// Prints it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let output = context.client()?.output(&arguments.id).await?;
    let document = serde_json::json!({ "task_id": arguments.id, "text": output });
    context.printer.show(&document, || plain(&output))
}
