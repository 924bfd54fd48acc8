//! `adjutant worker`: an agent that runs a command for each of its tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::time::Span;
use adjutant_worker::workspace::{Kind, Workspaces};
use adjutant_worker::{AdapterKind, Config, Notice};
use clap::Args;
use clap::builder::PossibleValuesParser;
use tokio_util::sync::CancellationToken;

use crate::arguments::Logging;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::up::crew::check_command;
use crate::{logging, safeguards, signals, values};

/// Run a command for each task that the server gives to this agent
///
/// The task comes as JSON on stdin; exit code 0 is success and stdout the result. In arguments {title}, {description},
/// {id} and {payload.x} are replaced, without a shell. ADJUTANT_TASK_ID, ADJUTANT_ATTEMPT, ADJUTANT_URL and
/// ADJUTANT_TOKEN (good for this attempt alone) are in the environment.
///
/// The command lines of agents (claude, codex, gemini, opencode, cursor-agent, amp, goose, agy, aider) are known by their
/// name: flags that make them work without a person and the prompt are added, and answer, usage, cost, session and rate
/// limits are read from what they print.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant worker --id laptop --capabilities rust,docs -- ./agent.sh
  adjutant worker --id grep --capabilities search --max-load 4 -- grep -rn -- {payload.pattern} src
  adjutant worker --id claude --capabilities code -- claude --model sonnet --permission-mode acceptEdits
  adjutant worker --id codex --capabilities code --adapter codex -- ./my-codex.sh --full-auto
  adjutant worker --id coder --capabilities code --max-load 4 --workspace worktree -- claude")]
