//! `adjutant agent drain`.

use clap::Args;

use super::each;
use crate::context::Context;
use crate::failure::Outcome;

/// Let agents finish what they have and take nothing new
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant agent drain laptop-claude")]
pub(crate) struct Arguments {
    /// The agents
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = &context.client()?;
    each(&arguments.ids, context, |id| async move {
        client.drain_agent(&id).await
    })
    .await
}
