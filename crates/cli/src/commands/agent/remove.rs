//! `adjutant agent remove`.

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::text::one_line;

/// Remove agents; what they run goes back to the queue, with no failure counted
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant agent remove laptop-claude")]
pub(crate) struct Arguments {
    /// The agents
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Removes them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut removed = Vec::new();
    let mut failure = None;
    for id in &arguments.ids {
        match client.deregister_agent(id).await {
            Ok(()) => {
                if !context.printer.is_json() {
                    say(format!("{} removed", one_line(id)))?;
                }
                removed.push(id);
            }
            Err(error) if arguments.ids.len() == 1 => return Err(error.into()),
            Err(error) => {
                Failure::new(format!("{id}: {error}")).tell();
                failure = Some(Failure::told());
            }
        }
    }
    if context.printer.is_json() {
        json_line(&serde_json::json!({ "removed": removed }))?;
    }
    failure.map_or(Ok(()), Err)
}
