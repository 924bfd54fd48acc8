//! `adjutant agent …`: list and steer agents, and register those without a worker.

mod add;
mod drain;
mod lift;
mod list;
mod remove;
pub(crate) mod show;
mod undrain;

use adjutant_wire::Agent;
use clap::Subcommand;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::text::one_line;

/// What can be done with agents.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Add(add::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Drain(drain::Arguments),
    Undrain(undrain::Arguments),
    Lift(lift::Arguments),
    Remove(remove::Arguments),
}

/// Runs one of them.
pub(crate) async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Add(arguments) => add::run(&arguments, context).await,
        Command::List(arguments) => list::run(&arguments, context).await,
        Command::Show(arguments) => show::run(&arguments, context).await,
        Command::Drain(arguments) => drain::run(&arguments, context).await,
        Command::Undrain(arguments) => undrain::run(&arguments, context).await,
        Command::Lift(arguments) => lift::run(&arguments, context).await,
        Command::Remove(arguments) => remove::run(&arguments, context).await,
    }
}

/// Load of an agent as `1/4`, where 0 is unlimited.
pub(crate) fn load(agent: &Agent) -> String {
    if agent.max_load == 0 {
        format!("{}/∞", agent.current_load)
    } else {
        format!("{}/{}", agent.current_load, agent.max_load)
    }
}

/// Does something with each of several agents, says how each went, and fails when one did.
async fn each<F>(ids: &[String], context: &Context, what: impl Fn(String) -> F) -> Outcome
where
    F: Future<Output = Result<Agent, adjutant_client::Error>>,
{
    let mut done = Vec::new();
    let mut failure = None;
    for id in ids {
        match what(id.clone()).await {
            Ok(agent) => {
                if !context.printer.is_json() {
                    say(format!("{} {}", one_line(&agent.id), agent.status.name()))?;
                }
                done.push(agent);
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
