//! `adjutant up`: a server, a fleet and a list of tasks in one process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::Duration;

use adjutant_client::{Client, TaskFilter};
use adjutant_core::access::Role;
use adjutant_core::task::Status;
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::clock::wall;
use adjutant_wire::Event;
use clap::Args;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::arguments::{Keeping, Logging};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::host::{Guest, Host, Settings};
use crate::submission::submit;
use crate::task_list::{Format, TaskList};
use crate::up::crew::{Crew, check_commands};
use crate::up::progress::{Bars, Progress};
use crate::up::summary::Summary;
use crate::up::tally::{Counts, Tally};
use crate::up::verdict::{Situation, Verdict};
use crate::{logging, signals, values};

/// Tasks that are asked for at a time: whole tasks may be large.
const PAGE: u32 = 100;
/// Between two looks that both find nothing left to run: what a commit sets free needs a moment to start.
const SETTLE: Duration = Duration::from_millis(300);
/// The longest sleep between two looks while something is expected to start by itself.
const LONGEST_NAP: Duration = Duration::from_mins(1);
/// The most tasks that are looked at to find one that can start.
const MOST_PENDING: usize = 10_000;

/// Start a server and a fleet of agents, and work off a list of tasks
///
/// The fleet file says which agents run with which commands and rations. Run again on the same store it goes on where
/// it was stopped, and does not submit the same list twice. With --drain it ends when nothing is left that can run:
/// with exit code 0 when every task is completed, and 1 otherwise.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant up fleet.toml --tasks tasks.md --drain
  adjutant up fleet.toml                             serve and work until Ctrl-C
  adjutant up fleet.toml --store sqlite:work.db --drain --retry-failed")]
pub(crate) struct Arguments {
    /// The fleet file
    #[arg(value_name = "FLEET.toml")]
    fleet: PathBuf,
    /// Tasks to submit: JSON lines, TOML, or a Markdown checklist; - reads stdin
    #[arg(long, value_name = "FILE")]
    tasks: Option<PathBuf>,
    /// In which form they are; guessed from the file's name when absent
    #[arg(long, value_enum, requires = "tasks")]
    format: Option<Format>,
    /// End when nothing is left that can run
    #[arg(long)]
    drain: bool,
    /// With --drain: wait so long for limits, times and pauses to pass
    #[arg(long, value_parser = values::span, default_value = "1h", value_name = "DURATION")]
    drain_wait: Span,
    /// Start dead letters afresh first
    #[arg(long)]
    retry_failed: bool,
    /// Where to listen [env: ADJUTANT_LISTEN] [default: 127.0.0.1:7717]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// An agent that is silent for longer is offline [env: ADJUTANT_AGENT_TTL] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    agent_ttl: Option<String>,
    #[command(flatten)]
    logging: Logging,
}

/// How the work ended.
enum End {
    /// Nothing is left that can run.
    Drained,
    /// A signal asked for it.
    Interrupted,
    /// Something broke.
    Broken(Failure),
}

/// Works.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let started = Instant::now();
    // Everything that was written is read before anything is started.
    let fleet = Fleet::read(&arguments.fleet)?;
    let list = arguments
        .tasks
        .as_ref()
        .map(|file| TaskList::read(file, arguments.format))
        .transpose()?;
    check_commands(&fleet)?;
    let tokens = Tokens::make(&fleet)?;
    let settings = settings(arguments, context, &fleet, &tokens)?;
    let progress = Progress::new();
    logging::start(
        &context.configuration,
        &arguments.logging,
        "warn",
        progress.clone(),
    )?;
    let mut stop = pin!(signals::stop()?);

    let mut host = Host::start(settings).await?;
    let url = format!("http://{}", crate::configuration::reachable(host.address));
    progress.line(&format!("listening on http://{}", host.address));
    host.invite("http").await;
    let client = Client::new(&url, Some(tokens.own.token.clone()))?;
    let mut work = Work {
        arguments,
        fleet: &fleet,
        list: list.as_ref(),
        tokens: &tokens,
        url,
        tally: Tally::new(fleet.agents().map(|agent| agent.id.as_str())),
        bars: progress.bars(
            fleet
                .agents()
                .map(|agent| (agent.id.as_str(), agent.max_load.unwrap_or(1))),
        ),
        progress,
        client,
    };
    let mut crew = None;
    let end = tokio::select! {
        end = work.go(&mut crew) => end,
        _ = stop.as_mut() => End::Interrupted,
        failure = host.failed() => End::Broken(failure),
    };
    let outcome = work.finish(end, crew, context, started).await;
    // The worse news comes first; a server that broke cannot be stopped in good order anyway.
    let stopped = host.stop().await;
    outcome.and(stopped)
}

/// The tokens of this process: one for itself, one for each agent.
struct Tokens {
    own: Guest,
    agents: HashMap<String, Guest>,
}

