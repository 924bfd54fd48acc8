//! `adjutant agent add`.

use adjutant_wire::NewAgent;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{json_line, say};
use crate::text::one_line;

/// Register an agent that is reached by A2A: the server itself sends its tasks to it
///
/// Agents with a worker need no such line: `adjutant worker` registers its own.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant agent add reviewer --a2a https://agents.example.org/reviewer --capabilities review
  adjutant agent add far --a2a https://adjutant.example.org --token-env ADJUTANT_PEER_FAR --max-load 20")]
pub(crate) struct Arguments {
    /// Its id
    id: String,
    /// Where it is: the URL that its agent card is under
    #[arg(long, value_name = "URL", required = true)]
    a2a: String,
    /// What it can do
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    capabilities: Vec<String>,
    /// The models that it can use; any without
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Vec<String>,
    /// The most attempts at a time; 0 is unlimited [default: 1]
    #[arg(long, value_name = "N")]
    max_load: Option<u32>,
    /// Its name for people
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The environment variable of the server that has its bearer token, ADJUTANT_PEER_…
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
}

/// Does it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let agent = NewAgent {
        id: arguments.id.clone(),
        name: arguments.name.clone(),
        capabilities: arguments.capabilities.clone(),
        models: arguments.models.clone(),
        max_load: arguments.max_load,
        protocol: Some("a2a".to_owned()),
        url: Some(arguments.a2a.clone()),
        token_env: arguments.token_env.clone(),
        ..NewAgent::default()
    };
    let agent = context.client()?.register_agent(&agent).await?;
    if context.printer.is_json() {
        return json_line(&agent);
    }
    let addresses = agent.addresses.unwrap_or_default().join(", ");
    say(format!(
        "{} is reached at {} ({})",
        one_line(&agent.id),
        one_line(&arguments.a2a),
        one_line(&addresses)
    ))
}
