//! Deeds: what is done to a task or an agent by key, after a confirmation.
//!
//! # Not here
//! Whether it can be done: the server says.

use adjutant_client::{Client, Error};
use adjutant_wire::AttemptRef;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// Takes a task back.
    Cancel,
    /// Takes a task and all that depend on it back.
    CancelAll,
    /// Starts a task afresh that ended without success.
    Retry,
    /// Gives an attempt back.
    Release,
    /// Keeps a task from starting.
    Hold,
    /// Lets it start again.
    Unhold,
    /// Lets an agent take nothing new.
    Drain,
    /// Lets it take tasks again.
    Undrain,
    /// Ends a quarantine or a pause.
    Lift,
}

impl Deed {
    /// The deed of a key on a task.
    pub(super) const fn on_task(key: char) -> Option<Self> {
        Some(match key {
            'c' => Self::Cancel,
            'C' => Self::CancelAll,
            'r' => Self::Retry,
            'l' => Self::Release,
            'h' => Self::Hold,
            'u' => Self::Unhold,
            _ => return None,
        })
    }

    /// The deed of a key on an agent.
    pub(super) const fn on_agent(key: char) -> Option<Self> {
        Some(match key {
            'd' => Self::Drain,
            'u' => Self::Undrain,
            'l' => Self::Lift,
            _ => return None,
        })
    }

    /// The question before it is done.
    pub(super) fn question(self, target: &str) -> String {
        match self {
            Self::Cancel => format!("Cancel task {target}?"),
            Self::CancelAll => format!("Cancel task {target} and all that depend on it?"),
            Self::Retry => format!("Start task {target} afresh?"),
            Self::Release => format!("Give task {target} back to the queue?"),
            Self::Hold => format!("Keep task {target} from starting?"),
            Self::Unhold => format!("Let task {target} start again?"),
            Self::Drain => format!("Let agent {target} take nothing new?"),
            Self::Undrain => format!("Let agent {target} take tasks again?"),
            Self::Lift => format!("End the quarantine or pause of agent {target}?"),
        }
    }

    /// What it costs that cannot be undone; empty when nothing.
    pub(super) const fn warning(self) -> &'static str {
        match self {
            Self::Cancel | Self::CancelAll | Self::Release => "An attempt that runs is stopped.",
            Self::Drain => "What it runs goes on to its end.",
            Self::Retry => "Its failed attempts count no more.",
            Self::Hold | Self::Unhold | Self::Undrain | Self::Lift => "",
        }
    }

    /// Does it, and gives the state of the target afterwards.
    pub(super) async fn perform(self, client: &Client, id: &str) -> Result<&'static str, Error> {
        let task = match self {
            Self::Cancel => client.cancel_task(id, false).await,
            Self::CancelAll => client.cancel_task(id, true).await,
            Self::Retry => client.retry_task(id).await,
            Self::Release => client.release_task(id, &AttemptRef::default()).await,
            Self::Hold => client.hold_task(id).await,
            Self::Unhold => client.unhold_task(id).await,
            Self::Drain => return client.drain_agent(id).await.map(|agent| agent.status.name()),
            Self::Undrain => return client.undrain_agent(id).await.map(|agent| agent.status.name()),
            Self::Lift => return client.lift_agent(id).await.map(|agent| agent.status.name()),
        };
        task.map(|task| task.status.name())
    }
}
