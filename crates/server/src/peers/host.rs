//! The host of one peer: calls the roll for it, and sees to its attempts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::agent::{Agent, Peer};
use adjutant_core::command::{Answer, Command, Completion, Running, SyncAnswer};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;
use adjutant_core::time::Span;
use adjutant_engine::Refusal;
use adjutant_store::TaskFilter;
use adjutant_wire as wire;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::job::Job;
use super::words;
use crate::app::{App, unexpected};
use crate::failure::Failure;

/// How long a roll-call waits for news. The engine bounds it by the time within which the agent has to be heard of.
const WAIT: Span = Span::from_secs(20);
/// After a roll-call that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);
/// How many attempts are read at a time when a host begins.
const PAGE: usize = 100;

/// An attempt.
type Key = (Arc<str>, u32);

/// The host of one peer.
pub(super) struct Host {
    app: App,
    agent: AgentId,
    actor: Actor,
    session: Arc<str>,
    peer: watch::Receiver<Arc<Peer>>,
    jobs: JoinSet<Option<Completion>>,
    /// Whose each of them is.
    keys: HashMap<Id, Key>,
    /// What runs, and how it is stopped.
    stops: BTreeMap<Key, CancellationToken>,
    /// What has ended and was not acknowledged.
    done: Vec<Completion>,
    n: u64,
}

impl Host {
    pub(super) fn new(app: App, agent: &Agent, peer: watch::Receiver<Arc<Peer>>) -> Self {
        Self {
            app,
            agent: agent.id.clone(),
            actor: Actor {
                name: agent.id.as_str().into(),
                power: Power::Roles([Role::Agent(agent.id.clone())].into()),
            },
            session: uuid::Uuid::new_v4().to_string().into(),
            peer,
            jobs: JoinSet::new(),
            keys: HashMap::new(),
            stops: BTreeMap::new(),
            done: Vec::new(),
            n: 0,
        }
    }

