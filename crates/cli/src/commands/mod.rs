//! The commands: one file for each, in the shape of the command tree.

pub(crate) mod agent;
pub(crate) mod allowance;
pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod dispatch;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod limit;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod migrate_store;
pub(crate) mod model;
pub(crate) mod openapi;
pub(crate) mod repo;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod webhook;
pub(crate) mod worker;

use crate::arguments::Command;
use crate::context::Context;
use crate::failure::Outcome;

/// Runs a command.
pub(crate) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Serve(arguments) => serve::run(&arguments, &context).await,
        Command::Up(arguments) => up::run(&arguments, &context).await,
        Command::Dispatch(arguments) => dispatch::run(&arguments, &context).await,
        Command::Mcp(arguments) => mcp::run(&arguments, &context).await,
        Command::Worker(arguments) => worker::run(&arguments, &context).await,
        Command::Task(command) => task::run(command, &context).await,
        Command::Agent(command) => agent::run(command, &context).await,
        Command::Allowance(command) => allowance::run(command, &context).await,
        Command::Limit(command) => limit::run(command, &context).await,
        Command::Model(command) => model::run(command, &context).await,
        Command::Repo(command) => repo::run(command, &context).await,
        Command::Status(arguments) => status::run(&arguments, &context).await,
        Command::Top(arguments) => top::run(&arguments, &context).await,
        Command::Events(arguments) => events::run(&arguments, &context).await,
        Command::Health(arguments) => health::run(&arguments, &context).await,
        Command::Token(command) => token::run(command, &context).await,
        Command::Webhook(command) => webhook::run(command, &context).await,
        Command::Backup(arguments) => backup::run(&arguments, &context).await,
        Command::Restore(arguments) => restore::run(&arguments, &context).await,
        Command::MigrateStore(arguments) => migrate_store::run(&arguments, &context).await,
        Command::Doctor(arguments) => doctor::run(&arguments, &context).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, &context),
        Command::Openapi(arguments) => openapi::run(&arguments),
    }
}
