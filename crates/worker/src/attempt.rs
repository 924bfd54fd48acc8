//! One attempt, from the offer to what is reported of it: a Tokio task of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adjutant_client::Client;
use adjutant_core::attempt::StopReason;
use adjutant_core::time::{Span, Timestamp};
use adjutant_wire::{Completion, Start, UsageReport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::adapter::{Adapter, Extras, Past};
use crate::environment::Environment;
use crate::feed::Feed;
use crate::keeper::Keeper;
use crate::observer::{Cause, Notice, Observer};
use crate::outcome::{Exit, judge};
use crate::prices::Prices;
use crate::process::{Pipes, Process};
use crate::reporter::{Meter, Voice};
use crate::roster::Key;
use crate::scribe::Scribe;
use crate::session::Session;
use crate::stop::{Orders, patience, stopped};
use crate::text::start_of_last;
use crate::workspace::{Occupant, Outcome, Workspace, Workspaces};

/// Once the command has ended, its pipes get this long to be emptied: longer only a process that it left behind
/// keeps them open.
const DRAIN: Duration = Duration::from_secs(1);
/// The last output may take so long to be sent once all else is done.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A completion is at most this long as JSON, so that it fits into a roll-call with others (4 MiB in all).
pub(crate) const MAX_COMPLETION_BYTES: usize = 3 * 1024 * 1024;
/// Read from a pipe at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What all attempts of a worker share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) agent: String,
    pub(crate) adapter: Adapter,
    /// The models that the agent can use, by the names that the server knows.
    pub(crate) models: Vec<String>,
    pub(crate) prices: Prices,
    pub(crate) environment: Environment,
    pub(crate) cwd: Option<PathBuf>,
    /// Where each attempt works; without them all of them in one directory.
    pub(crate) workspaces: Option<Workspaces>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) result_grace: Duration,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// An attempt that is over.
#[derive(Debug)]
pub(crate) struct Over {
    /// What is to be reported of it.
    pub(crate) ending: Ending,
    /// What it used and the server could not be told yet.
    pub(crate) owed: Vec<UsageReport>,
}

impl From<Ending> for Over {
    fn from(ending: Ending) -> Self {
        Self {
            ending,
            owed: Vec::new(),
        }
    }
}

/// What is to be reported of an attempt that is over.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Its result.
    Completed(Box<Completion>),
    /// Nothing: whoever stopped it knows.
    Stopped(Cause),
}

/// How a command ended.
enum End {
    Exited(Exit),
    Stopped(Cause),
    /// The system lost track of it.
    Unknown(std::io::Error),
}

/// Runs an attempt until its processes are gone and all but its result is reported; in a workspace of its own where
/// attempts have one.
pub(crate) async fn run(context: Arc<Context>, start: Start, mut orders: Orders) -> Over {
    let key = Key::of(&start);
    let Some(workspaces) = &context.workspaces else {
        return run_in(&context, &key, &start, orders, None).await;
    };
    let occupant = Occupant {
        task: &start.task.id,
        attempt: start.attempt,
        repo: start.task.repo.as_deref(),
    };
    let opened = tokio::select! {
        biased;
        cause = stopped(&mut orders) => return Ending::Stopped(cause).into(),
        opened = workspaces.open(occupant) => opened,
    };
    let workspace = match opened {
        Ok(workspace) => workspace,
        Err(error) => return failed(&context.agent, &key, error.to_string()).into(),
    };
    let mut over = run_in(&context, &key, &start, orders, Some(&workspace)).await;
    let outcome = match &over.ending {
        Ending::Completed(completion) if completion.success => Outcome::Success,
        Ending::Completed(_) | Ending::Stopped(_) => Outcome::Failure,
    };
    let report = workspace.close(outcome).await;
    if let Some(note) = report.note {
        tracing::warn!(
            task = key.id,
            attempt = key.attempt,
            "a workspace was kept: {note}"
        );
    }
    match &mut over.ending {
        Ending::Completed(completion) => completion.artifacts.extend(report.artifacts),
        Ending::Stopped(_) => {
            for place in report.artifacts {
                tracing::info!(task = key.id, attempt = key.attempt, "stopped: {place}");
            }
        }
    }
    over
}