impl Tokens {
    fn make(fleet: &Fleet) -> Outcome<Self> {
        let agents = fleet
            .agents()
            .map(|agent| {
                let role = Role::Agent(agent.id.as_str().into());
                Guest::new(format!("up:{}", agent.id), role).map(|guest| (agent.id.clone(), guest))
            })
            .collect::<Outcome<_>>()?;
        Ok(Self {
            own: Guest::new("up", Role::Admin)?,
            agents,
        })
    }

    fn all(&self) -> Vec<Guest> {
        self.agents.values().chain([&self.own]).cloned().collect()
    }

    fn of_agents(&self) -> HashMap<String, String> {
        self.agents
            .iter()
            .map(|(id, guest)| (id.clone(), guest.token.clone()))
            .collect()
    }
}

fn settings(arguments: &Arguments, context: &Context, fleet: &Fleet, tokens: &Tokens) -> Outcome<Settings> {
    let configuration = &context.configuration;
    Ok(Settings {
        listen: configuration.listen(arguments.listen.as_ref(), fleet.listen.as_ref())?,
        store: configuration.store(fleet.store.as_ref())?,
        open: false,
        public_url: configuration.public_url(None),
        tls: None,
        agent_ttl: configuration.agent_ttl(arguments.agent_ttl.as_ref(), fleet.agent_ttl)?,
        claim_lease: configuration.claim_lease(None)?,
        allow_private_peers: configuration.allow_private_peers(false)?,
        peer_timeout: configuration.peer_timeout(None)?,
        retention: configuration.retention(&Keeping::default())?,
        default_allowance: fleet
            .default_allowance
            .clone()
            .or(configuration.default_allowance().cloned()),
        admin_token: configuration.admin_token()?,
        guests: tokens.all(),
        traces: configuration.otlp_endpoint(None)?,
    })
}

/// The work itself, against a server that runs.
struct Work<'a> {
    arguments: &'a Arguments,
    fleet: &'a Fleet,
    list: Option<&'a TaskList>,
    tokens: &'a Tokens,
    url: String,
    client: Client,
    tally: Tally,
    progress: Progress,
    bars: Bars,
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, adjutant_client::Error>> + Send>>;

