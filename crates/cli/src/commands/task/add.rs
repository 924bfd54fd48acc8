//! `adjutant task add`: one task.

use std::io::Read as _;

use adjutant_client::random_key;
use adjutant_core::task::{Priority, Produces};
use adjutant_core::time::{Span, Timestamp};
use adjutant_wire::NewTask;
use clap::Args;
use serde_json::value::RawValue;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::text::one_line;
use crate::values;

/// Add a task
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant task add \"Fix the flaky test\" --label rust --priority high
  adjutant task add \"Deploy\" --after build --after test --lock production --timeout 10m
  git diff | adjutant task add \"Review this\" --description - --label review")]
pub(crate) struct Arguments {
    /// What it is, in a line
    title: String,
    /// What has to be done; - reads it from stdin
    #[arg(long, short, value_name = "TEXT")]
    description: Option<String>,
    /// Its id; made by the server when absent
    #[arg(long)]
    id: Option<String>,
    /// critical, high, medium or low
    #[arg(long, short, value_parser = values::priority, default_value = "medium")]
    priority: Priority,
    /// A capability that its agent must have
    #[arg(long = "label", short, value_name = "LABEL")]
    labels: Vec<String>,
    /// A capability that makes an agent more welcome
    #[arg(long = "prefer", value_name = "LABEL")]
    prefers: Vec<String>,
    /// The model that must be used
    #[arg(long)]
    model: Option<String>,
    /// The project whose limits it counts for
    #[arg(long)]
    project: Option<String>,
    /// The repository whose limits it counts for
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// What its success makes: pull_request or issue
    #[arg(long, value_parser = values::produces)]
    produces: Option<Produces>,
    /// A relevant file
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<String>,
    /// A name that no other task in progress may share
    #[arg(long = "lock", value_name = "NAME")]
    locks: Vec<String>,
    /// A task that must be completed first
    #[arg(long = "after", value_name = "ID")]
    dependencies: Vec<String>,
    /// Any JSON, handed to the agent
    #[arg(long, value_parser = values::json, value_name = "JSON")]
    payload: Option<Box<RawValue>>,
    /// Tokens that it will need, held at its start
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens: u64,
    /// The longest that one attempt may run, such as 30m
    #[arg(long, value_parser = values::span)]
    timeout: Option<Span>,
    /// Not started earlier, such as 2026-12-01T06:00:00Z
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Failed attempts before it is given up [default: 3]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    retries: u32,
}

/// Adds it.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let description = match arguments.description {
        Some(text) if text == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(|error| {
                    Failure::usage(format!("cannot read the description from stdin: {error}"))
                })?;
            text
        }
        Some(text) => text,
        None => String::new(),
    };
    let task = NewTask {
        id: arguments.id,
        title: arguments.title,
        description,
        priority: arguments.priority,
        labels: arguments.labels,
        prefers: arguments.prefers,
        model: arguments.model,
        project: arguments.project,
        repo: arguments.repo,
        produces: arguments.produces,
        files: arguments.files,
        locks: arguments.locks,
        payload: arguments.payload,
        dependencies: arguments.dependencies,
        estimated_tokens: arguments.tokens,
        timeout: arguments.timeout,
        not_before: arguments.not_before,
        max_retries: arguments.retries,
    };
    let task = context.client()?.create_task(&task, Some(&random_key())).await?;
    context
        .printer
        .show(&task, || format!("{}\n", one_line(&task.id)))
}
