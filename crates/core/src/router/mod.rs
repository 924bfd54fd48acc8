//! The router: which agent takes a task, and which tasks an agent can take.
//!
//! Stages, named as they are in the code: **eligible** (has room, has the labels and the model, limits permit) →
//! **rank** (load and preferred labels, as exact fractions) → assign (elsewhere).
//!
//! [`Plain`](plain::Plain) is the specification: look at every candidate, keep the best. [`Fleet`](indexed::Fleet)
//! is what runs: it answers the same at a cost that does not grow with the number of agents. A property test holds
//! the two together.
//!
//! # Not here
//! Whether limits permit a start: [`crate::limit`]. What happens with the agent that is found:
//! [`crate::decide`].

pub mod indexed;
pub mod plain;

use std::cmp::Ordering;

use crate::name::{AgentId, Label, ModelName};
use crate::task::Demand;

/// At most this many preferred labels raise an agent's score.
pub const MAX_BONUS: u8 = 5;

/// What agents must have in common to be able to take exactly the same tasks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Profile {
    /// Capabilities, sorted, each once.
    pub capabilities: Vec<Label>,
    /// The agent's own models, sorted; empty is any.
    pub models: Vec<ModelName>,
    /// The models that its allowance permits, sorted; empty is any.
    pub allowlist: Vec<ModelName>,
    /// The models that it cannot use for now, sorted.
    pub paused: Vec<ModelName>,
}

impl Profile {
    /// The profile with these parts, in any order.
    pub fn new(
        capabilities: &[Label],
        models: &[ModelName],
        allowlist: &[ModelName],
        paused: &[ModelName],
    ) -> Self {
        fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
            let mut items = items.to_vec();
            items.sort();
            items.dedup();
            items
        }
        Self {
            capabilities: sorted(capabilities),
            models: sorted(models),
            allowlist: sorted(allowlist),
            paused: sorted(paused),
        }
    }

    fn has(&self, label: &Label) -> bool {
        self.capabilities.binary_search(label).is_ok()
    }

    /// Whether agents of this profile have what a task asks for, permissions and pauses aside.
    pub fn is_capable(&self, demand: &Demand) -> bool {
        demand.labels.iter().all(|label| self.has(label))
            && demand
                .model
                .as_ref()
                .is_none_or(|model| self.models.is_empty() || self.models.binary_search(model).is_ok())
    }

    /// The model that a task counts for with agents of this profile: its own, else the only one that they have.
    pub fn model_for<'a>(&'a self, demand: &'a Demand) -> Option<&'a ModelName> {
        demand.model.as_ref().or(match self.models.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }

    /// Whether agents of this profile may take a task with this demand, limits and room aside.
    pub fn serves(&self, demand: &Demand) -> bool {
        self.is_capable(demand)
            && self.model_for(demand).is_none_or(|model| {
                (self.allowlist.is_empty() || self.allowlist.binary_search(model).is_ok())
                    && self.paused.binary_search(model).is_err()
            })
    }

    /// Tenths that preferred labels add to the score.
    pub fn bonus(&self, demand: &Demand) -> u8 {
        let held = demand.prefers.iter().filter(|label| self.has(label)).count();
        u8::try_from(held).unwrap_or(u8::MAX).min(MAX_BONUS)
    }
}

/// How loaded an agent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Attempts that occupy it.
    pub current: u32,
    /// The most that it takes; 0 is unlimited.
    pub max: u32,
}

impl Load {
    /// The loaded share as numerator and denominator; nothing where there is no bound.
    const fn share(self) -> (i128, i128) {
        if self.max == 0 {
            (0, 1)
        } else {
            (self.current as i128, self.max as i128)
        }
    }

    /// Compares `1 − load/max + bonus/10` of two agents exactly.
    pub fn compare_scores(self, bonus: u8, other: Self, other_bonus: u8) -> Ordering {
        let ((load, max), (other_load, other_max)) = (self.share(), other.share());
        let ours = (i128::from(bonus) * max - 10 * load) * other_max;
        let theirs = (i128::from(other_bonus) * other_max - 10 * other_load) * max;
        ours.cmp(&theirs)
    }
}

/// An agent as the router sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its id.
    pub id: AgentId,
    /// What it can do.
    pub profile: Profile,
    /// How loaded it is.
    pub load: Load,
    /// Whether it is not offline.
    pub online: bool,
    /// Whether it has room: there, willing, not paused, below its `max_load`, and heard of since its last offer.
    pub has_room: bool,
    /// Whether its own limits permit a start with nothing to hold.
    pub permitted: bool,
}

impl Candidate {
    /// Whether it can take something.
    pub const fn takes(&self) -> bool {
        self.has_room && self.permitted
    }
}

/// What is asked of the router.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What the task asks of an agent.
    pub demand: &'a Demand,
    /// Whether the task is critical: then the lowest absolute load wins.
    pub critical: bool,
    /// Agents that failed the task: taken only when no other has room.
    pub avoid: &'a [AgentId],
}

/// Finds the agent for a task. `admits` says whether the limits that depend on the task's size permit an agent.
pub trait Route {
    /// The best agent, if there is one.
    fn route(&self, ask: Ask<'_>, admits: &mut dyn FnMut(&AgentId) -> bool) -> Option<AgentId>;
}

/// A candidate's rank for one task; the lowest is the best.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank<'a> {
    pub(crate) critical: bool,
    pub(crate) load: Load,
    pub(crate) bonus: u8,
    pub(crate) id: &'a AgentId,
}

impl Rank<'_> {
    pub(crate) fn compare(&self, other: &Rank<'_>) -> Ordering {
        let by_score = if self.critical {
            Ordering::Equal
        } else {
            other.load.compare_scores(other.bonus, self.load, self.bonus)
        };
        by_score
            .then_with(|| self.load.current.cmp(&other.load.current))
            .then_with(|| self.id.cmp(other.id))
    }
}
