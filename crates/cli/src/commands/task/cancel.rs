//! `adjutant task cancel`.

use clap::Args;

use super::each;
use crate::context::Context;
use crate::failure::Outcome;

/// Take tasks back; what runs is stopped
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task cancel task_0190b2a4 --cascade")]
pub(crate) struct Arguments {
    /// The tasks
    #[arg(required = true)]
    ids: Vec<String>,
    /// And all tasks that depend on them
    #[arg(long)]
    cascade: bool,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = &context.client()?;
    let cascade = arguments.cascade;
    each(&arguments.ids, context, |id| async move {
        client.cancel_task(&id, cascade).await
    })
    .await
}
