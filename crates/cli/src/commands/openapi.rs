//! `adjutant openapi`: the API's own description, without a server.

use clap::Args;

use crate::failure::Outcome;
use crate::output::put;

/// Print the OpenAPI description of the HTTP API
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant openapi > openapi.json")]
pub(crate) struct Arguments {}

/// Prints it.
pub(crate) fn run(_arguments: &Arguments) -> Outcome {
    put(&format!("{}\n", adjutant_server::openapi()))
}
