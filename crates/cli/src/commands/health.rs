//! `adjutant health`: whether the server is well, for those who supervise it.

use std::time::Duration;

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// A server that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Say whether the server is well; needs no token
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant health && echo well")]
pub(crate) struct Arguments {}

/// Says it.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client_builder()?.retries(0).timeout(PATIENCE).build()?;
    let health = client.health().await?;
    if health.status != "ok" {
        return Err(Failure::new(format!(
            "the server says that it is {}",
            health.status
        )));
    }
    context
        .printer
        .show(&health, || format!("{} is well\n", client.base_url()))
}
