//! `adjutant token link`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Make a link that signs a browser in to the dashboard
///
/// It works once, for ten minutes. The browser gets the roles of the token that this command speaks with, until that token
/// is revoked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant token link
  ADJUTANT_TOKEN=adj_… adjutant token link     a link for a token that may only read, say")]
pub(crate) struct Arguments {}

/// Makes it.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let link = context.client()?.create_sign_in_link().await?;
    context.printer.show(&link, || format!("{}\n", link.url))
}
