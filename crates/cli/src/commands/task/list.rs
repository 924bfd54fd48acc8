//! `adjutant task list`.

use adjutant_client::TaskFilter;
use adjutant_core::task::{Priority, Status};
use clap::Args;

use super::standing;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::values;

/// The most tasks of one page.
const PAGE: usize = 1_000;

/// List tasks: pending ones in the order in which they will start, others newest first
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant task list
  adjutant task list --status pending --label rust
  adjutant task list --status failed --json")]
pub(crate) struct Arguments {
    /// Only in this state
    #[arg(long, short, value_parser = values::status)]
    status: Option<Status>,
    /// Only this urgent
    #[arg(long, short, value_parser = values::priority)]
    priority: Option<Priority>,
    /// Only of this project
    #[arg(long)]
    project: Option<String>,
    /// Only held by this agent, or by it at the end
    #[arg(long, value_name = "AGENT")]
    claimed_by: Option<String>,
    /// Only with this label; may be given several times
    #[arg(long = "label", short, value_name = "LABEL")]
    labels: Vec<String>,
    /// The most tasks to list
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Lists them.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let most = arguments.limit as usize;
    let filter = TaskFilter {
        status: arguments.status,
        priority: arguments.priority,
        project: arguments.project,
        claimed_by: arguments.claimed_by,
        labels: arguments.labels,
        limit: u32::try_from(most.min(PAGE)).ok(),
    };
    let tasks = context.client()?.all_tasks(&filter, most).await?;
    context.printer.show(&tasks, || {
        let mut table =
            Table::new(&["ID", "STATUS", "PRIORITY", "AGENT OR REASON", "TITLE"]).or_else("no tasks");
        for task in &tasks {
            table.row([
                task.id.clone(),
                task.status.name().to_owned(),
                task.priority.name().to_owned(),
                standing(task),
                task.title.clone(),
            ]);
        }
        table.to_string()
    })
}