impl Work<'_> {
    /// Prepares, starts the workers, submits, and follows the events until the end.
    async fn go(&mut self, crew: &mut Option<Crew>) -> End {
        match self.work(crew).await {
            Ok(()) => End::Drained,
            Err(failure) => End::Broken(failure),
        }
    }

    async fn work(&mut self, crew: &mut Option<Crew>) -> Outcome {
        self.set_rations().await?;
        self.forget_old_workers().await?;
        let since = self.client.status().await?.last_seq;
        let crew = crew.insert(Crew::start(
            self.fleet,
            &self.url,
            &self.tokens.of_agents(),
            &self.progress,
        )?);
        crew.registered().await?;
        if self.arguments.retry_failed {
            self.retry_failed().await?;
        }
        if let Some(list) = self.list {
            let report = submit(&self.client, list).await?;
            self.progress.line(&format!(
                "{}: {} tasks added, {} there already",
                list.file.display(),
                report.added.len(),
                report.skipped.len()
            ));
        }
        let filter = TaskFilter {
            status: Some(Status::InProgress),
            limit: Some(PAGE),
            ..TaskFilter::default()
        };
        let events: Events = Box::pin(self.client.follow_events(since));
        for task in self.client.all_tasks(&filter, usize::MAX).await? {
            if let (Some(agent), Some(since)) = (task.claimed_by, task.claimed_at) {
                self.tally.already_running(task.id, agent, since);
            }
        }
        self.follow(events, crew).await
    }

    /// Sets what the fleet file says of limits. They are views of each other, so the widest come first.
    async fn set_rations(&self) -> Outcome {
        let client = &self.client;
        let failed = |what: String| {
            move |error: adjutant_client::Error| Failure::new(format!("{what} could not be set: {error}"))
        };
        for (scope, limits) in self.fleet.limits_by_scope() {
            client
                .put_limits(scope, &limits)
                .await
                .map_err(failed(format!("limits of {scope}")))?;
        }
        for model in self.fleet.models.iter().map(crate::fleet::ModelEntry::wire) {
            client
                .put_model(&model.model, &model)
                .await
                .map_err(failed(format!("model {}", model.model)))?;
        }
        for repo in self.fleet.repos.iter().map(crate::fleet::RepoEntry::wire) {
            client
                .put_repo(&repo.repo, &repo)
                .await
                .map_err(failed(format!("repository {}", repo.repo)))?;
        }
        let own = self
            .fleet
            .agents()
            .filter_map(|agent| Some((&agent.id, agent.allowance.as_ref()?)));
        for (agent, entry) in self.fleet.allowances.iter().chain(own) {
            let allowance = entry.for_agent(agent);
            client
                .put_allowance(agent, &allowance)
                .await
                .map_err(failed(format!("the allowance of {agent}")))?;
        }
        Ok(())
    }

    /// Gives back what workers of an earlier run held when they were killed: nobody works on it any more, and it has
    /// not failed.
    async fn forget_old_workers(&self) -> Outcome {
        for agent in self.fleet.agents() {
            match self.client.deregister_agent(&agent.id).await {
                Ok(()) => {}
                Err(error) if error.code() == Some(404) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn retry_failed(&self) -> Outcome {
        let filter = TaskFilter {
            status: Some(Status::Failed),
            limit: Some(PAGE),
            ..TaskFilter::default()
        };
        for task in self.client.all_tasks(&filter, usize::MAX).await? {
            self.client.retry_task(&task.id).await?;
        }
        Ok(())
    }

    /// Follows the events. With `--drain` it ends when nothing is left that can run.
    async fn follow(&mut self, mut events: Events, crew: &mut Crew) -> Outcome {
        let mut look = Some(Instant::now());
        let mut found_over = false;
        let mut active = Instant::now();
        loop {
            tokio::select! {
                event = events.next() => {
                    let event = event.ok_or_else(|| Failure::new("the event stream ended"))??;
                    let before = self.tally.is_idle();
                    if let Some(step) = self.tally.take(&event) {
                        self.bars.show(&step, &self.tally);
                    }
                    if !(before && self.tally.is_idle()) {
                        active = Instant::now();
                    }
                    found_over = false;
                    look = (self.arguments.drain && self.tally.is_idle()).then(|| Instant::now() + SETTLE);
                }
                failure = crew.ended() => eprint_failure(&self.progress, &failure),
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    match self.look(active).await? {
                        Verdict::Over if found_over || !self.arguments.drain => {
                            if self.arguments.drain {
                                return Ok(());
                            }
                            look = None;
                        }
                        Verdict::Over => {
                            found_over = true;
                            look = Some(Instant::now() + SETTLE);
                        }
                        Verdict::Wait(until) => {
                            found_over = false;
                            look = self.arguments.drain.then(|| Instant::now() + nap(until));
                        }
                    }
                }
            }
        }
    }

    /// Asks the server how things stand.
    async fn look(&mut self, active: Instant) -> Outcome<Verdict> {
        let status = self.client.status().await?;
        self.tally.count(Counts::of(&status.tasks), status.last_seq);
        self.bars.total(&self.tally);
        let count = |name: &str| status.tasks.get(name).copied().unwrap_or(0);
        if count("in_progress") > 0 {
            // Its events are on their way; in case they are not, look again.
            return Ok(Verdict::Wait(wall() + Span::from_secs(5)));
        }
        let patience = Duration::from_micros(self.arguments.drain_wait.as_micros().unsigned_abs());
        if count("pending") == 0 {
            return Ok(Verdict::Over);
        }
        let filter = TaskFilter {
            status: Some(Status::Pending),
            limit: Some(PAGE),
            ..TaskFilter::default()
        };
        let pending = self.client.all_tasks(&filter, MOST_PENDING).await?;
        let situation = Situation {
            pending: &pending,
            agents: &status.agents,
            now: wall(),
            patience: self.arguments.drain_wait,
        };
        if active.elapsed() > patience + LONGEST_NAP && !situation.is_in_backoff() {
            return Ok(Verdict::Over);
        }
        Ok(situation.verdict())
    }

    /// Stops the workers and prints the summary.
    async fn finish(&mut self, end: End, crew: Option<Crew>, context: &Context, started: Instant) -> Outcome {
        self.bars.clear();
        // What waits is asked for while the agents are there: without them the reason would always be that none is.
        let drained = match end {
            End::Drained => Some(self.summary(started).await),
            End::Interrupted | End::Broken(_) => None,
        };
        if matches!(end, End::Interrupted) {
            self.progress.line("stopping: what runs is asked to end");
        }
        if let Some(crew) = crew {
            for failure in crew.stop().await {
                eprint_failure(&self.progress, &failure);
            }
        }
        let interrupted = matches!(end, End::Interrupted);
        if let End::Broken(failure) = end {
            return Err(failure);
        }
        let summary = match drained {
            Some(summary) => summary?,
            None => self.summary(started).await?,
        };
        context.printer.show(&summary, || summary.text())?;
        if summary.complete {
            Ok(())
        } else if interrupted {
            Err(Failure::new("interrupted").hint("run again to go on"))
        } else {
            Err(Failure::new("not every task is completed")
                .hint("the reasons are above; `adjutant up --retry-failed` starts dead letters afresh"))
        }
    }

    async fn summary(&self, started: Instant) -> Outcome<Summary> {
        Summary::gather(&self.client, &self.tally, started.elapsed()).await
    }
}

fn eprint_failure(progress: &Progress, failure: &Failure) {
    for line in failure.to_string().lines() {
        progress.line(line);
    }
}

/// How long to sleep until something is expected to start.
fn nap(until: Timestamp) -> Duration {
    let wait = until.since(wall()).as_micros().unsigned_abs();
    Duration::from_micros(wait).clamp(Duration::from_secs(1), LONGEST_NAP) + SETTLE
}
