//! `adjutant mcp`: the server's tools for a program that starts its tools as a process.
//!
//! A bridge: lines of JSON-RPC on stdin go to the server's `/mcp`, each beside the others, and what comes back goes to
//! stdout, where nothing else is ever written. It knows no tool; it only notices which agents work through it, and
//! keeps those alive.

mod bridge;
mod lines;
mod message;
mod pulse;

use clap::Args;

use crate::arguments::Logging;
use crate::context::Context;
use crate::failure::Outcome;
use crate::logging;

/// Serve the tools of the server over stdin and stdout, for programs that start an MCP server as a process
///
/// Messages of the Model Context Protocol, one JSON text a line, are passed to the /mcp of the server that --url names,
/// with the token of --token. While it runs it sends heartbeats for agents that registered or took work through it.
/// Give it the token of one agent or of a planner: `adjutant token create` makes such.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant token create laptop --role agent:laptop
  ADJUTANT_TOKEN=... adjutant mcp
  claude mcp add --env ADJUTANT_TOKEN=... --transport stdio adjutant -- adjutant mcp")]
pub(crate) struct Arguments {
    #[command(flatten)]
    logging: Logging,
}

/// Serves until stdin ends.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    logging::start(
        &context.configuration,
        &arguments.logging,
        "warn",
        std::io::stderr,
    )?;
    bridge::run(context.client()?).await
}
