//! The feed: events as they are committed, read once for everyone who looks, and summed up.
//!
//! It is read on when a page that shows its sums is loaded, and every now and then from the first such page on, so that
//! there are no gaps until somebody looks again. It reaches back a while the first time. More events than that are passed
//! over: a page must not cost what a busy server has no time for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use adjutant_core::time::Timestamp;
use adjutant_dashboard::plot::Plot;
use adjutant_engine::Handle;
use tokio_util::sync::CancellationToken;

use super::sums::{Spenders, Sums};

/// How many events it reaches back.
const REACH: u64 = 20_000;
/// The time between two readings while nobody looks.
const ROUND: Duration = Duration::from_secs(15);
/// Events that are read at a time.
const PAGE: usize = 1_000;
/// Tasks that are looked up for each of these, to see whose they are.
const LOOKED_UP: usize = 32;

/// Events, summed up.
#[derive(Default)]
pub(in crate::dashboard) struct Feed {
    sums: Mutex<Sums>,
    /// Held by the one who reads: how far it got.
    reading: tokio::sync::Mutex<u64>,
}

impl Feed {
    /// Reads on every now and then, once somebody has looked, until the server stops.
    pub(in crate::dashboard) async fn follow(&self, handle: &Handle, shutdown: &CancellationToken) {
        let following = async {
            loop {
                tokio::time::sleep(ROUND).await;
                if *self.reading.lock().await > 0 {
                    self.catch_up(handle).await;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Reads on, up to now.
    pub(super) async fn catch_up(&self, handle: &Handle) {
        let mut position = self.reading.lock().await;
        let last = *handle.last_seq().borrow();
        if let Some(least) = last.checked_sub(REACH).filter(|least| *least > *position) {
            self.sums().skip();
            *position = least;
        }
        while *position < last {
            match self.read_page(handle, *position).await {
                Ok(Some(seq)) => *position = seq,
                Ok(None) => return,
                Err(refusal) => {
                    tracing::warn!(%refusal, "events could not be read for the dashboard");
                    return;
                }
            }
        }
    }

    /// Adds a page of events; the number of the last of them.
    async fn read_page(&self, handle: &Handle, since: u64) -> Result<Option<u64>, adjutant_engine::Refusal> {
        let events = handle.query(move |reader| reader.events(since, PAGE)).await?;
        let mut strangers = self.sums().strangers(&events);
        strangers.truncate(LOOKED_UP);
        if !strangers.is_empty() {
            let known = handle
                .query(move |reader| {
                    strangers
                        .into_iter()
                        .map(|(key, id)| {
                            let project = reader.task(&id)?.and_then(|stored| stored.task.project.clone());
                            Ok((key, project))
                        })
                        .collect::<Result<Vec<_>, _>>()
                })
                .await?;
            let mut sums = self.sums();
            for (key, project) in known {
                sums.owned_by(key, project);
            }
        }
        let mut sums = self.sums();
        for event in &events {
            sums.add(event);
        }
        Ok(events.last().map(|event| event.seq))
    }

    fn sums(&self) -> std::sync::MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plots of the last minutes.
    pub(in crate::dashboard) fn plots(&self, now: Timestamp, minutes: u32) -> Vec<Plot> {
        self.sums().plots(now, minutes)
    }

    /// Who has spent.
    pub(in crate::dashboard) fn spenders(&self) -> Spenders {
        self.sums().spenders()
    }
}
