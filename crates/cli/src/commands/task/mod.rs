//! `adjutant task …`: add, list and steer tasks.

mod add;
mod cancel;
pub(crate) mod explain;
mod hold;
mod import;
mod list;
mod logs;
mod release;
mod retry;
pub(crate) mod show;
mod unhold;
mod watch;

use adjutant_wire::Task;
use clap::Subcommand;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::text::{one_line, or_dash};

/// What can be done with tasks.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Add(Box<add::Arguments>),
    Import(import::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Explain(explain::Arguments),
    Watch(watch::Arguments),
    Logs(logs::Arguments),
    Cancel(cancel::Arguments),
    Retry(retry::Arguments),
    Hold(hold::Arguments),
    Unhold(unhold::Arguments),
    Release(release::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Add(arguments) => add::run(*arguments, context).await,
        Command::Import(arguments) => import::run(&arguments, context).await,
        Command::List(arguments) => list::run(arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
        Command::Explain(arguments) => explain::run(&arguments, context).await,
        Command::Watch(arguments) => watch::run(&arguments, context).await,
        Command::Logs(arguments) => logs::run(&arguments, context).await,
        Command::Cancel(arguments) => cancel::run(&arguments, context).await,
        Command::Retry(arguments) => retry::run(&arguments, context).await,
        Command::Hold(arguments) => hold::run(&arguments, context).await,
        Command::Unhold(arguments) => unhold::run(&arguments, context).await,
        Command::Release(arguments) => release::run(&arguments, context).await,
    }
}

/// Who has the task, or why nobody has.
pub(crate) fn standing(task: &Task) -> String {
    match (&task.claimed_by, &task.waiting) {
        (Some(agent), _) => agent.clone(),
        (None, Some(waiting)) => waiting.reason.clone(),
        (None, None) => or_dash(""),
    }
}

/// Does something with each of several tasks, says how each went, and fails when one did.
async fn each<F>(ids: &[String], context: &Context, what: impl Fn(String) -> F) -> Outcome
where
    F: Future<Output = Result<Task, adjutant_client::Error>>,
{
    let mut done = Vec::new();
    let mut failure = None;
    for id in ids {
        match what(id.clone()).await {
            Ok(task) => {
                if !context.printer.is_json() {
                    say(format!("{} {}", one_line(&task.id), task.status.name()))?;
                }
                done.push(task);
            }
            Err(error) if ids.len() == 1 => return Err(error.into()),
            Err(error) => {
                Failure::new(format!("{id}: {error}")).tell();
                failure = Some(Failure::told());
            }
        }
    }
    if context.printer.is_json() {
        json_line(&done)?;
    }
    failure.map_or(Ok(()), Err)
}
