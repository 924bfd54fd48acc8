//! `adjutant token revoke`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::text::one_line;

/// Revoke an access token at once
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant token revoke ci")]
pub(crate) struct Arguments {
    /// The token's name
    name: String,
}

/// Revokes it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    context.client()?.revoke_token(&arguments.name).await?;
    context
        .printer
        .show(&serde_json::json!({ "revoked": arguments.name }), || {
            format!("{} revoked\n", one_line(&arguments.name))
        })
}
