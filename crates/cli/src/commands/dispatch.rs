//! `adjutant dispatch`: tasks of a foreign task API, done by the agents of this server.

use std::time::Duration;

use adjutant_client::Client;
use adjutant_core::time::Span;
use clap::Args;

use crate::arguments::Logging;
use crate::context::Context;
use crate::dispatch::{Dispatch, Notice};
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::text::one_line;
use crate::{logging, safeguards, signals, values};

/// Have the agents of this server work for another task API
///
/// Asks any core-agentic compatible API for tasks that wait there, claims them for agents that have room here and whose
/// allowance permits it, hands them out here, and tells progress and ends there. It keeps nothing and may be killed and
/// started again at any time; whatever fails, it goes on.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant dispatch --api https://tasks.example.org
  ADJUTANT_API_TOKEN=… adjutant dispatch --api https://tasks.example.org --interval 2s --url http://127.0.0.1:7717")]
pub(crate) struct Arguments {
    /// The address of the API whose tasks are taken
    #[arg(long, value_name = "URL")]
    api: String,
    /// The access token for it
    #[arg(
        long,
        value_name = "TOKEN",
        env = "ADJUTANT_API_TOKEN",
        hide_env_values = true
    )]
    api_token: Option<String>,
    /// How often it is asked
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    logging: Logging,
}

/// From a second to a day.
fn interval(text: &str) -> Result<Duration, String> {
    let span = values::span(text)?;
    if span < Span::from_secs(1) || span > Span::DAY {
        return Err("write a duration from 1s to 24h".into());
    }
    Ok(Duration::from_micros(span.as_micros().unsigned_abs()))
}

/// Works until it is told to stop.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let mut there = Client::builder(&arguments.api);
    if let Some(token) = &arguments.api_token {
        there = there.token(token);
    }
    if let Some(pem) = context.configuration.ca()? {
        there = there.authorities(pem);
    }
    let there = there
        .build()
        .map_err(|error| Failure::usage(format!("--api: {error}")))?;
    let here = context.client()?;
    if there.base_url() == here.base_url() {
        return Err(
            Failure::usage("--api: this is the server whose agents are to work")
                .hint("give the address of the other API; the own server is named by --url"),
        );
    }
    logging::start(
        &context.configuration,
        &arguments.logging,
        "warn",
        std::io::stderr,
    )?;
    safeguards::keep_secrets();
    let stop = signals::stop()?;
    let printer = context.printer;
    let mut dispatch = Dispatch::new(there, here, move |notice| {
        let (event, line) = told(&notice);
        let written = if printer.is_json() {
            json_line(&event)
        } else {
            say(line)
        };
        if written.is_err() {
            tracing::debug!("nobody reads the output");
        }
    });
    tokio::select! {
        () = dispatch.run(arguments.interval) => {}
        signal = stop => tracing::info!(signal, "stopping"),
    }
    Ok(())
}

/// What is printed of a notice: a document for programs, a line for people.
fn told(notice: &Notice) -> (serde_json::Value, String) {
    let (event, task, words) = match notice {
        Notice::Claimed { task, agent } => ("claimed", task.as_str(), agent.as_str()),
        Notice::Lost { task, why } => ("not_claimed", task.as_str(), why.as_str()),
        Notice::Ended { task, success: true } => ("completed", task.as_str(), ""),
        Notice::Ended { task, success: false } => ("failed", task.as_str(), ""),
        Notice::Refused { task, why } => ("refused", task.as_str(), why.as_str()),
        Notice::GivenBack { task } => ("given_back", task.as_str(), ""),
        Notice::TakenAway { task } => ("taken_away", task.as_str(), ""),
        Notice::Trouble { why } => ("trouble", "", why.as_str()),
        Notice::Recovered => ("recovered", "", ""),
    };
    let document = serde_json::json!({
        "event": event,
        "task_id": (!task.is_empty()).then_some(task),
        "message": words,
    });
    let words = [event, task, words];
    let line: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    (document, one_line(&line.join(" ")))
}
