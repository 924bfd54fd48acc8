//! `adjutant agent list`.

use adjutant_core::agent::AgentStatus;
use clap::Args;

use super::load;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::or_dash;
use crate::values;

/// List agents
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant agent list
  adjutant agent list --status available --capability rust")]
pub(crate) struct Arguments {
    /// Only in this state
    #[arg(long, short, value_parser = values::agent_status)]
    status: Option<AgentStatus>,
    /// Only with this capability; may be given several times
    #[arg(long = "capability", short, value_name = "LABEL")]
    capabilities: Vec<String>,
}

/// Lists them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let agents = context
        .client()?
        .list_agents(arguments.status, &arguments.capabilities)
        .await?;
    context.printer.show(&agents, || {
        let mut table = Table::new(&["ID", "STATUS", ">LOAD", "CAPABILITIES", "MODELS"]).or_else("no agents");
        for agent in &agents {
            table.row([
                agent.id.clone(),
                agent.status.name().to_owned(),
                load(agent),
                or_dash(&agent.capabilities.join(" ")),
                if agent.models.is_empty() {
                    "any".to_owned()
                } else {
                    agent.models.join(" ")
                },
            ]);
        }
        table.to_string()
    })
}
