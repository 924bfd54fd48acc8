//! `adjutant task explain`.

use adjutant_wire::Explanation;
use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::table::{Facts, Table, WIDTH};
use crate::text::number;

/// Say why a task waits: which agents were considered, and what each lacks
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task explain task_0190b2a4")]
pub(crate) struct Arguments {
    /// The task
    id: String,
}

/// Says it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let explanation = context.client()?.explain(&arguments.id).await?;
    context.printer.show(&explanation, || text(&explanation, WIDTH))
}

/// What it says, in so many columns.
pub(crate) fn text(explanation: &Explanation, width: usize) -> String {
    let mut facts = Facts::default();
    facts.add("task", &explanation.task_id);
    facts.add("status", &explanation.status);
    if let Some(waiting) = &explanation.waiting {
        facts.add("waits for", format!("{}: {}", waiting.reason, waiting.detail));
    }
    facts.add("considered", format!("{} agents", number(explanation.considered)));
    let mut table = Table::new(&[">AGENTS", "LACK", "WHICH"]);
    for group in &explanation.groups {
        table.row([number(group.count), group.reason.clone(), group.agents.join(" ")]);
    }
    if explanation.groups.is_empty() {
        format!("{facts:width$}")
    } else {
        format!("{facts:width$}\n{table:width$}")
    }
}
