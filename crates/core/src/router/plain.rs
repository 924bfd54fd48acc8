//! The plain router: the specification.

use super::{Ask, Candidate, Rank, Route};
use crate::name::AgentId;

/// Looks at every candidate and keeps the best.
#[derive(Debug, Default)]
pub struct Plain {
    /// All agents.
    pub candidates: Vec<Candidate>,
}

impl Plain {
    fn best<'a>(
        &'a self,
        ask: Ask<'a>,
        admits: &mut dyn FnMut(&AgentId) -> bool,
        avoided: bool,
    ) -> Option<&'a AgentId> {
        self.candidates
            .iter()
            .filter(|candidate| candidate.takes() && candidate.profile.serves(ask.demand))
            .filter(|candidate| avoided || !ask.avoid.contains(&candidate.id))
            .filter(|candidate| admits(&candidate.id))
            .map(|candidate| Rank {
                critical: ask.critical,
                load: candidate.load,
                bonus: candidate.profile.bonus(ask.demand),
                id: &candidate.id,
            })
            .min_by(Rank::compare)
            .map(|rank| rank.id)
    }
}

impl Route for Plain {
    fn route(&self, ask: Ask<'_>, admits: &mut dyn FnMut(&AgentId) -> bool) -> Option<AgentId> {
        let fresh = self.best(ask, admits, false);
        if fresh.is_some() || ask.avoid.is_empty() {
            return fresh.cloned();
        }
        self.best(ask, admits, true).cloned()
    }
}