async fn run_in(
    context: &Context,
    key: &Key,
    start: &Start,
    mut orders: Orders,
    workspace: Option<&Workspace>,
) -> Over {
    let adapter = &context.adapter;
    // Programs keep sessions by the directory that they began in, and no other attempt works in this one.
    let session = match workspace {
        None => Session::of(&start.task, &context.agent, adapter.kind()),
        Some(_) => None,
    };
    let budget = if adapter.takes_budget() {
        context
            .prices
            .budget(&context.client, &start.task, &context.models)
            .await
    } else {
        None
    };
    let extras = Extras {
        session: session.as_ref(),
        budget,
    };
    let prepared = adapter.invocation(&start.task, extras).and_then(|invocation| {
        let mut environment = context.environment.of(start);
        let mut cwd = context.cwd.as_deref();
        if let Some(workspace) = workspace {
            environment.retain(|(name, _)| !workspace.withholds(name));
            cwd = workspace.path().or(cwd);
        }
        let (process, pipes) = Process::start(&invocation, environment, cwd)?;
        Ok((process, pipes, invocation))
    });
    let (process, pipes, invocation) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return failed(&context.agent, key, why).into(),
    };
    let kept = context.keeper.as_ref().zip(process.group());
    if let Some((keeper, group)) = kept {
        keeper.watch(group).await;
    }
    let timeout = shorter(context.timeout, start.timeout.map(duration));
    let resumed = session.clone().filter(|_| invocation.resumes);
    let past = Past {
        resumed: resumed.clone(),
    };
    let names = start.task.model.iter().chain(&context.models).cloned().collect();
    let feed = Feed::new(adapter.listener(names, past));
    let voice = Voice {
        client: &context.client,
        agent: &context.agent,
        key,
        feed: &feed,
    };
    let (mut meter, mut scribe) = (Meter::new(voice), Scribe::new(voice, adapter.kind(), session));
    let work = async {
        let pumping = pump(context, key, &feed, pipes, &invocation.stdin);
        let lingering = feed.lingers(context.result_grace);
        let end = supervise(process, pumping, &mut orders, timeout, lingering, context.grace).await;
        if let Some((keeper, group)) = kept {
            keeper.forget(group).await;
        }
        feed.close();
        end
    };
    let ending = async {
        let (end, (), ()) = tokio::join!(work, meter.run(), scribe.run());
        conclude(context, voice, &mut meter, &mut scribe, resumed.as_ref(), end).await
    };
    with_last_words(Box::pin(ending), voice.live()).await
}

/// Waits for the end of an attempt, and a little longer for those who watch to get the last of its output: the result
/// has it as well, and what was spent is more urgent.
async fn with_last_words(
    mut ending: impl Future<Output = Over> + Unpin,
    live: impl Future<Output = ()>,
) -> Over {
    tokio::pin!(live);
    tokio::select! {
        over = &mut ending => {
            drop(tokio::time::timeout(LAST_WORDS, live).await);
            over
        }
        () = &mut live => ending.await,
    }
}

/// Waits for the command to end, by itself or because it has to, and for its pipes to be empty.
async fn supervise(
    mut process: Process,
    pumping: impl Future<Output = ()>,
    orders: &mut Orders,
    timeout: Option<Duration>,
    lingering: impl Future<Output = ()>,
    grace: Duration,
) -> End {
    let pumped = async {
        pumping.await;
        true
    };
    tokio::pin!(pumped, lingering);
    let mut is_pumped = false;
    let started = Instant::now();
    let end = loop {
        tokio::select! {
            biased;
            status = process.wait() => break match status {
                Ok(status) => End::Exited(Exit::Itself(status)),
                Err(error) => End::Unknown(error),
            },
            cause = stopped(orders) => break End::Stopped(cause),
            timeout = elapsed(started, timeout) => break End::Exited(Exit::TimedOut(timeout)),
            () = &mut lingering => break End::Exited(Exit::AfterResult),
            done = &mut pumped, if !is_pumped => is_pumped = done,
        }
    };
    if !matches!(end, End::Exited(Exit::Itself(_))) {
        // What it prints at its end is read too, or it could not print and end.
        let terminating = process.terminate(patience(orders, Instant::now() + grace));
        tokio::pin!(terminating);
        loop {
            tokio::select! {
                () = &mut terminating => break,
                done = &mut pumped, if !is_pumped => is_pumped = done,
            }
        }
    }
    if !is_pumped && tokio::time::timeout(DRAIN, &mut pumped).await.is_err() {
        tracing::debug!("a command left processes behind that keep its output open");
    }
    // Nothing that the command left behind outlives its attempt. The process is given up here and not later: the
    // number of its group may soon be another's.
    process.kill();
    end
}

