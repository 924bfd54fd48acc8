//! `adjutant repo show`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Show the limits of a repository
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant repo show acme/web")]
pub(crate) struct Arguments {
    /// The repository
    #[arg(value_name = "OWNER/NAME")]
    repo: String,
}

/// Shows them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    super::show(&context.client()?.repo(&arguments.repo).await?, context)
}
