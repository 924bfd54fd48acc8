//! `adjutant task release`.

use adjutant_wire::AttemptRef;
use clap::Args;

use super::each;
use crate::context::Context;
use crate::failure::Outcome;

/// Give tasks in progress back to the queue, with no failure counted
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task release task_0190b2a4")]
pub(crate) struct Arguments {
    /// The tasks
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = &context.client()?;
    each(&arguments.ids, context, |id| async move {
        client.release_task(&id, &AttemptRef::default()).await
    })
    .await
}
