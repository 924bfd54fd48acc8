//! The host of one peer: calls the roll for it, and sees to its attempts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::agent::{Agent, Peer};
use adjutant_core::command::{Answer, Command, Completion, Running, SyncAnswer, TaskView};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::Status;
use adjutant_core::time::Span;
use adjutant_engine::Refusal;
use adjutant_store::TaskFilter;
use adjutant_wire as wire;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ask::Line;
use super::job::Job;
use super::words;
use crate::app::App;
use crate::failure::Failure;

/// How long a roll-call waits for news. The engine bounds it by the time within which the agent has to be heard of.
const WAIT: Span = Span::from_secs(20);
/// After a roll-call that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);
/// How many attempts are read at a time when a host begins.
const PAGE: usize = 100;

/// The most ends, and bytes of them, in one roll-call.
const MAX_DONE: usize = 100;
const MAX_DONE_BYTES: usize = 4 << 20;
/// What is just being sent when the server stops gets so long.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// An attempt.
type Key = (Arc<str>, u32);

/// The host of one peer.
pub(super) struct Host {
    app: App,
    agent: AgentId,
    actor: Actor,
    session: Arc<str>,
    peer: watch::Receiver<Arc<Peer>>,
    line: Arc<Line>,
    leaving: CancellationToken,
    jobs: JoinSet<Option<Completion>>,
    /// Whose each of them is.
    keys: HashMap<Id, Key>,
    /// What runs, and how it is stopped.
    stops: BTreeMap<Key, CancellationToken>,
    /// What has ended and was not acknowledged.
    done: Vec<Completion>,
    /// How many of these are in the roll-call that was sent last.
    sending: usize,
    n: u64,
}

impl Host {
    pub(super) fn new(
        app: App,
        agent: &Agent,
        peer: watch::Receiver<Arc<Peer>>,
        leaving: CancellationToken,
    ) -> Self {
        Self {
            app,
            agent: agent.id.clone(),
            actor: Actor {
                name: agent.id.as_str().into(),
                power: Power::Roles([Role::Agent(agent.id.clone())].into()),
            },
            session: uuid::Uuid::new_v4().to_string().into(),
            peer,
            line: Arc::default(),
            jobs: JoinSet::new(),
            keys: HashMap::new(),
            stops: BTreeMap::new(),
            done: Vec::new(),
            sending: 0,
            n: 0,
            leaving,
        }
    }

    /// Speaks for the agent until the server is to stop, or somebody else does.
    pub(super) async fn run(mut self) {
        match self.adopt().await {
            Adopted::Mine => {
                tracing::info!(agent = %self.agent, "this server speaks for an agent that is reached by A2A");
            }
            Adopted::Others => return,
            Adopted::Leaving => return self.leave().await,
        }
        let leaving = self.leaving.clone();
        loop {
            let call = self.call_roll(WAIT);
            let called = tokio::select! {
                biased;
                () = leaving.cancelled() => return self.leave().await,
                // Before what has ended: an answer that is there is not to be dropped, since what it says is said once.
                called = call => called,
                Some(ended) = self.jobs.join_next_with_id() => {
                    self.settle(ended);
                    // What else has ended goes along.
                    while let Some(ended) = self.jobs.try_join_next_with_id() {
                        self.settle(ended);
                    }
                    continue;
                }
            };
            let is_well = match called {
                Ok(answer) => self.heed(answer).await,
                Err(Refusal::Rejected(no)) if is_over(&no) => {
                    tracing::info!(agent = %self.agent, why = %no, "this server no longer speaks for an agent");
                    return self.call_off();
                }
                Err(refusal) => {
                    tracing::warn!(agent = %self.agent, %refusal, "a roll-call was not taken; it is repeated");
                    false
                }
            };
            if !is_well {
                self.pause().await;
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.leaving.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }

    /// Takes the agent over, with what it runs. Insists until it is known who has it: a session that was given and not
    /// used would keep the agent from everyone.
    async fn adopt(&mut self) -> Adopted {
        while !self.leaving.is_cancelled() {
            let command = Command::Adopt {
                agent: self.agent.clone(),
                session: Arc::clone(&self.session),
                alone: !self.app.handle.is_shared(),
            };
            let adopted = match self.app.handle.call(Actor::admin(), command, None).await {
                Ok(_) => self.go_on().await,
                Err(Refusal::Rejected(no)) if is_over(&no) => return Adopted::Others,
                Err(refusal) => Err(refusal.into()),
            };
            match adopted {
                Ok(()) => return Adopted::Mine,
                Err(error) => {
                    tracing::warn!(agent = %self.agent, error = %error.0, "an agent cannot be spoken for yet");
                    self.pause().await;
                }
            }
        }
        Adopted::Leaving
    }

    /// Goes on with what the agent runs. What an earlier server had not noted is sent again under the same name.
    async fn go_on(&mut self) -> Result<(), Failure> {
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
                let (attempt, id) = (task.attempt, words::noted_id(&task, self.agent.as_str()));
                self.begin(task, attempt, id);
            }
            if filter.after.is_none() {
                return Ok(());
            }
        }
    }

