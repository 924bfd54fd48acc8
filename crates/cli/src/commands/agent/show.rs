//! `adjutant agent show`.

use adjutant_wire::Agent;
use clap::Args;
use serde_json::json;

use super::load;
use crate::commands::allowance::{self, Standing};
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::{Facts, WIDTH};
use crate::text::{dollars, left, number, time};

/// Show an agent and what it may still use today
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant agent show laptop-claude")]
pub(crate) struct Arguments {
    /// The agent
    id: String,
}

/// Shows it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    let agent = client.get_agent(&arguments.id).await?;
    let standing = allowance::standing(&client, &arguments.id).await?;
    let document = json!({ "agent": agent, "allowance": standing.allowance, "check": standing.check, "usage": standing.usage });
    context.printer.show(&document, || text(&agent, &standing, WIDTH))
}

/// Everything about it, in so many columns.
pub(crate) fn text(agent: &Agent, standing: &Standing, width: usize) -> String {
    let mut facts = facts(agent);
    facts.add(
        "used today",
        format!(
            "{} jobs, {} tokens, {}",
            number(standing.usage.jobs_started),
            number(standing.usage.tokens_used),
            dollars(standing.usage.cost)
        ),
    );
    facts.add(
        "left today",
        format!(
            "{} jobs, {} tokens",
            left(standing.check.remaining_jobs),
            left(standing.check.remaining_tokens)
        ),
    );
    facts.add_some("refused because", standing.check.reason.as_str());
    format!("{facts:width$}")
}

fn facts(agent: &Agent) -> Facts {
    let mut facts = Facts::default();
    facts.add("id", &agent.id);
    facts.add("name", &agent.name);
    facts.add("status", agent.status.name());
    facts.add("load", load(agent));
    facts.add_some("capabilities", agent.capabilities.join(" "));
    facts.add(
        "models",
        if agent.models.is_empty() {
            "any".to_owned()
        } else {
            agent.models.join(" ")
        },
    );
    if let Some(until) = agent.paused_until {
        facts.add("paused until", time(until));
    }
    if let Some(until) = agent.quarantined_until {
        facts.add("quarantined until", time(until));
    }
    facts.add("last heard of", time(agent.last_heartbeat));
    facts.add("registered", time(agent.registered_at));
    facts.add_some(
        "metadata",
        agent.metadata.as_ref().map_or("", |metadata| metadata.get()),
    );
    facts
}
