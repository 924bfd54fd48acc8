//! The worker: one agent's process, which registers, answers the roll-call, and runs a command for each task.
//!
//! ```text
//!            ┌───────────────────────────── roll_call ─────────────────────────────┐
//!  server ◄──┤ sync: running, done, room      answer: start, stop, done, drain      ├──► observer
//!            └──── roster: who runs, who is done and not acknowledged ──────────────┘
//!                                  │ start, stop              ▲ ended
//!                                  ▼                          │
//!                attempt: one Tokio task, one process group, one workspace for each (id, attempt)
//!                adapter → process → stdout (output, usage, session) → outcome → completion
//! ```
//!
//! # Invariants
//! - The same (id, attempt) is started at most once, however often it is offered.
//! - An attempt is listed in each sync until its process is gone, and its completion is sent until it is
//!   acknowledged; nothing that was finished is lost because the server was away.
//! - Attempts whose lease could not be renewed in time are ended, before another agent may start them.
//! - A command never sees the worker's own token, only the one of its attempt.
//! - What an attempt used is told until the server has booked it, also after the attempt is over.
//! - Memory is bounded for each attempt, whatever its command prints.
//!
//! # Not here
//! HTTP: `adjutant-client`. Which task goes where: the server.

mod adapter;
mod attempt;
mod config;
mod dues;
mod environment;
mod error;
mod feed;
mod group;
mod keeper;
mod lease;
mod lines;
mod observer;
mod outcome;
mod prices;
mod process;
mod reporter;
mod roll_call;
mod roster;
mod scribe;
mod session;
mod stop;
mod template;
mod text;
mod usage;
pub mod workspace;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use adjutant_client::Client;
use tokio_util::sync::CancellationToken;

pub use adapter::AdapterKind;
pub use config::{Config, GRACE, RESULT_GRACE};
pub use error::{Error, Undelivered};
pub use keeper::{KEEPER_GRACE, Keeper, keep};
pub use observer::{Cause, Notice, Observer, Silent, Summary};

/// Works as the agent that `config` describes, until `shutdown` is cancelled.
///
/// A server that is away is waited for; what runs goes on as long as its lease allows. When `shutdown` is cancelled
/// the commands are asked to end (and made to, after [`Config::grace`]), results that are there are delivered, and
/// the interrupted attempts are given back, so that they go elsewhere at once.
///
/// # Errors
/// [`Error::Config`] when the configuration makes no sense, [`Error::Superseded`] when another process speaks for
/// the agent now, [`Error::Server`] when the server refuses for good, [`Error::Undelivered`] when the server was away at
/// the end and results were left.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: CancellationToken,
    observer: Arc<dyn Observer>,
) -> Result<Summary, Error> {
    config.check()?;
    if let Some(workspaces) = &config.workspaces {
        let checked = workspaces.check().await;
        checked.map_err(|error| Error::Config(format!("workspaces: {error}")))?;
    }
    roll_call::RollCall::new(client, config, shutdown, observer)
        .run()
        .await
}
