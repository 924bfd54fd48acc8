//! Who was heard of, where, and when.
//!
//! A sign of life changes nothing that others must know at once, so it is not written. The server that hears an agent,
//! its home, remembers it; and its own row, written every few seconds, vouches for all agents whose home it is. When that
//! row is 15 seconds old the server counts as gone, and its agents have a full ttl from then on to appear elsewhere. So
//! nobody takes an agent for lost before the time that its server has told it.
//!
//! What is vouched for is no word of the agent: it is never written. Nor is what was stored before taken for newer than
//! what the home remembers: whoever writes a row without having heard the agent writes back what stood there.

use std::collections::HashMap;

use adjutant_core::agent::Agent;
use adjutant_core::name::AgentId;
use adjutant_core::time::{Span, Timestamp};

/// A server that has said so long nothing counts as gone.
const VOUCH_LASTS: Span = Span::from_secs(15);

/// What an agent said last, here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// When.
    pub(super) at: Timestamp,
    /// The number of that sync.
    pub(super) n: Option<u64>,
}

impl Heard {
    pub(super) const fn last_of(agent: &Agent) -> Self {
        Self {
            at: agent.last_seen,
            n: agent.last_n,
        }
    }
}

/// What this server knows of the agents that it hears.
#[derive(Debug)]
pub(super) struct Presence {
    /// The number of this server.
    server: i64,
    heard: HashMap<AgentId, Heard>,
    /// The agents of this turn as they are stored.
    met: HashMap<AgentId, Met>,
}

/// What the row of an agent says.
#[derive(Debug, Clone, Copy)]
struct Met {
    home: i64,
    stored: Heard,
}

/// How a changed agent is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// With this home, and with this as the last word of the agent.
    At(i64, Heard),
    /// Not at all: it only spoke, and here that is remembered.
    Not,
}

impl Presence {
    pub(super) fn new(server: i64) -> Self {
        Self {
            server,
            heard: HashMap::new(),
            met: HashMap::new(),
        }
    }

    /// When an agent was last heard of, as far as anybody can tell.
    pub(super) fn last_seen(
        &self,
        id: &AgentId,
        stored: Timestamp,
        home: i64,
        vouched_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let heard = if home == self.server {
            self.heard.get(id).map(|heard| heard.at)
        } else {
            // Before now, so that who speaks in this turn is seen to have spoken.
            vouched_at.map(|at| (now - Span::from_micros(1)).min(at + VOUCH_LASTS))
        };
        heard.map_or(stored, |heard| heard.max(stored))
    }

    /// An agent as it is stored becomes the agent as it is.
    pub(super) fn meet(
        &mut self,
        mut agent: Agent,
        home: i64,
        vouched_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Agent {
        let stored = Heard::last_of(&agent);
        agent.last_seen = self.last_seen(&agent.id, agent.last_seen, home, vouched_at, now);
        if home == self.server
            && let Some(heard) = self.heard.get(&agent.id)
            && heard.at >= agent.last_seen
        {
            agent.last_n = heard.n;
        }
        self.met.insert(agent.id.clone(), Met { home, stored });
        agent
    }

    /// How a change of an agent is to be written. One that `took` something has its number stored: an older sync, which
    /// does not list it yet and comes by another server, is then known to be older.
    pub(super) fn place(&self, before: Option<&Agent>, now: &Agent, took: bool) -> Written {
        let word = Heard::last_of(now);
        let (Some(before), Some(met)) = (before, self.met.get(&now.id)) else {
            return Written::At(self.server, word);
        };
        let is_at_home = met.home == self.server;
        let is_only_word = Agent {
            last_seen: before.last_seen,
            last_n: before.last_n,
            ..now.clone()
        } == *before;
        if is_only_word && is_at_home && !took {
            Written::Not
        } else if is_at_home || Self::spoke(before, now) {
            Written::At(self.server, word)
        } else {
            Written::At(met.home, met.stored)
        }
    }

    /// Whether an agent has spoken in this turn.
    pub(super) fn spoke(before: &Agent, now: &Agent) -> bool {
        now.last_seen > before.last_seen || now.last_n != before.last_n
    }

    /// A turn is committed: what was said in it counts.
    pub(super) fn remember(&mut self, id: &AgentId, heard: Option<Heard>) {
        match heard {
            Some(heard) => self.heard.insert(id.clone(), heard),
            None => self.heard.remove(id),
        };
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        self.met.clear();
    }
}
