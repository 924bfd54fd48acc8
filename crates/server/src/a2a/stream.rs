//! Following one task: until it has ended, or step by step as server-sent events.
//!
//! Nothing is queued: a follower is woken by the engine's signal for events, asks the store whether one of them was about
//! its task, and reads the task then. Each takes one of the places of event streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use ::a2a::{StreamResponse, TaskArtifactUpdateEvent, TaskStatusUpdateEvent};
use adjutant_core::name::TaskId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::TaskKey;
use adjutant_wire as wire;
use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::translate::{self, Show};
use crate::access::caller::Caller;
use crate::app::App;
use crate::failure::Failure;
use crate::stream::{KEEP_ALIVE, look_at_token, until_over};

/// A follower looks at its task at most so often, however much happens in the fleet.
const PACE: Duration = Duration::from_millis(100);
/// Events that are looked at together. They are one change to a follower.
const EVENTS: usize = 100;
/// Who waits for the end of a task is answered after so long, with the task as it is: there are places for others, and
/// whoever wants to wait longer can follow or ask again.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Someone who follows a task.
pub(super) struct Follower {
    app: App,
    caller: Caller,
    id: TaskId,
    key: TaskKey,
    last_seq: watch::Receiver<u64>,
    /// Up to here there was nothing more about the task.
    looked: u64,
    /// The last event of the task that was seen.
    seen: u64,
    /// Not looked before.
    rest: Instant,
    /// One of the streams that may be open.
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Begins to follow a task, and says how it is now.
    pub(super) async fn open(
        app: App,
        caller: Caller,
        id: TaskId,
        place: OwnedSemaphorePermit,
    ) -> Result<(Self, wire::Task), Failure> {
        // What happens after this is seen, also when it happens before the task is read.
        let last_seq = app.handle.last_seq();
        let since = *last_seq.borrow();
        let mut follower = Self {
            key: app.stored_task(id.clone()).await?.task.key,
            app,
            caller,
            id,
            last_seq,
            looked: since,
            seen: since,
            rest: Instant::now(),
            _place: place,
        };
        let task = follower.read().await?;
        Ok((follower, task))
    }

    /// The task as it is.
    async fn read(&mut self) -> Result<wire::Task, Failure> {
        read(&self.app, &self.caller, self.id.clone()).await
    }

    /// Waits until something has happened to the task. May be dropped at any time.
    async fn changed(&mut self) -> Result<(), Failure> {
        loop {
            if *self.last_seq.borrow() <= self.looked {
                self.last_seq.changed().await.map_err(|_| shutting_down())?;
            }
            sleep_until(self.rest).await;
            let last = *self.last_seq.borrow_and_update();
            let (key, seen) = (self.key, self.seen);
            let (readable, events) = self
                .app
                .handle
                .query(move |reader| Ok((reader.last_seq()?, reader.task_events(key, seen, EVENTS)?)))
                .await?;
            self.rest = Instant::now() + PACE;
            // The signal may be ahead of what can be read: what is missing is looked for again.
            self.looked = last.min(readable);
            if let Some(event) = events.last() {
                self.seen = event.seq;
                return Ok(());
            }
        }
    }

    /// Waits for the end of a task, within bounds; gives the task as it is then.
    pub(super) async fn until_ended(mut self, mut task: wire::Task) -> Result<wire::Task, Failure> {
        let (app, pass) = (self.app.clone(), self.caller.pass);
        tokio::select! {
            biased;
            () = app.shutdown.cancelled() => {}
            () = until_over(&app, pass) => {
                return Err(Rejection::new(Slug::Unauthorized, "the token was revoked").into());
            }
            () = sleep(LONGEST_WAIT) => {}
            ended = async {
                while !task.status.is_terminal() {
                    self.changed().await?;
                    task = self.read().await?;
                }
                Ok::<_, Failure>(())
            } => ended?,
        }
        Ok(task)
    }
}

/// One task as a caller sees it.
pub(super) async fn read(app: &App, caller: &Caller, id: TaskId) -> Result<wire::Task, Failure> {
    let stored = app.stored_task(id).await?;
    let tasks = app.present_stored(&caller.actor, vec![stored]).await?;
    tasks
        .into_iter()
        .next()
        .ok_or_else(|| Failure::bug("a task was lost on its way out"))
}

fn shutting_down() -> Failure {
    Rejection::new(Slug::ShuttingDown, "the server is about to stop").into()
}

/// The stream of what happens to a task.
pub(super) struct Feed {
    follower: Follower,
    /// What is to be sent next.
    ready: VecDeque<StreamResponse>,
    /// Where the task stood when it was last told.
    told: TaskStatusUpdateEvent,
    /// Something has happened, and the task was not read since.
    stale: bool,
    ended: bool,
}

impl Feed {
    /// Begins with the task as it is.
    pub(super) fn new(follower: Follower, task: &wire::Task, show: Show) -> Self {
        Self {
            follower,
            ready: VecDeque::from([StreamResponse::Task(translate::task(task, show))]),
            told: translate::update(task),
            stale: false,
            ended: task.status.is_terminal(),
        }
    }

    /// The body that sends it.
    pub(super) fn into_body(self) -> Body {
        Body::from_stream(futures_util::stream::unfold(self, async |mut feed| {
            let chunk = feed.next().await?;
            Some((Ok::<_, Infallible>(chunk), feed))
        }))
    }

    /// The next piece; none once the task has ended, when the server stops, or the token is revoked.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return message(&event);
            }
            if self.ended {
                return None;
            }
            let (app, pass) = (self.follower.app.clone(), self.follower.caller.pass);
            look_at_token(&app, pass).await;
            let advanced = tokio::select! {
                biased;
                () = until_over(&app, pass) => return None,
                advanced = timeout(KEEP_ALIVE, self.advance()) => advanced,
            };
            match advanced {
                Ok(Ok(())) => {}
                Ok(Err(Failure(rejection))) => {
                    tracing::warn!(%rejection, "a stream of a task ends: the task could not be read");
                    return None;
                }
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Waits for a change, and prepares what is to be told of it. May be dropped at any time.
    async fn advance(&mut self) -> Result<(), Failure> {
        if !self.stale {
            self.follower.changed().await?;
            self.stale = true;
        }
        let task = self.follower.read().await?;
        self.stale = false;
        self.tell(&task);
        Ok(())
    }

    fn tell(&mut self, task: &wire::Task) {
        let update = translate::update(task);
        if task.status.is_terminal() {
            self.ended = true;
            let artifacts = translate::artifacts(task).into_iter().map(|artifact| {
                StreamResponse::ArtifactUpdate(TaskArtifactUpdateEvent {
                    task_id: update.task_id.clone(),
                    context_id: update.context_id.clone(),
                    artifact,
                    append: Some(false),
                    last_chunk: Some(true),
                    metadata: None,
                })
            });
            self.ready.extend(artifacts);
        }
        if update != self.told {
            self.told = update.clone();
            self.ready.push_back(StreamResponse::StatusUpdate(update));
        }
    }
}

/// An event as a message of the stream.
fn message(event: &StreamResponse) -> Option<Bytes> {
    match serde_json::to_string(event) {
        Ok(json) => Some(format!("data: {json}\n\n").into()),
        Err(error) => {
            tracing::error!(%error, "an event of a task could not be written as JSON");
            None
        }
    }
}
