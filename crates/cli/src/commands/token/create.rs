//! `adjutant token create`.

use adjutant_core::access::Role;
use adjutant_wire::{NewToken, TokenMade};
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::host;

/// Make an access token; its secret is printed once and kept nowhere
///
/// With --store the token is made with direct access to a store that no server has open.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant token create ci --role submit
  adjutant token create laptop --role 'agent:*'
  adjutant token create bot --role submit --role agent:bot     for a core-agentic client
  adjutant token create rescue --role admin --store sqlite:./adjutant.db

Roles: admin; submit (create, list, cancel and watch tasks); read; agent:ID (act as this agent);
agent:* (act as any agent)")]
pub(crate) struct Arguments {
    /// Its name
    name: String,
    /// What it allows; may be given several times
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<Role>,
}

/// Makes it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let roles: Vec<String> = arguments.roles.iter().map(ToString::to_string).collect();
    let name = arguments.name.clone();
    let made = if let Some(store) = context.configuration.store_flag()? {
        let token = host::create_token(&store, &name, &arguments.roles).await?;
        TokenMade { name, roles, token }
    } else {
        context.client()?.create_token(&NewToken { name, roles }).await?
    };
    context.printer.show(&made, || format!("{}\n", made.token))
}
