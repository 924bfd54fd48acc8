//! The crew: a worker for each agent of the fleet, in this process, over HTTP as everywhere else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adjutant_client::Client;
use adjutant_worker::workspace::Workspaces;
use adjutant_worker::{Config, Notice};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use crate::fleet::{AgentEntry, Fleet};
use crate::safeguards;

/// Running workers.
pub(crate) struct Crew {
    workers: JoinSet<(String, Result<adjutant_worker::Summary, adjutant_worker::Error>)>,
    stop: CancellationToken,
    registrations: Vec<watch::Receiver<bool>>,
}

impl Crew {
    /// Starts a worker for each agent, with the token made for it.
    pub(crate) fn start(
        fleet: &Fleet,
        url: &str,
        tokens: &HashMap<String, String>,
        progress: &Progress,
    ) -> Outcome<Self> {
        let mut crew = Self {
            workers: JoinSet::new(),
            stop: CancellationToken::new(),
            registrations: Vec::new(),
        };
        safeguards::keep_secrets();
        let keeper = safeguards::keeper();
        for agent in fleet.agents() {
            let client = Client::new(url, tokens.get(&agent.id).cloned())?;
            let (registered, registration) = watch::channel(false);
            crew.registrations.push(registration);
            let observer = observer(agent.id.clone(), progress.clone(), registered);
            let mut config = config(fleet, agent)?;
            config.keeper.clone_from(&keeper);
            let worker = adjutant_worker::run(client, config, crew.stop.clone(), Arc::new(observer));
            let id = agent.id.clone();
            crew.workers.spawn(async move { (id, worker.await) });
        }
        Ok(crew)
    }

    /// Waits until all are registered.
    pub(crate) async fn registered(&mut self) -> Outcome {
        for mut registration in std::mem::take(&mut self.registrations) {
            tokio::select! {
                biased;
                // When its sender is gone the worker is gone as well, and is the next to be joined.
                Ok(_) = registration.wait_for(|registered| *registered) => {}
                failure = self.ended() => return Err(failure),
            }
        }
        Ok(())
    }

    /// Waits until a worker ends by itself, which none should, and says why it did.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.workers.join_next().await {
            Some(Ok((agent, Err(error)))) => Failure::new(format!("agent {agent}: {error}")),
            Some(Ok((agent, Ok(_)))) => Failure::new(format!("agent {agent}: its worker has ended")),
            Some(Err(error)) => Failure::new(format!("a worker broke: {error}")),
            None => std::future::pending().await,
        }
    }

    /// Asks all workers to end, and waits until their commands are gone.
    pub(crate) async fn stop(mut self) -> Vec<Failure> {
        self.stop.cancel();
        let mut failures = Vec::new();
        while let Some(ended) = self.workers.join_next().await {
            match ended {
                Ok((_, Ok(_))) => {}
                Ok((agent, Err(error))) => failures.push(Failure::new(format!("agent {agent}: {error}"))),
                Err(error) => failures.push(Failure::new(format!("a worker broke: {error}"))),
            }
        }
        failures
    }
}

fn observer(
    agent: String,
    progress: Progress,
    registered: watch::Sender<bool>,
) -> impl Fn(Notice) + Send + Sync {
    move |notice| match notice {
        Notice::Registered => {
            registered.send_replace(true);
        }
        Notice::Started { id, title, .. } => progress.remember(id, title),
        Notice::Refused { id, error, .. } => {
            progress.line(&format!("{agent}: the result of {id} was not taken: {error}"));
        }
        Notice::Stopped { id, cause, .. } => progress.line(&format!("{agent}: stopped {id}: {cause}")),
        Notice::Denied { error } => tracing::warn!(agent, error, "the server refuses the worker"),
        Notice::Unreachable { error } => tracing::warn!(agent, error, "the server is away"),
        _ => {}
    }
}

fn config(fleet: &Fleet, agent: &AgentEntry) -> Outcome<Config> {
    let mut config = Config::new(&agent.id, agent.command.clone());
    config.name.clone_from(&agent.name);
    config.capabilities.clone_from(&agent.capabilities);
    config.models.clone_from(&agent.models);
    config.max_load = agent.max_load.unwrap_or(1);
    // The file was checked: there is an adapter of that name.
    config.adapter = agent.adapter().ok().flatten();
    config.output_prices = fleet.output_prices();
    config.env = agent.env.clone().into_iter().collect();
    config.cwd = fleet.directory_of(agent);
    // As the adapter.
    let kind = agent.workspace().unwrap_or_default();
    config.workspaces = Workspaces::placed(kind, config.cwd.as_deref(), None)
        .map_err(|error| Failure::usage(format!("agent {}: workspace: {error}", agent.id)))?;
    Ok(config)
}

/// Says which agent's command cannot be run, before anything is started.
pub(crate) fn check_commands(fleet: &Fleet) -> Outcome {
    for agent in fleet.agents() {
        let directory = fleet.directory_of(agent);
        check_command(&agent.command, directory.as_deref()).map_err(|why| {
            Failure::usage(format!("agent {}: {why}", agent.id))
                .hint("install the program, mend the command in the fleet file, or remove the agent from it")
        })?;
    }
    Ok(())
}

/// Says why a command cannot be run, as far as that can be known before.
pub(crate) fn check_command(command: &[String], directory: Option<&Path>) -> Result<(), String> {
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        return Err(format!("there is no directory {}", directory.display()));
    }
    let Some(program) = command.first().filter(|program| !program.contains('{')) else {
        return Ok(());
    };
    if program.contains('/') {
        let path = directory.unwrap_or(Path::new("")).join(program);
        return is_program(&path)
            .then_some(())
            .ok_or_else(|| format!("{} is not a program that can be run", path.display()));
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places)
        .map(|place: PathBuf| place.join(program))
        .any(|path| is_program(&path))
        .then_some(())
        .ok_or_else(|| format!("there is no program `{program}` in any directory of PATH"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_run_is_told_before_anything_starts() {
        let command = |program: &str| vec![program.to_owned()];
        assert!(check_command(&command("sh"), None).is_ok());
        assert!(check_command(&command("/bin/sh"), None).is_ok());
        assert!(check_command(&command("no-such-program-here"), None).is_err());
        assert!(check_command(&command("./no-such-script"), Some(Path::new("/"))).is_err());
        assert!(check_command(&command("/etc/passwd"), None).is_err());
        assert!(check_command(&command("sh"), Some(Path::new("/no/such/place"))).is_err());
    }
}
