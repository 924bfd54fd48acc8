//! I6: a task is never given to an agent that could have run one that stands before it.

use adjutant_core::agent::Agent;
use adjutant_core::limit::Scope;
use adjutant_core::task::Task;

use super::{Check, Started, Witness, hold};

impl Witness {
    /// Only what is certain counts: an earlier task that asks for no more than the one that was taken, of the same
    /// model, with no lock, repository or project that could be in its way.
    pub(super) fn order(&self, started: &[Started]) -> Check {
        for start in started.iter().filter(|start| !start.claimed) {
            let (Some(attempt), Some(taken)) =
                (self.attempts.get(&start.key), self.tasks.get(&start.key.task))
            else {
                continue;
            };
            let Some(agent) = self.agents.get(&attempt.agent) else {
                continue;
            };
            for key in self.ready.range(..taken.order()).map(|(_, key)| key) {
                let earlier = &self.tasks[key];
                hold!(
                    !self.could_run(agent, earlier, taken),
                    "I6: {:?} went to {:?}, which could run {:?}, {:?} and earlier",
                    taken.id,
                    agent.id,
                    earlier.id,
                    earlier.priority
                );
            }
        }
        Ok(())
    }

    fn could_run(&self, agent: &Agent, earlier: &Task, taken: &Task) -> bool {
        let demand = &earlier.class.demand;
        let bounded = |scope: &Scope| {
            self.policies
                .get(scope)
                .is_some_and(|policy| !policy.limits.is_empty() || !policy.cooldown_after_failure.is_zero())
        };
        let unbounded = earlier
            .repo
            .clone()
            .map(Scope::Repo)
            .into_iter()
            .chain(earlier.project.clone().map(Scope::Project))
            .all(|scope| !bounded(&scope));
        agent.has_all(&demand.labels)
            && demand.model == taken.class.demand.model
            && earlier.locks.is_empty()
            && earlier.produces.is_none()
            && unbounded
            && (earlier.estimated_tokens == 0 || earlier.estimated_tokens <= taken.estimated_tokens)
    }
}