    /// Speaks for the agent until the server is to stop, or somebody else does.
    pub(super) async fn run(mut self, leaving: CancellationToken) {
        match self.adopt().await {
            Ok(true) => {
                tracing::info!(agent = %self.agent, "this server speaks for an agent that is reached by A2A");
            }
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(agent = %self.agent, error = %error.0, "an agent could not be spoken for; it is tried again");
                return;
            }
        }
        loop {
            let call = self.call_roll();
            let called = tokio::select! {
                biased;
                () = leaving.cancelled() => return self.leave().await,
                Some(ended) = self.jobs.join_next_with_id() => {
                    self.settle(ended);
                    continue;
                }
                called = call => called,
            };
            match called {
                Ok(answer) => self.heed(answer).await,
                Err(Refusal::Rejected(no)) if matches!(no.slug, Slug::Superseded | Slug::AgentNotFound) => {
                    tracing::info!(agent = %self.agent, why = %no, "this server no longer speaks for an agent");
                    return self.call_off().await;
                }
                Err(refusal) => {
                    tracing::warn!(agent = %self.agent, %refusal, "a roll-call was not taken; it is repeated");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes the agent over, with what it runs; whether nobody else has it.
    async fn adopt(&mut self) -> Result<bool, Failure> {
        let command = Command::Adopt {
            agent: self.agent.clone(),
            session: Arc::clone(&self.session),
            alone: !self.app.handle.is_shared(),
        };
        match self.app.handle.call(Actor::admin(), command, None).await {
            Ok(Answer::Agent(_)) => {}
            Ok(other) => return Err(unexpected(&other)),
            Err(Refusal::Rejected(no))
                if matches!(no.slug, Slug::Superseded | Slug::AgentNotFound | Slug::WrongState) =>
            {
                return Ok(false);
            }
            Err(refusal) => return Err(refusal.into()),
        }
        let mut filter = TaskFilter {
            status: Some(Status::InProgress),
            claimed_by: Some(self.agent.clone()),
            limit: PAGE,
            ..TaskFilter::default()
        };
        loop {
            let asked = filter.clone();
            let page = self.app.handle.query(move |reader| reader.tasks(&asked)).await?;
            filter.after = page.next;
            for task in self.app.present_stored(&self.actor, page.tasks).await? {
                // What an earlier server had not got so far with is not listed, and so it is lost.
                if let Some(id) = words::noted_id(&task, self.agent.as_str()) {
                    let attempt = task.attempt;
                    self.begin(task, attempt, Some(id));
                }
            }
            if filter.after.is_none() {
                return Ok(true);
            }
        }
    }

    fn call_roll(&mut self) -> impl Future<Output = Result<SyncAnswer, Refusal>> + use<> {
        self.n += 1;
        let running = self.stops.keys().map(|(id, attempt)| Running {
            id: (&**id).into(),
            attempt: *attempt,
        });
        // What has ended and was not acknowledged is still listed.
        let ended = self.done.iter().map(|done| Running {
            id: done.id.clone(),
            attempt: done.attempt.unwrap_or_default(),
        });
        let sync = adjutant_core::command::Sync {
            agent: self.agent.clone(),
            session: Some(Arc::clone(&self.session)),
            n: Some(self.n),
            running: Some(running.chain(ended).collect()),
            done: self.done.clone(),
            max: None,
            wait: WAIT,
        };
        let (app, actor) = (self.app.clone(), self.actor.clone());
        async move {
            match app.handle.call(actor, Command::Sync(sync), None).await? {
                Answer::Sync(answer) => Ok(*answer),
                other => Err(Refusal::Bug(format!("{other:?}"))),
            }
        }
    }

    /// An attempt is over: what came of it is told with the next roll-call.
    fn settle(&mut self, ended: Result<(Id, Option<Completion>), JoinError>) {
        let (id, completion) = match ended {
            Ok((id, completion)) => (id, Ok(completion)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        self.stops.remove(&key);
        let completion = completion.unwrap_or_else(|error| {
            tracing::error!(agent = %self.agent, task = &*key.0, %error, "an attempt of a peer broke");
            Some(Completion {
                attempt: Some(key.1),
                agent: Some(self.agent.clone()),
                result: words::failure("the server broke while it spoke to the peer; its log says how"),
                ..Completion::new((&*key.0).into(), false)
            })
        });
        self.done.extend(completion);
    }

    /// Does what a roll-call says.
    async fn heed(&mut self, answer: SyncAnswer) {
        let sent = std::mem::take(&mut self.done);
        for (completion, outcome) in sent.into_iter().zip(answer.done) {
            match outcome {
                Err(no) if no.slug.retryable() => self.done.push(completion),
                Err(no) => {
                    tracing::warn!(agent = %self.agent, task = %completion.id, why = %no, "an end was not taken");
                }
                Ok(_) => {}
            }
        }
        for stop in answer.stop {
            if let Some(token) = self.stops.get(&(stop.id.as_str().into(), stop.attempt)) {
                token.cancel();
            }
        }
        let (views, attempts): (Vec<_>, Vec<_>) = answer
            .start
            .into_iter()
            .map(|start| (start.view, start.attempt))
            .unzip();
        match self.app.present(views).await {
            Ok(tasks) => {
                for (task, attempt) in tasks.into_iter().zip(attempts) {
                    self.begin(task, attempt, None);
                }
            }
            // They stay offered, and are in the next answer.
            Err(error) => {
                tracing::warn!(agent = %self.agent, error = %error.0, "tasks of a peer could not be read");
            }
        }
    }

    /// Begins an attempt, or goes on with one. What runs already is not begun twice.
    fn begin(&mut self, task: wire::Task, attempt: u32, begun: Option<String>) {
        let key: Key = (task.id.as_str().into(), attempt);
        let is_done = |done: &Completion| done.id.as_str() == task.id && done.attempt == Some(attempt);
        if self.stops.contains_key(&key) || self.done.iter().any(is_done) {
            return;
        }
        let stop = CancellationToken::new();
        self.stops.insert(key.clone(), stop.clone());
        let job = Job {
            app: self.app.clone(),
            agent: self.agent.clone(),
            actor: self.actor.clone(),
            peer: Arc::clone(&self.peer.borrow()),
            task,
            attempt,
            begun,
            stop,
        };
        let id = self.jobs.spawn(job.run()).id();
        self.keys.insert(id, key);
    }

    /// The server stops: what runs at the peer goes on there, and whoever adopts the agent follows it.
    async fn leave(mut self) {
        self.jobs.shutdown().await;
        let command = Command::Abandon {
            agent: self.agent.clone(),
            session: self.session,
        };
        if let Err(refusal) = self.app.handle.call(Actor::admin(), command, None).await {
            tracing::warn!(agent = %self.agent, %refusal, "the next server has to wait until the agent counts as gone");
        }
    }

    /// Somebody else speaks for the agent: what runs at the peer has ended here.
    async fn call_off(mut self) {
        for stop in self.stops.values() {
            stop.cancel();
        }
        while self.jobs.join_next().await.is_some() {}
    }
}
