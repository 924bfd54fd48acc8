//! The roll-call: the worker's loop. It says what runs and what is done, and does what the answer says.
//!
//! One roll-call at a time. A long poll is abandoned as soon as an attempt ends, so that its completion and the free
//! place go out at once; nothing is lost by that, since what the abandoned answer offered is offered again. A
//! roll-call that carries completions does not wait, and is never abandoned.
//!
//! # Invariants
//! - `n` rises with every roll-call of the session, so that the server can tell a late one from the current one.
//! - Attempts are watched, and leases run out, also while the server is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use adjutant_client::{Backoff, Client, random_key};
use adjutant_core::attempt::StopReason;
use adjutant_wire::{NewAgent, Start, SyncAnswer, SyncRequest};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, Context, Ending, Over};
use crate::dues::Dues;
use crate::environment::Environment;
use crate::lease::Lease;
use crate::observer::{Cause, Notice, Observer, Summary};
use crate::prices::Prices;
use crate::reporter::{SEND_TIMEOUT, Sent, send_usage};
use crate::roster::{Key, Roster, Settled};
use crate::{Config, Error};

mod leave;
mod trouble;

/// The first repetition of a roll-call that failed waits about this long.
const RETRY_BASE: Duration = Duration::from_millis(200);
/// Repetitions are at most so far apart: a server that is back is noticed within this.
const RETRY_CAP: Duration = Duration::from_secs(5);
/// A long poll that was answered at once with nothing new is not repeated sooner: a bug on either side must not
/// become a storm.
const CALM: Duration = Duration::from_millis(100);

/// A worker at work.
pub(crate) struct RollCall {
    client: Client,
    config: Config,
    context: Arc<Context>,
    shutdown: CancellationToken,
    observer: Arc<dyn Observer>,
    session: String,
    n: u64,
    roster: Roster,
    attempts: JoinSet<Over>,
    keys: HashMap<Id, Key>,
    dues: Dues,
    lease: Lease,
    backoff: Backoff,
    /// Whether the server was ever told of this worker.
    registered: bool,
    reachable: bool,
    /// Why the server does not let this worker in, since it was last answered.
    denied: Option<String>,
    draining: bool,
    summary: Summary,
}

/// What ends the waiting for something else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Only the end of the worker.
    Shutdown,
    /// Also the end of an attempt.
    News,
}

impl RollCall {
    pub(crate) fn new(
        client: Client,
        config: Config,
        shutdown: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let adapter = config.adapter();
        for name in adapter.unknown_placeholders() {
            tracing::warn!(agent = %config.id, "every attempt will fail: unknown placeholder {{{name}}}");
        }
        let context = Context {
            client: client.clone(),
            agent: config.id.clone(),
            adapter,
            models: config.models.clone(),
            prices: Prices::new(config.output_prices.clone()),
            environment: Environment {
                url: client.base_url().to_owned(),
                secret: client.token().map(str::to_owned),
                added: config.env.clone(),
            },
            cwd: config.cwd.clone(),
            workspaces: config.workspaces.clone(),
            timeout: config.timeout,
            grace: config.grace,
            result_grace: config.result_grace,
            keeper: config.keeper.clone(),
            observer: Arc::clone(&observer),
        };
        Self {
            client,
            config,
            context: Arc::new(context),
            shutdown,
            observer,
            session: random_key(),
            n: 0,
            roster: Roster::default(),
            attempts: JoinSet::new(),
            keys: HashMap::new(),
            dues: Dues::default(),
            lease: Lease::new(),
            backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
            registered: false,
            reachable: true,
            denied: None,
            draining: false,
            summary: Summary::default(),
        }
    }

    /// Works until the end.
    pub(crate) async fn run(mut self) -> Result<Summary, Error> {
        let end = match self.work().await {
            Ok(()) => self.leave().await,
            Err(error) => Err(error),
        };
        match end {
            Ok(()) => Ok(self.summary),
            Err(mut error) => {
                self.abandon(&error).await;
                error.name_undelivered(self.roster.undelivered_keys().map(Key::to_string));
                Err(error)
            }
        }
    }

