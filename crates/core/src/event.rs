//! Events: what happened, durable and in commit order.
//!
//! `seq` has no gaps; an event is never seen before its transaction is durable.

use serde::{Deserialize, Serialize};

use crate::name::{AgentId, TaskId};
use crate::task::TaskKey;
use crate::time::Timestamp;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl EventKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// The kind with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }
    };
}

kinds! {
    /// A task was accepted.
    TaskCreated = "task_created",
    /// The server gave a task to an agent.
    TaskDispatched = "task_dispatched",
    /// An agent took a task by its id.
    TaskClaimed = "task_claimed",
    /// An agent reported progress.
    TaskProgress = "task_progress",
    /// A task is done.
    TaskCompleted = "task_completed",
    /// An attempt failed, was lost, or ran out of time.
    TaskAttemptFailed = "task_attempt_failed",
    /// A task goes back to the queue, after a failed attempt or by an operator's word.
    TaskRetried = "task_retried",
    /// A task has no attempt left.
    TaskDeadLettered = "task_dead_lettered",
    /// A task was taken back.
    TaskCancelled = "task_cancelled",
    /// An attempt was given back without a failure.
    TaskReleased = "task_released",
    /// A lease ran out.
    LeaseExpired = "lease_expired",
    /// An agent registered.
    AgentRegistered = "agent_registered",
    /// An agent went silent.
    AgentOffline = "agent_offline",
    /// An agent was heard of again.
    AgentOnline = "agent_online",
    /// An agent takes nothing new.
    AgentDraining = "agent_draining",
    /// An agent failed too fast too often.
    AgentQuarantined = "agent_quarantined",
    /// An agent waits for its provider's rate limit.
    AgentPaused = "agent_paused",
    /// An agent left.
    AgentDeregistered = "agent_deregistered",
    /// Usage was booked.
    UsageRecorded = "usage_recorded",
    /// 80 % of a limit are used.
    QuotaWarning = "quota_warning",
    /// A limit is reached.
    QuotaExceeded = "quota_exceeded",
    /// A scope's counters were set back.
    QuotaReset = "quota_reset",
    /// The first try to dispatch a task found no agent.
    DispatchFailedNoAgent = "dispatch_failed_no_agent",
    /// The first try to dispatch a task was refused by a limit.
    DispatchFailedQuota = "dispatch_failed_quota",
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its place in the order of commits, from 1, without gaps. Of those that are kept, too: they go from the first on.
    pub seq: u64,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// To which task.
    pub task: Option<(TaskKey, TaskId)>,
    /// To or by which agent.
    pub agent: Option<AgentId>,
    /// When.
    pub at: Timestamp,
    /// More about it, as JSON text.
    pub payload: Option<Box<str>>,
}
