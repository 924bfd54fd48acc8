//! The fleet's index, which follows the rows of agents, their limits and their counters.

use std::collections::HashSet;
use std::sync::Arc;

use super::rows::Onlooker;
use super::{Halt, Need, WorkingSet};
use crate::agent::Agent;
use crate::counter::Counter;
use crate::limit::{Ask, Policy, Scope};
use crate::name::{AgentId, ModelName};
use crate::router::indexed::Fleet;
use crate::router::{Candidate, Load, Profile};
use crate::time::Timestamp;

impl WorkingSet {
    /// The fleet, brought up to date.
    pub(crate) fn fleet(&mut self, now: Timestamp) -> Need<&mut Fleet> {
        while let Some(model) = self.stale_models.pop_first() {
            let scope = Scope::Model(model.clone());
            let (policy, counter) = (self.policy(&scope), self.counter(&scope));
            let (Ok(policy), Ok(counter)) = (policy, counter) else {
                self.stale_models.insert(model);
                return Err(Halt::Missing);
            };
            let closed = policy.permits(&scope, &counter, Ask::default(), now).is_err();
            self.fleet.set_closed(&model, closed);
        }
        while let Some(id) = self.stale_agents.pop_first() {
            match self.candidate(&id, now) {
                Ok(Some(candidate)) => self.fleet.put(candidate),
                Ok(None) => self.fleet.remove(&id),
                Err(halt) => {
                    self.stale_agents.insert(id);
                    return Err(halt);
                }
            }
        }
        Ok(&mut self.fleet)
    }

    /// The fleet for answers only: where servers share a store, with agents that are not locked.
    pub(crate) fn audience(&mut self, now: Timestamp) -> Need<&Fleet> {
        if self.complete {
            return self.fleet(now).map(|fleet| &*fleet);
        }
        self.need_everyone()?;
        if self.audience.is_empty() {
            for onlooker in self.onlookers.values() {
                let seen = as_looked_at(onlooker, &self.settings.default_allowance, now);
                self.audience.put(seen);
            }
        }
        Ok(&self.audience)
    }

    fn candidate(&mut self, id: &AgentId, now: Timestamp) -> Need<Option<Candidate>> {
        if let Some(onlooker) = self.candidates.get(id) {
            return Ok(Some(as_looked_at(
                onlooker,
                &self.settings.default_allowance,
                now,
            )));
        }
        let Some(Some(agent)) = self.agents.get(id) else {
            return Ok(None);
        };
        let agent = Arc::clone(agent);
        let scope = Scope::Agent(id.clone());
        let (policy, counter) = (self.policy(&scope)?, self.counter(&scope)?);
        Ok(Some(candidate(&agent, &policy, &counter, now)))
    }

    /// Whether an agent was only looked at. Nothing may be given to it before it is locked.
    pub(crate) fn is_mere_candidate(&self, id: &AgentId) -> bool {
        self.candidates.contains_key(id)
    }

    /// Asks for an agent that was chosen, and goes on as if it had been given something: so that all that a turn will
    /// give to somebody is asked for at once.
    pub(crate) fn choose(&mut self, id: &AgentId) {
        self.wanted.takers.insert(id.clone());
        self.fleet.load_one_more(id);
        self.chosen.push(id.clone());
    }

    /// Looks again at everything whose limits may have been relaxed by a new period.
    pub(crate) fn new_period(&mut self) {
        let refused: Vec<AgentId> = self.fleet.refused().cloned().collect();
        self.stale_agents.extend(refused);
        let models: HashSet<ModelName> = self
            .policies
            .rows()
            .filter_map(|(scope, _)| match scope {
                Scope::Model(model) => Some(model.clone()),
                _ => None,
            })
            .collect();
        self.stale_models.extend(models);
    }
}

/// An agent that is not locked, with what is set and used for it.
fn as_looked_at(onlooker: &Onlooker, default_allowance: &Policy, now: Timestamp) -> Candidate {
    let empty = Counter::new(Scope::Agent(onlooker.agent.id.clone()));
    let policy = onlooker.policy.as_deref().unwrap_or(default_allowance);
    let counter = onlooker.counter.as_deref().unwrap_or(&empty);
    candidate(&onlooker.agent, policy, counter, now)
}

fn candidate(agent: &Agent, policy: &Policy, counter: &Counter, now: Timestamp) -> Candidate {
    let paused: Vec<ModelName> = agent.paused_models.keys().cloned().collect();
    Candidate {
        profile: Profile::new(
            &agent.capabilities,
            &agent.models,
            &policy.model_allowlist,
            &paused,
        ),
        load: Load {
            current: agent.load(),
            max: agent.max_load,
        },
        online: !agent.offline,
        has_room: agent.has_room() && !agent.mute,
        permitted: policy
            .permits(&counter.scope, counter, Ask::default(), now)
            .is_ok(),
        id: agent.id.clone(),
    }
}
