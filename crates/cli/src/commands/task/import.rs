//! `adjutant task import`: a whole list.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::submission::submit;
use crate::task_list::{Format, TaskList};

/// Add a list of tasks: JSON lines, TOML, or a Markdown checklist
///
/// Tasks that are there already are skipped, so a list may be imported again after it grew.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant task import tasks.md
  adjutant task list --json | adjutant --url http://other:7717 task import -")]
pub(crate) struct Arguments {
    /// The list; - reads it from stdin
    file: PathBuf,
    /// In which form it is; guessed from the file's name when absent
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Imports it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let list = TaskList::read(&arguments.file, arguments.format)?;
    let report = submit(&context.client()?, &list).await?;
    context.printer.show(&report, || {
        format!(
            "{} added, {} there already\n",
            report.added.len(),
            report.skipped.len()
        )
    })
}
