//! The command line: what can be written, and what it means to clap.
//!
//! Options that may also come from the environment or from `adjutant.toml` are read as they are here and decided in
//! [`crate::configuration`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    agent, allowance, backup, completions, dispatch, doctor, events, health, limit, man, mcp, migrate_store,
    model, openapi, repo, restore, serve, status, task, token, top, up, webhook, worker,
};

/// Roll-call, routing and rations for fleets of AI agents.
#[derive(Parser, Debug)]
#[command(name = "adjutant", version, max_term_width = 100, propagate_version = false)]
#[command(after_help = "Examples:
  adjutant up fleet.toml --tasks tasks.md --drain   work off a list with a fleet
  adjutant serve                                    start a server and leave it running
  adjutant task add \"Fix the build\" --label rust    hand it a task
  adjutant status                                   see who does what

Exit codes: 0 done, 1 the operation failed, 2 the command line or a file is wrong.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug, Default, Clone)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server to talk to [env: ADJUTANT_URL] [default: http:// and the address of `serve`]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The access token [env: ADJUTANT_TOKEN, ADJUTANT_ADMIN_TOKEN] [default: adjutant.token beside the store]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Trust servers whose certificate an authority in this PEM file signed, and no others [env: ADJUTANT_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<String>,
    /// Where tasks are kept [env: ADJUTANT_STORE] [default: sqlite:./adjutant.db]
    #[arg(long, global = true, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// The configuration file [env: ADJUTANT_CONFIG] [default: adjutant.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Options of servers that forget what is over.
#[derive(Args, Debug, Default, Clone)]
#[command(next_help_heading = "What is kept (everything, when nothing is said)")]
pub(crate) struct Keeping {
    /// Forget tasks that ended longer ago, at least 25h [env: ADJUTANT_KEEP_FINISHED]
    #[arg(long = "keep-finished", value_name = "DURATION")]
    pub(crate) finished: Option<String>,
    /// Keep the newest so many of the tasks that are over; younger ones than 25h stay as well
    /// [env: ADJUTANT_KEEP_FINISHED_COUNT]
    #[arg(long = "keep-finished-count", value_name = "N")]
    pub(crate) finished_count: Option<String>,
    /// Forget older events, at least 1h [env: ADJUTANT_KEEP_EVENTS]
    #[arg(long = "keep-events", value_name = "DURATION")]
    pub(crate) events: Option<String>,
    /// Keep the newest so many events; younger ones than 1h stay as well [env: ADJUTANT_KEEP_EVENTS_COUNT]
    #[arg(long = "keep-events-count", value_name = "N")]
    pub(crate) events_count: Option<String>,
}

/// Options of commands that log.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct Logging {
    /// How log lines look: text or json [env: ADJUTANT_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// adjutant_worker=debug [env: ADJUTANT_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// Everything that adjutant can be asked to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Serve(serve::Arguments),
    Up(up::Arguments),
    Worker(worker::Arguments),
    Dispatch(dispatch::Arguments),
    Mcp(mcp::Arguments),
    /// Add, list and steer tasks
    #[command(subcommand)]
    Task(task::Command),
    /// List and steer agents
    #[command(subcommand)]
    Agent(agent::Command),
    /// What an agent may use in a day
    #[command(subcommand)]
    Allowance(allowance::Command),
    /// Limits of any scope: fleet, project, agent, model, repository
    #[command(subcommand)]
    Limit(limit::Command),
    /// Quotas and prices of models
    #[command(subcommand)]
    Model(model::Command),
    /// Limits of repositories
    #[command(subcommand)]
    Repo(repo::Command),
    Status(status::Arguments),
    Top(top::Arguments),
    Events(events::Arguments),
    Health(health::Arguments),
    /// Make, list and revoke access tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Tell places of events
    #[command(subcommand)]
    Webhook(webhook::Command),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    MigrateStore(migrate_store::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Openapi(openapi::Arguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    fn every_leaf(command: &clap::Command, path: &str, check: &mut impl FnMut(&str, &clap::Command)) {
        if command.get_subcommands().next().is_none() {
            check(path, command);
        }
        for sub in command.get_subcommands() {
            every_leaf(sub, &format!("{path} {}", sub.get_name()), check);
        }
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        let command = super::Arguments::command();
        command.clone().debug_assert();
        let mut leaves = 0;
        every_leaf(&command, "adjutant", &mut |path, leaf| {
            leaves += 1;
            let examples = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Example"), "{path} has no example");
            assert!(
                examples.contains(path),
                "the example of {path} is of another command"
            );
            assert!(leaf.get_about().is_some(), "{path} does not say what it does");
        });
        assert!(leaves >= 49, "{leaves}");
    }
}
