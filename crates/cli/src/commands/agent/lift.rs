//! `adjutant agent lift`.

use clap::Args;

use super::each;
use crate::context::Context;
use crate::failure::Outcome;

/// End the quarantine or the pause of agents
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant agent lift laptop-claude")]
pub(crate) struct Arguments {
    /// The agents
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = &context.client()?;
    each(&arguments.ids, context, |id| async move {
        client.lift_agent(&id).await
    })
    .await
}
