//! Timers of agents: when to look at one again, because the passing of time alone changes something for it.
//!
//! Nothing is moved when an agent is heard of: an entry that comes up too early is looked at and put back. So a
//! heartbeat costs nothing here, however many agents there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::name::AgentId;
use crate::time::Timestamp;

/// When to look at agents again.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, AgentId)>>,
    next: HashMap<AgentId, Timestamp>,
}

impl Timers {
    /// Looks at this agent at `at`, or earlier if that is asked for already.
    pub fn set(&mut self, agent: &AgentId, at: Timestamp) {
        match self.next.get_mut(agent) {
            Some(next) if *next <= at => {}
            Some(next) => {
                *next = at;
                self.heap.push(Reverse((at, agent.clone())));
            }
            None => {
                self.next.insert(agent.clone(), at);
                self.heap.push(Reverse((at, agent.clone())));
            }
        }
    }

    /// The agents to look at now.
    pub fn due(&mut self, now: Timestamp) -> Vec<AgentId> {
        let mut due = Vec::new();
        while let Some(Reverse((at, _))) = self.heap.peek() {
            if *at > now {
                break;
            }
            let Some(Reverse((at, agent))) = self.heap.pop() else {
                break;
            };
            // An entry that was replaced by an earlier one says nothing any more.
            if self.next.get(&agent) == Some(&at) {
                self.next.remove(&agent);
                due.push(agent);
            }
        }
        due
    }

    /// The earliest time at which an agent is to be looked at.
    pub fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