    async fn work(&mut self) -> Result<(), Error> {
        self.register().await?;
        while !self.shutdown.is_cancelled() && !self.is_drained() {
            if self.dues.are_due(self.reachable) {
                self.pay().await;
            }
            let (request, batch) = self.compose();
            let until = if request.wait.is_some() {
                Until::News
            } else {
                Until::Shutdown
            };
            let sent_at = Instant::now();
            let call = self.call(request);
            match self.attend(until, call).await {
                None => {}
                Some(Ok(answer)) => {
                    let news = self.apply(answer, &batch, sent_at);
                    if !news && batch.is_empty() && sent_at.elapsed() < CALM {
                        self.attend(Until::News, tokio::time::sleep(CALM)).await;
                    }
                    if !news && !batch.is_empty() {
                        // The server is there but cannot take the completions now.
                        let wait = self.backoff.next_wait();
                        self.attend(Until::Shutdown, tokio::time::sleep(wait)).await;
                    }
                }
                Some(Err(error)) => self.failed(error, &batch).await?,
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.config.exit_when_drained && self.draining && self.roster.is_empty() && self.dues.len() == 0
    }

    /// Registers, as often as it takes.
    async fn register(&mut self) -> Result<(), Error> {
        let metadata = match &self.config.metadata {
            None => None,
            Some(metadata) => Some(
                serde_json::value::to_raw_value(metadata)
                    .map_err(|error| Error::Config(format!("the metadata cannot be sent: {error}")))?,
            ),
        };
        let agent = NewAgent {
            id: self.config.id.clone(),
            name: self.config.name.clone(),
            capabilities: self.config.capabilities.clone(),
            models: self.config.models.clone(),
            max_load: Some(self.config.max_load),
            metadata,
            session: Some(self.session.clone()),
            ..NewAgent::default()
        };
        loop {
            let (client, agent) = (self.client.clone(), agent.clone());
            let call = async move { client.register_agent(&agent).await };
            match self.attend(Until::Shutdown, call).await {
                None => return Ok(()),
                Some(Ok(_)) => {
                    self.registered = true;
                    self.notice(Notice::Registered);
                    return Ok(());
                }
                Some(Err(error)) if error.slug() == Some("superseded") => return Err(self.superseded()),
                Some(Err(error)) if error.is_retryable() || error.code().is_some_and(|code| code >= 500) => {
                    self.pause(&error).await;
                }
                Some(Err(error)) => self.denial("cannot register the agent", error).await?,
            }
        }
    }

    /// The next roll-call, and which completions are in it.
    fn compose(&mut self) -> (SyncRequest, Vec<Key>) {
        let (mut request, batch) = self.roster.compose();
        self.n += 1;
        request.n = Some(self.n);
        request.session = Some(self.session.clone());
        if self.config.max_load > 0 {
            let taken = u32::try_from(request.running.len()).unwrap_or(u32::MAX);
            request.max = Some(self.config.max_load.saturating_sub(taken));
        }
        if batch.is_empty() {
            request.wait = self.lease.wait().map(|wait| wait.as_secs_f64());
        }
        (request, batch)
    }

    /// Sends a roll-call; a server that takes too long for it counts as away.
    fn call(
        &self,
        request: SyncRequest,
    ) -> impl Future<Output = Result<SyncAnswer, adjutant_client::Error>> + use<> {
        let (client, agent) = (self.client.clone(), self.config.id.clone());
        let wait = Duration::try_from_secs_f64(request.wait.unwrap_or(0.0)).unwrap_or_default();
        let limit = wait + self.lease.answer_time();
        async move {
            tokio::time::timeout(limit, client.sync(&agent, &request))
                .await
                .unwrap_or_else(|_| {
                    Err(adjutant_client::Error::Transport {
                        what: format!("{} did not answer the roll-call in time", client.base_url()),
                        unreachable: false,
                        source: None,
                    })
                })
        }
    }

    /// Waits for `future`, and meanwhile sees to attempts that end and leases that run out.
    async fn attend<T>(&mut self, until: Until, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            let deadline = self.lease_deadline();
            tokio::select! {
                biased;
                value = &mut future => return Some(value),
                () = self.shutdown.cancelled() => return None,
                Some(ended) = self.attempts.join_next_with_id() => {
                    self.ended(ended);
                    if until == Until::News {
                        return None;
                    }
                }
                () = at(deadline) => {
                    self.lose_lease();
                }
            }
        }
    }

    /// When what runs has to end, unless the server is heard of.
    fn lease_deadline(&self) -> Option<Instant> {
        self.lease
            .deadline()
            .filter(|_| !self.config.outlive_server && self.roster.running() > 0)
    }

    fn renew(&mut self, answer: &SyncAnswer, sent_at: Instant) {
        let ttl = u64::try_from(answer.lease_ttl.as_micros()).unwrap_or(0);
        self.lease.renew(sent_at, Duration::from_micros(ttl));
    }

    fn lose_lease(&mut self) {
        tracing::warn!(agent = %self.config.id, "the server was away for too long: ending what runs");
        self.lease.lose();
        self.roster.lose_all(self.lease.gone_by());
    }

    /// Tells the server what it could not be told before, until that fails.
    async fn pay(&mut self) {
        while let Some(report) = self.dues.next().cloned() {
            let (client, limit) = (self.client.clone(), self.lease.answer_time().min(SEND_TIMEOUT));
            let call = async move { send_usage(&client, &report, limit).await };
            match self.attend(Until::Shutdown, call).await {
                None => return,
                Some(Sent::Taken | Sent::Refused) => self.dues.settled(),
                Some(Sent::Later | Sent::Denied) => return self.dues.put_off(),
            }
        }
    }

    /// Does what an answer says; says whether there was anything new in it.
    fn apply(&mut self, answer: SyncAnswer, batch: &[Key], sent_at: Instant) -> bool {
        self.renew(&answer, sent_at);
        let was_denied = self.denied.take().is_some();
        if !self.reachable || was_denied {
            self.reachable = true;
            self.notice(Notice::Reachable);
        }
        let mut news = false;
        for settled in self.roster.settle(batch, answer.done) {
            news = true;
            self.settled(settled);
        }
        for stop in answer.stop {
            let (reason, key) = (stop.reason, Key::from(stop));
            if self.roster.stop(&key, Cause::Server(reason)) {
                news = true;
                told_to_stop(&key, reason);
            }
        }
        for start in answer.start {
            news |= self.start(start);
        }
        if self.draining != answer.drain {
            self.draining = answer.drain;
            self.notice(Notice::Draining(self.draining));
        }
        if news || batch.is_empty() {
            self.backoff.reset();
        }
        news
    }

    fn settled(&mut self, settled: Settled) {
        if let Settled::Refused(Key { id, attempt }, error) = settled {
            tracing::warn!(task = %id, attempt, %error, "the server does not take a result");
            self.summary.refused += 1;
            self.notice(Notice::Refused {
                id,
                attempt,
                error: error.to_string(),
            });
        }
    }

    /// Starts an attempt that was offered, unless it was started before.
    fn start(&mut self, start: Start) -> bool {
        let key = Key::of(&start);
        let Some(stop) = self.roster.admit(&key) else {
            return false;
        };
        self.summary.started += 1;
        self.notice(Notice::Started {
            id: key.id.clone(),
            attempt: key.attempt,
            title: start.task.title.clone(),
        });
        let handle = self
            .attempts
            .spawn(attempt::run(Arc::clone(&self.context), start, stop));
        self.keys.insert(handle.id(), key);
        true
    }

    /// An attempt is over.
    fn ended(&mut self, ended: Result<(Id, Over), JoinError>) {
        let (task, over) = match ended {
            Ok((task, over)) => (task, Ok(over)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(key) = self.keys.remove(&task) else {
            tracing::error!("an attempt ended that was never started");
            return;
        };
        let Over { ending, owed } = over.unwrap_or_else(|error| {
            // Its process group died with it.
            tracing::error!(task = %key.id, attempt = key.attempt, %error, "a bug ended an attempt");
            attempt::failed(&self.config.id, &key, format!("the worker has a bug: {error}")).into()
        });
        self.dues.owe(owed);
        let Key { id, attempt } = key.clone();
        match &ending {
            Ending::Completed(completion) => {
                if completion.success {
                    self.summary.succeeded += 1;
                } else {
                    self.summary.failed += 1;
                }
                self.notice(Notice::Finished {
                    id,
                    attempt,
                    success: completion.success,
                    message: completion.error_message.clone(),
                });
            }
            Ending::Stopped(cause) => {
                self.summary.stopped += 1;
                self.notice(Notice::Stopped {
                    id,
                    attempt,
                    cause: *cause,
                });
            }
        }
        self.roster.finish(key, ending);
    }

    fn notice(&self, notice: Notice) {
        self.observer.notice(notice);
    }
}

/// Says it where the server counts on nothing that this attempt still does.
fn told_to_stop(Key { id, attempt }: &Key, reason: StopReason) {
    match reason {
        StopReason::Lost | StopReason::Unknown | StopReason::Ended => {
            let reason = reason.name();
            tracing::warn!(task = %id, attempt, reason, "an attempt ended at the server while it ran here: it is stopped");
        }
        StopReason::Cancelled | StopReason::Timeout | StopReason::Limit | StopReason::Released => {
            tracing::info!(task = %id, attempt, reason = reason.name(), "told to stop an attempt");
        }
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
