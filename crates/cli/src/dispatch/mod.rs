//! Dispatching from a foreign task API: tasks that wait there are claimed for agents that are registered here, handed
//! out here, and their progress and ends are told there.
//!
//! "There" is any server that follows core-agentic, "here" is an adjutant server. Nothing is kept beside the two, so
//! that this process may be killed at any time: for each task that is to be claimed there is first a *mirror* here, a
//! task that nobody is given. Then it is claimed there, and only then the mirror is let go. Whoever finds a mirror that
//! is still held asks there who has the task. A claim that somebody else was given costs nothing: no agent has heard
//! of the task, and the mirror is cancelled.
//!
//! ```text
//! there            here                     what a crash after it leaves
//! pending          –                        nothing
//! pending          mirror, held             claimed in the next round, or given up when somebody else has the task
//! in_progress      mirror, held             let go when the task turns out to be ours
//! in_progress      mirror, let go           goes on; its end is told when it is found
//! completed        mirror, completed        nothing
//! ```
//!
//! Failures are told there and retried there, since the other side has its own rules for them: a mirror has a single
//! attempt. What an agent gives back, and what a limit stops, stays here and is given to another one.

mod fleet;
mod follow;
mod mirror;
mod take;

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::time::Duration;

use adjutant_client::{Backoff, Client, Error};
use adjutant_core::time::Timestamp;
use adjutant_wire::ModelUse;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use mirror::Source;

/// After an end was told, and so somebody has room again, the next round begins this soon.
const SOON: Duration = Duration::from_millis(250);
/// The longest pause after rounds that failed, unless the interval is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A task that was not to be had is left alone for so long, unless it is changed there.
const PASSED_OVER_FOR: Duration = Duration::from_mins(1);

/// What there is to tell of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A task was claimed there for an agent here.
    Claimed { task: String, agent: String },
    /// A task was not claimed: somebody else has it, or it is not to be had for now.
    Lost { task: String, why: String },
    /// The end of a task was told there.
    Ended { task: String, success: bool },
    /// What was told there of a task was refused.
    Refused { task: String, why: String },
    /// A task was given back: its mirror was cancelled here.
    GivenBack { task: String },
    /// A task was taken away there: its mirror was cancelled.
    TakenAway { task: String },
    /// A round failed.
    Trouble { why: String },
    /// The first round after that which did not.
    Recovered,
}

/// A task that is claimed there.
#[derive(Debug, Clone)]
struct Charge {
    mirror: String,
    agent: String,
    /// The number of the attempt there; none where the other side does not number them.
    attempt: Option<u32>,
    /// When it was claimed, as they say there.
    claimed_at: Option<Timestamp>,
    /// Whether the mirror has been given to an agent.
    is_started: bool,
    /// How many of its notes have been told there.
    notes: usize,
    /// What was used, as it was told there last.
    told: Vec<ModelUse>,
}

/// The two sides, and what is known of the work between them.
pub(crate) struct Dispatch {
    there: Client,
    here: Client,
    source: Source,
    /// What is claimed there, by its id there.
    charges: BTreeMap<String, Charge>,
    /// Tasks in progress there that are not ours, with the time of their claim.
    foreign: HashMap<String, Option<Timestamp>>,
    /// Mirrors that are held for tasks which were not to be had yet, by their ids there.
    held: BTreeMap<String, String>,
    /// Whether what an earlier process left has been looked for.
    is_swept: bool,
    /// Tasks that are not to be had as they are, with the time of their last change, and until when.
    passed_over: HashMap<String, (Timestamp, Instant)>,
    tell: Box<dyn Fn(Notice) + Send + Sync>,
}

impl Dispatch {
    /// Between a foreign API and a server of ours.
    pub(crate) fn new(there: Client, here: Client, tell: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        let source = Source::new(there.base_url());
        Self {
            there,
            here,
            source,
            charges: BTreeMap::new(),
            foreign: HashMap::new(),
            held: BTreeMap::new(),
            is_swept: false,
            passed_over: HashMap::new(),
            tell: Box::new(tell),
        }
    }

    /// Works for ever: a round each interval, and what agents end is told at once. Nothing that goes wrong ends it.
    pub(crate) async fn run(&mut self, interval: Duration) {
        let mut backoff = Backoff::new(interval, LONGEST_PAUSE.max(interval));
        let mut is_troubled = false;
        let mut next = Instant::now();
        let mut endings = pin!(endings(self.here.clone()));
        loop {
            let mirror = tokio::select! {
                biased;
                () = sleep_until(next) => None,
                mirror = endings.next() => mirror,
            };
            if let Some(mirror) = mirror {
                match self.ended(&mirror).await {
                    Ok(false) => {}
                    // A failure is met again by the next round, which says so.
                    Ok(true) | Err(_) => next = next.min(Instant::now() + SOON),
                }
                continue;
            }
            match self.round().await {
                Ok(()) => {
                    if std::mem::take(&mut is_troubled) {
                        (self.tell)(Notice::Recovered);
                    }
                    backoff.reset();
                    next = Instant::now() + interval;
                }
                Err(error) => {
                    tracing::debug!(%error, "a round failed");
                    if !std::mem::replace(&mut is_troubled, true) {
                        (self.tell)(Notice::Trouble {
                            why: error.to_string(),
                        });
                    }
                    next = Instant::now() + backoff.next_wait().max(interval);
                }
            }
        }
    }

    /// One round: what was claimed is followed, then more is claimed as far as agents have room.
    async fn round(&mut self) -> Result<(), Error> {
        self.follow().await?;
        if !self.is_swept {
            self.sweep().await?;
            self.is_swept = true;
        }
        self.drop_held().await?;
        self.take().await
    }

    /// A mirror has ended: tells it there. Whether there was one.
    async fn ended(&mut self, mirror: &str) -> Result<bool, Error> {
        let found = self.charges.iter().find(|(_, charge)| charge.mirror == mirror);
        let Some(task) = found.map(|(task, _)| task.clone()) else {
            return Ok(false);
        };
        self.look(&task, None).await?;
        Ok(!self.charges.contains_key(&task))
    }
}

/// The mirrors that end from now on, as they do. It only saves waiting for the next round: what is missed is found then.
fn endings(here: Client) -> impl Stream<Item = String> {
    let starts = futures_util::stream::unfold((here, false), |(here, was_begun)| async move {
        let mut pauses = was_begun;
        loop {
            if std::mem::replace(&mut pauses, true) {
                tokio::time::sleep(LONGEST_PAUSE / 20).await;
            }
            match here.status().await {
                Ok(status) => return Some((here.follow_events(status.last_seq), (here, true))),
                Err(error) => tracing::debug!(%error, "events are not followed yet"),
            }
        }
    });
    starts.flatten().filter_map(|event| async move {
        let event = event
            .inspect_err(|error| tracing::debug!(%error, "events are followed anew"))
            .ok()?;
        let is_end = matches!(
            event.kind.as_str(),
            "task_completed" | "task_dead_lettered" | "task_cancelled"
        );
        event.task_id.filter(|id| is_end && Source::made(id))
    })
}
