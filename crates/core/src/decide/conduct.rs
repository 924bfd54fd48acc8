//! Conduct: what the ends of attempts say of the agents that ran them. Quarantine, pauses, cooldowns.

use super::Turn;
use crate::agent::{Agent, FAST_FAILURE, FAST_FAILURES};
use crate::attempt::Attempt;
use crate::event::EventKind;
use crate::limit::Scope;
use crate::name::{AgentId, ModelName};
use crate::set::Need;
use crate::set::rows::Value;
use crate::time::{Span, Timestamp};

/// No pause for a rate limit is shorter.
const MIN_PAUSE: Span = Span::from_secs(5);
/// No pause for a rate limit is believed for longer.
const MAX_PAUSE: Span = Span::from_secs(7 * 86_400);

impl Turn<'_> {
    /// A success: whatever made the agent look like a black hole is forgotten.
    pub(super) fn praise(&mut self, id: &AgentId) -> Need<()> {
        if let Some(agent) = self.set.agent(id)?
            && (!agent.fast_failures.is_empty() || agent.quarantines > 0)
        {
            self.set.put_agent(Agent {
                fast_failures: Vec::new(),
                quarantines: 0,
                ..(*agent).clone()
            });
        }
        Ok(())
    }

    /// A failure: three fast ones in a row, of different tasks, put the agent in quarantine.
    pub(super) fn blame(&mut self, attempt: &Attempt) -> Need<()> {
        let Some(agent) = self.set.agent(&attempt.agent)? else {
            return Ok(());
        };
        let mut agent = (*agent).clone();
        if self.now.since(attempt.started_at) >= FAST_FAILURE {
            agent.fast_failures.clear();
        } else if !agent.fast_failures.contains(&attempt.key.task) {
            agent.fast_failures.push(attempt.key.task);
        }
        if agent.fast_failures.len() >= FAST_FAILURES {
            let until = self.now + agent.next_quarantine();
            agent.fast_failures.clear();
            agent.quarantines += 1;
            agent.quarantined_until = Some(until);
            self.set.timers.set(&agent.id, until);
            let payload = vec![("until", Value::Time(until))];
            self.set.emit(
                EventKind::AgentQuarantined,
                None,
                Some(&agent.id),
                self.now,
                payload,
            );
        }
        self.set.put_agent(agent);
        Ok(())
    }

    /// The agent's provider limits its rate: it takes nothing that needs the model until then.
    pub(super) fn pause(&mut self, id: &AgentId, model: Option<&ModelName>, until: Timestamp) -> Need<()> {
        // A time that has passed by our clock was meant to lie ahead: without any pause the task would be back at once.
        let until = until.clamp(self.now + MIN_PAUSE, self.now + MAX_PAUSE);
        let Some(agent) = self.set.agent(id)? else {
            return Ok(());
        };
        let mut agent = (*agent).clone();
        let mut payload = vec![("until", Value::Time(until))];
        match model {
            Some(model) => {
                let paused = agent.paused_models.entry(model.clone()).or_insert(until);
                *paused = (*paused).max(until);
                payload.push(("model", Value::Text(model.to_string())));
            }
            None => agent.paused_until = agent.paused_until.max(Some(until)),
        }
        self.set.put_agent(agent);
        self.set.timers.set(id, until);
        self.set
            .emit(EventKind::AgentPaused, None, Some(id), self.now, payload);
        Ok(())
    }

    /// After a failed attempt nothing starts in its repository for a while, where that is set.
    pub(super) fn cool_down(&mut self, attempt: &Attempt) -> Need<()> {
        let Some(repo) = &attempt.repo else { return Ok(()) };
        let scope = Scope::Repo(repo.clone());
        let span = self.set.policy(&scope)?.cooldown_after_failure;
        if span.is_zero() {
            return Ok(());
        }
        let mut counter = (*self.set.counter(&scope)?).clone();
        counter.cooldown_until = self.now + span;
        self.set.next_cooldown(counter.cooldown_until, scope);
        self.set.put_counter(counter);
        Ok(())
    }
}
