//! `adjutant token list`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::time;

/// List access tokens, without their secrets
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant token list")]
pub(crate) struct Arguments {}

/// Lists them.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let tokens = context.client()?.list_tokens().await?;
    context.printer.show(&tokens, || {
        let mut table = Table::new(&["NAME", "ROLES", "CREATED"]).or_else("no tokens");
        for token in &tokens {
            table.row([token.name.clone(), token.roles.join(" "), time(token.created_at)]);
        }
        table.to_string()
    })
}
