//! Agents: who executes tasks, what they can do, and whether they are there.
//!
//! # Invariants
//! - I2: an agent's load is the number of attempts that occupy it, never what it says of itself.
//! - An agent is `offline` from the moment it is reaped until it is heard of again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::AttemptKey;
use crate::name::{AgentId, Label, ModelName};
use crate::task::{Demand, TaskKey};
use crate::time::{Span, Timestamp};

/// Failed attempts of this many different tasks in a row, each short, quarantine an agent.
pub const FAST_FAILURES: usize = 3;
/// A failed attempt shorter than this is a fast one.
pub const FAST_FAILURE: Span = Span::from_secs(60);
/// The first quarantine; each further one is twice as long.
pub const QUARANTINE_BASE: Span = Span::from_secs(60);
/// The longest quarantine.
pub const QUARANTINE_CAP: Span = Span::from_secs(30 * 60);
/// The most capabilities or models of one agent.
pub const MAX_CAPABILITIES: usize = 1_000;
/// So many sessions that were superseded are remembered: a late word of one of them is known for what it is.
pub const FORMER_SESSIONS: usize = 8;

/// What an agent is doing, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// There, and idle.
    Available,
    /// There, with load; it may have room left.
    Busy,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Failed too fast too often; takes nothing for a while.
    Quarantined,
    /// Silent for longer than the ttl.
    Offline,
}

impl AgentStatus {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Busy,
        Self::Draining,
        Self::Quarantined,
        Self::Offline,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Quarantined => "quarantined",
            Self::Offline => "offline",
        }
    }
}

/// Where an agent is that no worker speaks for: a server sends it its tasks over the network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its URL.
    pub url: Arc<str>,
    /// The addresses that the URL's host had when the agent registered. No others are spoken to.
    pub addresses: Arc<[IpAddr]>,
    /// The environment variable of the server that has the token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<Arc<str>>,
}

/// Who executes tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its name for people.
    pub name: String,
    /// What it can do.
    pub capabilities: Arc<[Label]>,
    /// The models that it can use; none is any.
    pub models: Arc<[ModelName]>,
    /// The most attempts at a time; 0 is unlimited.
    pub max_load: u32,
    /// JSON text that is kept for people.
    pub metadata: Option<Box<str>>,
    /// When it first registered.
    pub registered_at: Timestamp,
    /// The worker process that speaks for it.
    pub session: Option<Arc<str>>,
    /// The sessions before it, the newest last; at most [`FORMER_SESSIONS`].
    pub former_sessions: Arc<[Arc<str>]>,
    /// Where it is, when a server speaks for it.
    pub peer: Option<Arc<Peer>>,
    /// Silent for longer than the ttl.
    pub offline: bool,
    /// Told to take nothing new.
    pub draining: bool,
    /// Takes nothing until then, because its provider limits its rate.
    pub paused_until: Option<Timestamp>,
    /// Takes nothing that needs these models until then.
    pub paused_models: BTreeMap<ModelName, Timestamp>,
    /// Takes nothing until then, because it failed too fast too often.
    pub quarantined_until: Option<Timestamp>,
    /// How many quarantines in a row; a success sets it back.
    pub quarantines: u32,
    /// The tasks of the fast failures in a row.
    pub fast_failures: Vec<TaskKey>,
    /// An offer of it went unanswered: nothing more is offered until it syncs. Not stored.
    pub mute: bool,
    /// When it was last heard of. Stored only along with other changes.
    pub last_seen: Timestamp,
    /// The highest sync number of this session. Not stored.
    pub last_n: Option<u64>,
    /// Attempts that occupy it, with those it has not taken yet. Stored with the attempts.
    pub attempts: Vec<AttemptKey>,
}

impl Agent {
    /// Whether `other` can take the same tasks, as far as this row says.
    pub fn routes_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.capabilities, &other.capabilities)
            && Arc::ptr_eq(&self.models, &other.models)
            && self.max_load == other.max_load
            && self.attempts.len() == other.attempts.len()
            && self.mute == other.mute
            && self.offline == other.offline
            && self.draining == other.draining
            && self.paused_until == other.paused_until
            && self.paused_models == other.paused_models
            && self.quarantined_until == other.quarantined_until
    }

    /// Whether `other` differs at most in what is not stored.
    pub fn same_stored(&self, other: &Self) -> bool {
        let softened = Self {
            last_seen: other.last_seen,
            last_n: other.last_n,
            mute: other.mute,
            attempts: other.attempts.clone(),
            ..self.clone()
        };
        softened == *other
    }

    /// Whether this session once spoke for it, and another does now.
    pub fn has_superseded(&self, session: &str) -> bool {
        self.former_sessions.iter().any(|former| &**former == session)
    }

    /// Lets another session speak for it, or none. Its numbers of syncs begin anew, and whoever spoke before is told so.
    pub fn hand_over(&mut self, session: Option<Arc<str>>) {
        if let Some(former) = self.session.take() {
            let kept = self.former_sessions.len().saturating_sub(FORMER_SESSIONS - 1);
            let newest = self.former_sessions.iter().skip(kept).cloned();
            self.former_sessions = newest.chain([former]).collect();
        }
        self.session = session;
        self.last_n = None;
        self.mute = false;
    }

    /// How many attempts occupy it.
    pub fn load(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// What others see it doing.
    pub fn status(&self) -> AgentStatus {
        if self.offline {
            AgentStatus::Offline
        } else if self.draining {
            AgentStatus::Draining
        } else if self.quarantined_until.is_some() {
            AgentStatus::Quarantined
        } else if self.attempts.is_empty() {
            AgentStatus::Available
        } else {
            AgentStatus::Busy
        }
    }

    /// Whether it is there, willing, not paused, and below its `max_load`.
    pub fn has_room(&self) -> bool {
        matches!(self.status(), AgentStatus::Available | AgentStatus::Busy)
            && self.paused_until.is_none()
            && (self.max_load == 0 || self.load() < self.max_load)
    }

    /// Whether it has all of these capabilities.
    pub fn has_all(&self, labels: &[Label]) -> bool {
        labels.iter().all(|label| self.capabilities.contains(label))
    }

    /// Whether it can use this model, pauses aside.
    pub fn has_model(&self, model: &ModelName) -> bool {
        self.models.is_empty() || self.models.contains(model)
    }

    /// Whether it has what a task asks for, pauses aside.
    pub fn can_do(&self, demand: &Demand) -> bool {
        self.has_all(&demand.labels) && demand.model.as_ref().is_none_or(|model| self.has_model(model))
    }

    /// The model that a task counts for here: the one it names, else the only one that the agent has.
    pub fn model_for<'a>(&'a self, asked: Option<&'a ModelName>) -> Option<&'a ModelName> {
        asked.or(match &*self.models {
            [only] => Some(only),
            _ => None,
        })
    }

    /// How long the next quarantine lasts: 1 min, doubling to 30 min.
    pub fn next_quarantine(&self) -> Span {
        QUARANTINE_BASE
            .times(1 << self.quarantines.min(10))
            .min(QUARANTINE_CAP)
    }

    /// When the passing of time alone ends a pause or a quarantine.
    pub fn recovers_at(&self) -> Option<Timestamp> {
        self.paused_until
            .into_iter()
            .chain(self.quarantined_until)
            .chain(self.paused_models.values().copied())
            .min()
    }
}
