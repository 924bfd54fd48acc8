//! The handle: how edges ask the engine, and wait for what is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, IdempotencyKey, Request, Ticket};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::{News, Reader, StoreError};
use tokio::sync::{oneshot, watch};

use crate::clock::Dial;
use crate::readers::{Readers, stopped};
use crate::submissions::{Submitted, tasks_of};
use crate::tally::Tally;
use crate::watch::Watcher;

/// How long a sync whose wait is over waits for its answer before it is given up.
const WAIT_OVER_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The core says no; also when the server is overloaded, out of space or about to stop.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A bug: it was logged, nothing was changed.
    #[error("internal error: {0}")]
    Bug(String),
}

/// A request and where its answer goes.
pub(crate) struct Letter {
    pub(crate) request: Request,
    pub(crate) reply: Option<oneshot::Sender<Result<Answer, Refusal>>>,
}

/// What comes through the inbox.
pub(crate) enum Mail {
    /// A request.
    Letter(Box<Letter>),
    /// Another server has committed something.
    News(News),
    /// Somebody wants to be told of turns.
    Watch(Box<dyn Watcher>),
    /// The end is near: answer who waits, and let nobody wait any more.
    Dismiss,
    /// The end: answer what is there, and stop.
    Stop,
}

/// A handle to a running engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inbox: SyncSender<Mail>,
    pub(crate) tickets: Arc<AtomicU64>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) last_seq: watch::Receiver<u64>,
    pub(crate) longest_wait: Duration,
    pub(crate) submitted: Arc<Submitted>,
    pub(crate) shared: bool,
    pub(crate) tally: Arc<Tally>,
    pub(crate) dial: Dial,
}

impl Handle {
    /// Asks one thing, and waits until its answer is durable. A sync that waits is answered when there is something
    /// to say, or when its wait is over.
    ///
    /// # Errors
    /// See [`Refusal`]. When the inbox is full the refusal comes at once.
    pub async fn call(
        &self,
        actor: Actor,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Refusal> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let wait = match &command {
            Command::Sync(sync) if !sync.wait.is_zero() => Some((sync.agent.clone(), sync.wait)),
            _ => None,
        };
        let (reply, answer) = oneshot::channel();
        self.send(
            Request {
                actor,
                command,
                idempotency,
                ticket,
            },
            Some(reply),
        )?;
        let answer = match wait {
            None => answer.await,
            Some((agent, wait)) => self.wait(agent, ticket, wait, answer).await,
        };
        answer.unwrap_or_else(|_| Err(stopped()))
    }

    /// Whether other servers may have the same store.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether a submission would be refused now, because more wait than are soon taken. To be asked before anything
    /// is done for it.
    pub fn is_flooded(&self) -> bool {
        self.submitted.is_full()
    }

    /// What the engine counts as it goes along.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Has somebody told of each turn from now on.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn watch(&self, watcher: Box<dyn Watcher>) -> Result<(), Refusal> {
        self.inbox
            .try_send(Mail::Watch(watcher))
            .map_err(|error| match error {
                TrySendError::Full(_) => overloaded(),
                TrySendError::Disconnected(_) => stopped(),
            })
    }

    fn send(
        &self,
        request: Request,
        reply: Option<oneshot::Sender<Result<Answer, Refusal>>>,
    ) -> Result<(), Refusal> {
        let tasks = tasks_of(&request.command);
        if tasks > 0 && !self.submitted.enter(tasks) {
            return Err(overloaded());
        }
        match self
            .inbox
            .try_send(Mail::Letter(Box::new(Letter { request, reply })))
        {
            Ok(()) => Ok(()),
            Err(error) => {
                self.submitted.leave(tasks);
                Err(match error {
                    TrySendError::Full(_) => overloaded(),
                    TrySendError::Disconnected(_) => stopped(),
                })
            }
        }
    }

    /// Waits for the answer of a sync. When the wait is over, or the caller is gone, the engine is told.
    async fn wait(
        &self,
        agent: AgentId,
        ticket: Ticket,
        wait: Span,
        mut answer: oneshot::Receiver<Result<Answer, Refusal>>,
    ) -> Result<Result<Answer, Refusal>, oneshot::error::RecvError> {
        let wait = Duration::from_micros(wait.as_micros().unsigned_abs()).min(self.longest_wait);
        let _waiting = self.tally.wait();
        let mut guard = WaitGuard {
            handle: self,
            agent: Some((agent, ticket)),
        };
        tokio::select! {
            answered = &mut answer => {
                guard.agent = None;
                return answered;
            }
            () = tokio::time::sleep(wait) => {}
        }
        guard.end();
        match tokio::time::timeout(WAIT_OVER_PATIENCE, answer).await {
            Ok(answered) => answered,
            // The end of the wait was not told, or its turn was not taken.
            Err(_) => Ok(Err(overloaded())),
        }
    }

    /// Reads what is committed, beside the turns.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn query<T, F>(&self, ask: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.ask(ask).await
    }

    /// How many tasks are in each state, in the order of [`Status::ALL`](adjutant_core::task::Status::ALL): as the engine
    /// keeps it where it alone changes them, else counted in the store, which takes the longer the larger it is.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn task_counts(&self) -> Result<[u64; 6], Refusal> {
        match self.tally.tasks() {
            Some(counts) => Ok(counts),
            None => self.query(|reader| reader.counts()).await,
        }
    }

    /// What time it is to the turns. Where servers share a store that is not the time of this machine.
    pub fn now(&self) -> Timestamp {
        self.dial.now()
    }

    /// The number of the last committed event, and a signal for each new one.
    pub fn last_seq(&self) -> watch::Receiver<u64> {
        self.last_seq.clone()
    }
}

fn overloaded() -> Refusal {
    Refusal::Rejected(
        Rejection::new(Slug::Overloaded, "the server has more to do than it can take in")
            .retry_after(Some(Span::from_secs(1))),
    )
}

/// Tells the engine that nobody waits any more, however the wait ends.
struct WaitGuard<'a> {
    handle: &'a Handle,
    agent: Option<(AgentId, Ticket)>,
}

impl WaitGuard<'_> {
    fn end(&mut self) {
        let Some((agent, ticket)) = self.agent.take() else {
            return;
        };
        let own = Ticket(self.handle.tickets.fetch_add(1, Ordering::Relaxed));
        let request = Request {
            actor: Actor::admin(),
            command: Command::WaitOver(agent, ticket),
            idempotency: None,
            ticket: own,
        };
        if let Err(error) = self.handle.send(request, None) {
            // The next sync of the agent, or the end of the server, ends the wait instead.
            tracing::debug!(%error, "the end of a wait was not told");
        }
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
