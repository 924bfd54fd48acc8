//! What stands still: tasks by state, agents, the queue. It is looked up when somebody reads the metrics.
//!
//! Where no other server changes them, tasks by state come from the engine, which keeps them up, and agents are in
//! memory. Where servers share a store, tasks are counted there and agents are read there: the larger it is, the
//! longer that takes. So there a look that took longer than [`CHEAP`] is not waited for the next time: what it found
//! is told at once, and the next look is taken beside that. Such figures are as old as the time between two readings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use adjutant_core::access::Actor;
use adjutant_core::agent::AgentStatus;
use adjutant_core::time::Timestamp;

use crate::app::App;
use crate::failure::Failure;
use crate::view::agent::by_status;

/// A look that takes no longer is taken each time.
const CHEAP: Duration = Duration::from_millis(5);
/// Older figures are not told: then a look is waited for.
const STALE: Duration = Duration::from_mins(2);

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Tasks in the order of their states.
    pub(super) tasks: [u64; 6],
    /// Agents in the order of theirs.
    pub(super) agents: [u64; AgentStatus::ALL.len()],
    /// Attempts that occupy agents.
    pub(super) load: u64,
    /// The number of the last event.
    pub(super) last_seq: u64,
    /// Since when the longest-ready task is ready, by priority.
    pub(super) ready_since: [Option<Timestamp>; 4],
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    last: Mutex<Option<Look>>,
    /// Whether somebody is looking beside the readings.
    looking: AtomicBool,
}

#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    took: Duration,
    found: Standing,
}

impl Lookout {
    /// What can be told without a look.
    fn known(&self) -> Option<Standing> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|look| look.took > CHEAP && look.at.elapsed() < STALE)
            .map(|look| look.found.clone())
    }

    fn keep(&self, look: Look) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}

/// Looks, or tells what was found the last time.
pub(super) async fn look(app: &App) -> Result<Standing, Failure> {
    if app.handle.tally().tasks().is_some() {
        return Ok(take(app).await?.found);
    }
    let lookout = &app.metrics.lookout;
    let Some(known) = lookout.known() else {
        let look = take(app).await?;
        lookout.keep(look.clone());
        return Ok(look.found);
    };
    if !lookout.looking.swap(true, Ordering::AcqRel) {
        let app = app.clone();
        tokio::spawn(async move {
            let lookout = &app.metrics.lookout;
            match take(&app).await {
                Ok(look) => lookout.keep(look),
                Err(failure) => {
                    tracing::warn!(error = %failure.0, "the figures of /metrics could not be renewed");
                }
            }
            lookout.looking.store(false, Ordering::Release);
        });
    }
    Ok(known)
}

async fn take(app: &App) -> Result<Look, Failure> {
    let began = Instant::now();
    // Asked first: its turn comes after what watchers were told of earlier ones.
    let agents = app.agents(Actor::admin()).await?;
    let (last_seq, ready_since) = app
        .handle
        .query(|reader| Ok((reader.last_seq()?, reader.ready_since()?)))
        .await?;
    let tasks = app.handle.task_counts().await?;
    let found = Standing {
        tasks,
        agents: by_status(&agents),
        load: agents.iter().map(|agent| u64::from(agent.load())).sum(),
        last_seq,
        ready_since,
    };
    Ok(Look {
        at: Instant::now(),
        took: began.elapsed(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_took_long_is_told_again_and_one_that_did_not_is_taken_anew() {
        let look = |took, age: Duration| Look {
            at: Instant::now().checked_sub(age).unwrap(),
            took,
            found: Standing::default(),
        };
        let lookout = Lookout::default();
        assert!(lookout.known().is_none());
        for (took, age, told) in [
            (CHEAP * 2, Duration::ZERO, true),
            (CHEAP, Duration::ZERO, false),
            (CHEAP * 2, STALE, false),
        ] {
            lookout.keep(look(took, age));
            assert_eq!(lookout.known().is_some(), told, "{took:?} {age:?}");
        }
    }
}
