//! `adjutant task hold`.

use clap::Args;

use super::each;
use crate::context::Context;
use crate::failure::Outcome;

/// Keep waiting tasks from being started
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task hold task_0190b2a4")]
pub(crate) struct Arguments {
    /// The tasks
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = &context.client()?;
    each(&arguments.ids, context, |id| async move {
        client.hold_task(&id).await
    })
    .await
}
