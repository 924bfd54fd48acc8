//! `adjutant status`: the whole fleet at a glance.

use adjutant_wire::FleetStatus;
use clap::Args;

use crate::commands::agent::load;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::{left, number};

/// Show agents, tasks by state, and what is left of each allowance
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant status --json | jq .tasks")]
pub(crate) struct Arguments {}

/// Shows it.
pub(crate) async fn run(_arguments: &Arguments, context: &Context) -> Outcome {
    let status = context.client()?.status().await?;
    context.printer.show(&status, || text(&status))
}

fn text(status: &FleetStatus) -> String {
    let counts: Vec<String> = [
        "pending",
        "blocked",
        "in_progress",
        "completed",
        "failed",
        "cancelled",
    ]
    .iter()
    .map(|name| {
        let count = status.tasks.get(*name).copied().unwrap_or(0);
        format!("{} {}", number(count), name.replace('_', " "))
    })
    .collect();
    let mut table =
        Table::new(&["AGENT", "STATUS", ">LOAD", ">JOBS LEFT", ">TOKENS LEFT", "NOTE"]).or_else("no agents");
    for one in &status.agents {
        table.row([
            one.agent.id.clone(),
            one.agent.status.name().to_owned(),
            load(&one.agent),
            left(one.allowance.remaining_jobs),
            left(one.allowance.remaining_tokens),
            one.allowance.reason.clone(),
        ]);
    }
    format!("tasks: {}\n\n{table}", counts.join(", "))
}