pub(crate) struct Arguments {
    /// The agent's id
    #[arg(long)]
    id: String,
    /// Its name for people [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// What it can do, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    capabilities: Vec<String>,
    /// The models that it can use, separated by commas [default: any]
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// The most tasks at a time; 0 is unlimited
    #[arg(long, default_value_t = 1, value_name = "N")]
    max_load: u32,
    /// How the command is called and what it prints is understood [default: by the name of the program]
    #[arg(long, value_name = "NAME", value_parser = adapter_names())]
    adapter: Option<String>,
    /// The longest that one attempt may run, such as 30m
    #[arg(long, value_parser = values::span)]
    timeout: Option<Span>,
    /// Where the command runs
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    workspace: WorkspaceFlags,
    /// Let commands go on when the server is away for longer than their lease
    #[arg(long)]
    outlive_server: bool,
    #[command(flatten)]
    logging: Logging,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Where each attempt works.
#[derive(Args, Debug)]
struct WorkspaceFlags {
    /// What each attempt gets to work in: none (the worker's directory), dir (an empty one), or worktree (of a git
    /// repository, with a branch of its own)
    #[arg(long, value_name = "KIND", default_value = "none")]
    workspace: Kind,
    /// The clone that worktrees are of [default: where the command would run]
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// Where workspaces are put [default: beside the repository, with `.workspaces` after its name]
    #[arg(long, value_name = "DIR")]
    workspace_root: Option<PathBuf>,
}

fn adapter_names() -> PossibleValuesParser {
    AdapterKind::ALL.map(AdapterKind::name).into()
}

impl Arguments {
    fn config(&self) -> Outcome<Config> {
        let mut config = Config::new(&self.id, self.command.clone());
        config.adapter = self.adapter.as_deref().and_then(|name| name.parse().ok());
        let named = |list: &[String]| list.iter().filter(|one| !one.is_empty()).cloned().collect();
        config.name.clone_from(&self.name);
        config.capabilities = named(&self.capabilities);
        config.models = named(&self.models);
        config.max_load = self.max_load;
        config.timeout = self
            .timeout
            .map(|timeout| Duration::from_micros(timeout.as_micros().unsigned_abs()));
        config.cwd.clone_from(&self.directory);
        config.workspaces = self.workspace.workspaces(self.directory.as_deref())?;
        config.outlive_server = self.outlive_server;
        Ok(config)
    }
}

impl WorkspaceFlags {
    fn workspaces(&self, directory: Option<&Path>) -> Outcome<Option<Workspaces>> {
        if self.workspace == Kind::None {
            for (flag, value) in [
                ("--repository", &self.repository),
                ("--workspace-root", &self.workspace_root),
            ] {
                if value.is_some() {
                    return Err(Failure::usage(format!("{flag}: there are no workspaces"))
                        .hint("add --workspace worktree, or --workspace dir"));
                }
            }
        }
        let places = (
            self.repository.as_deref().or(directory),
            self.workspace_root.as_deref(),
        );
        Workspaces::placed(self.workspace, places.0, places.1)
            .map_err(|error| Failure::usage(format!("--workspace: {error}")))
    }
}

/// Works until it is told to stop.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let mut config = arguments.config()?;
    if let Some(file) = context.configuration.ca_file() {
        // The command talks to the same server, from another directory perhaps.
        let file = std::path::absolute(&file).unwrap_or(file);
        config
            .env
            .push(("ADJUTANT_CA".into(), file.to_string_lossy().into_owned()));
    }
    config
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    check_command(&arguments.command, arguments.directory.as_deref())
        .map_err(|why| Failure::usage(why).hint("the command stands after `--`"))?;
    logging::start(
        &context.configuration,
        &arguments.logging,
        "warn",
        std::io::stderr,
    )?;
    safeguards::keep_secrets();
    config.keeper = safeguards::keeper();
    let stop = signals::stop()?;
    let shutdown = CancellationToken::new();
    let printer = context.printer;
    let id = arguments.id.clone();
    let observer = move |notice: Notice| {
        if let Some((event, line)) = told(&id, &notice) {
            // A reader that went away is no reason to stop working.
            let written = if printer.is_json() {
                json_line(&event)
            } else {
                say(line)
            };
            if written.is_err() {
                tracing::debug!("nobody reads the output");
            }
        }
    };
    let work = adjutant_worker::run(context.client()?, config, shutdown.clone(), Arc::new(observer));
    let mut work = std::pin::pin!(work);
    let ended = tokio::select! {
        ended = work.as_mut() => ended,
        signal = stop => {
            tracing::info!(signal, "stopping");
            shutdown.cancel();
            work.await
        }
    };
    match ended {
        Ok(_) => Ok(()),
        Err(error @ adjutant_worker::Error::Config(_)) => Err(Failure::usage(error.to_string())),
        Err(error) => {
            let hint = match &error {
                adjutant_worker::Error::Server { source, .. } => source.hint(),
                _ => None,
            };
            let failure = Failure::new(error.to_string());
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// What is printed of a notice: a document for programs, a line for people.
fn told(agent: &str, notice: &Notice) -> Option<(serde_json::Value, String)> {
    use serde_json::json;
    let (event, id, attempt, words) = match notice {
        Notice::Registered => {
            return Some((
                json!({ "event": "registered", "agent_id": agent }),
                format!("{agent} is registered"),
            ));
        }
        Notice::Unreachable { error } => {
            return Some((
                json!({ "event": "unreachable", "agent_id": agent, "message": error }),
                format!("the server is away: {error}"),
            ));
        }
        Notice::Denied { error } => {
            return Some((
                json!({ "event": "denied", "agent_id": agent, "message": error }),
                format!("the server refuses this worker: {error}; what runs goes on for now"),
            ));
        }
        Notice::Reachable => {
            return Some((
                json!({ "event": "reachable", "agent_id": agent }),
                "the server is back".to_owned(),
            ));
        }
        Notice::Draining(draining) => {
            return Some((
                json!({ "event": "draining", "agent_id": agent, "draining": draining }),
                if *draining {
                    "takes nothing new".to_owned()
                } else {
                    "takes tasks again".to_owned()
                },
            ));
        }
        Notice::Started { id, attempt, title } => ("started", id, attempt, title.clone()),
        Notice::Finished {
            id,
            attempt,
            success: true,
            ..
        } => ("completed", id, attempt, String::new()),
        Notice::Finished {
            id, attempt, message, ..
        } => ("failed", id, attempt, message.clone()),
        Notice::Stopped { id, attempt, cause } => ("stopped", id, attempt, cause.to_string()),
        Notice::Refused { id, attempt, error } => ("refused", id, attempt, error.clone()),
        _ => return None,
    };
    let line = crate::text::one_line(&format!("{event} {id} (attempt {attempt}) {words}"));
    let document =
        json!({ "event": event, "agent_id": agent, "task_id": id, "attempt": attempt, "message": words });
    Some((document, line))
}