    /// Calls the roll, with as much of what has ended as one call may carry. The rest is listed as running.
    fn call_roll(&mut self, wait: Span) -> impl Future<Output = Result<SyncAnswer, Refusal>> + use<> {
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
        let mut bytes = 0;
        let fit = self.done.iter().take(MAX_DONE).take_while(|done| {
            bytes += done.result.output.len();
            bytes <= MAX_DONE_BYTES
        });
        // The first goes alone if it has to.
        self.sending = fit.count().max(1).min(self.done.len());
        let sync = adjutant_core::command::Sync {
            agent: self.agent.clone(),
            session: Some(Arc::clone(&self.session)),
            n: Some(self.n),
            running: Some(running.chain(ended).collect()),
            done: self.done.iter().take(self.sending).cloned().collect(),
            max: None,
            wait,
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

    /// Does what a roll-call says; whether all of it could be done.
    async fn heed(&mut self, answer: SyncAnswer) -> bool {
        let mut is_well = self.acknowledge(answer.done);
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
                is_well = false;
            }
        }
        is_well
    }

    /// Forgets the ends that were taken; whether all that were sent are done with.
    fn acknowledge(&mut self, outcomes: Vec<Result<TaskView, Rejection>>) -> bool {
        let rest = self.done.split_off(self.sending.min(self.done.len()));
        let sent = std::mem::replace(&mut self.done, rest);
        let mut is_well = true;
        for (completion, outcome) in sent.into_iter().zip(outcomes) {
            match outcome {
                Err(no) if no.slug.retryable() => {
                    self.done.push(completion);
                    is_well = false;
                }
                Err(no) => {
                    tracing::warn!(agent = %self.agent, task = %completion.id, why = %no, "an end was not taken");
                }
                Ok(_) => {}
            }
        }
        is_well
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
            line: Arc::clone(&self.line),
            begun,
            stop,
            leaving: self.leaving.clone(),
        };
        let id = self.jobs.spawn(job.run()).id();
        self.keys.insert(id, key);
    }

    /// The server stops: what runs at the peer goes on there, and whoever adopts the agent follows it. What is just being
    /// sent gets a moment to become known, and what has ended is told.
    async fn leave(mut self) {
        let until = tokio::time::Instant::now() + LEAVE_PATIENCE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, self.jobs.join_next_with_id()).await {
            // What was left has ended nothing.
            self.settle(ended);
        }
        self.jobs.shutdown().await;
        while !self.done.is_empty() {
            let Ok(answer) = self.call_roll(Span::ZERO).await else {
                break;
            };
            if !self.acknowledge(answer.done) {
                break;
            }
        }
        let command = Command::Abandon {
            agent: self.agent.clone(),
            session: self.session,
        };
        match self.app.handle.call(Actor::admin(), command, None).await {
            Ok(_) => {}
            Err(Refusal::Rejected(no)) if is_over(&no) => {}
            Err(refusal) => {
                tracing::warn!(agent = %self.agent, %refusal, "the next server has to wait until the agent counts as gone");
            }
        }
    }

    /// Somebody else speaks for the agent: what runs at the peer has ended here. The peer is told beside what comes next.
    fn call_off(mut self) {
        for stop in self.stops.values() {
            stop.cancel();
        }
        tokio::spawn(async move { while self.jobs.join_next().await.is_some() {} });
    }
}

/// Who speaks for an agent.
enum Adopted {
    /// This server does.
    Mine,
    /// Another one does, or none can.
    Others,
    /// This server is to stop.
    Leaving,
}

/// Whether nothing more is to be said for the agent.
fn is_over(no: &Rejection) -> bool {
    matches!(no.slug, Slug::Superseded | Slug::AgentNotFound | Slug::WrongState)
}