async fn elapsed(started: Instant, timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(timeout) => {
            tokio::time::sleep_until(started + timeout).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

/// Moves everything between the command's pipes and the feed.
async fn pump(context: &Context, key: &Key, feed: &Feed, pipes: Pipes, stdin: &[u8]) {
    let write = async {
        if let Some(mut pipe) = pipes.stdin {
            // A command need not read its stdin: that it closes the pipe is no error.
            if let Err(error) = pipe.write_all(stdin).await {
                tracing::debug!(task = %key.id, %error, "the command did not read the whole task");
            }
        }
    };
    let stdout = read(pipes.stdout, |bytes| {
        if feed.stdout(bytes) {
            let (tokens, cost) = feed.usage(|usage| usage.sum());
            context.observer.notice(Notice::Usage {
                id: key.id.clone(),
                attempt: key.attempt,
                tokens,
                cost,
            });
        }
    });
    let stderr = read(pipes.stderr, |bytes| feed.stderr(bytes));
    tokio::join!(write, stdout, stderr);
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, mut sink: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match pipe.read(&mut chunk).await {
            Ok(0) => return,
            Ok(length) => sink(&chunk[..length]),
            Err(error) => {
                tracing::warn!(%error, "cannot read what a command prints");
                return;
            }
        }
    }
}

async fn conclude(
    context: &Context,
    voice: Voice<'_>,
    meter: &mut Meter<'_>,
    scribe: &mut Scribe<'_>,
    resumed: Option<&Session>,
    end: End,
) -> Over {
    let Voice { key, feed, .. } = voice;
    let (problem, limited_until, is_over) = match end {
        End::Exited(exit) => {
            let outcome = judge(&context.adapter, exit, &feed.take_heard(), now());
            (outcome.problem, outcome.limited_until, true)
        }
        End::Unknown(error) => (
            Some(format!("cannot tell how the command ended: {error}")),
            None,
            true,
        ),
        End::Stopped(Cause::Server(StopReason::Limit)) => (Some("stopped: limit".to_owned()), None, false),
        End::Stopped(cause) => {
            if matches!(cause, Cause::Server(_) | Cause::Shutdown) {
                scribe.conclude(false, resumed).await;
            }
            let owed = meter.settle(None).await;
            let ending = Ending::Stopped(cause);
            return Over { ending, owed };
        }
    };
    if problem.is_some() {
        scribe.conclude(is_over && limited_until.is_none(), resumed).await;
    }
    // A limit of an account holds for all its models, so a completion that tells of one names none.
    let last = feed
        .usage(|usage| usage.last().cloned())
        .filter(|_| limited_until.is_none());
    let owed = meter.settle(last.as_ref()).await;
    let mut completion = completion(&context.agent, key, problem);
    completion.output = feed.take_output();
    completion.rate_limited_until = limited_until;
    if let Some(totals) = last {
        completion.model = totals.model;
        completion.tokens_in = Some(totals.tokens.tokens_in);
        completion.tokens_out = Some(totals.tokens.tokens_out);
        completion.tokens_cached = Some(totals.tokens.tokens_cached);
        completion.cost = totals.cost;
    }
    fit(&mut completion);
    let ending = Ending::Completed(Box::new(completion));
    Over { ending, owed }
}

/// An attempt that failed before its command ran.
pub(crate) fn failed(agent: &str, key: &Key, why: String) -> Ending {
    Ending::Completed(Box::new(completion(agent, key, Some(why))))
}

fn completion(agent: &str, key: &Key, problem: Option<String>) -> Completion {
    Completion {
        id: Some(key.id.clone()),
        attempt: Some(key.attempt),
        agent_id: Some(agent.to_owned()),
        success: problem.is_none(),
        // An argument that holds NUL is told of in an error message.
        error_message: problem.unwrap_or_default().replace('\0', "\u{FFFD}"),
        ..Completion::default()
    }
}

/// Shortens the output until the completion fits: escaping can make it six times as long.
fn fit(completion: &mut Completion) {
    while serde_json::to_string(&completion).map_or(0, |json| json.len()) > MAX_COMPLETION_BYTES {
        let start = start_of_last(&completion.output, completion.output.len() / 2);
        completion.output.drain(..start);
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(0))
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Timestamp::from_micros(micros)
}
