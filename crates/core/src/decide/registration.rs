//! Registration: agents come, change, drain and leave.
//!
//! # Invariants
//! - I2: what an agent claimed before it registered counts in its load from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Reply, Turn};
use crate::agent::{Agent, AgentStatus};
use crate::attempt::{Attempt, AttemptKey, Outcome};
use crate::command::{Answer, NewAgent};
use crate::event::EventKind;
use crate::name::{AgentId, Label};
use crate::set::{Need, Opened};
use crate::task::Task;

impl Turn<'_> {
    pub(super) fn register(&mut self, new: &NewAgent) -> Need<Reply> {
        let known = self.set.agent(&new.id)?;
        let superseded = match (&known, &new.session) {
            (Some(agent), Some(session)) => agent.session.as_ref().is_some_and(|own| own != session),
            _ => false,
        };
        if superseded {
            for key in known.iter().flat_map(|agent| agent.attempts.clone()) {
                self.lose_or_vacate(key, "a new session of its agent began")?;
            }
            self.supersede_waiter(&new.id);
        }
        let known = self.set.agent(&new.id)?;
        let fresh = known.is_none();
        let was_offline = known.as_ref().is_some_and(|agent| agent.offline);
        let agent = match known {
            Some(agent) => Agent {
                name: new.name.clone(),
                capabilities: Arc::clone(&new.capabilities),
                models: Arc::clone(&new.models),
                max_load: new.max_load,
                metadata: new.metadata.clone(),
                session: new.session.clone().or_else(|| agent.session.clone()),
                offline: false,
                last_seen: self.now,
                last_n: if superseded { None } else { agent.last_n },
                mute: if superseded { false } else { agent.mute },
                ..(*agent).clone()
            },
            None => Agent {
                id: new.id.clone(),
                name: new.name.clone(),
                capabilities: Arc::clone(&new.capabilities),
                models: Arc::clone(&new.models),
                max_load: new.max_load,
                metadata: new.metadata.clone(),
                registered_at: self.now,
                session: new.session.clone(),
                offline: false,
                draining: false,
                paused_until: None,
                paused_models: BTreeMap::new(),
                quarantined_until: None,
                quarantines: 0,
                fast_failures: Vec::new(),
                mute: false,
                last_seen: self.now,
                last_n: None,
                attempts: Vec::new(),
            },
        };
        self.set
            .timers
            .set(&new.id, self.now + self.set.settings.agent_ttl);
        let agent = self.adopt_claims(agent)?;
        let agent = self.set.put_agent(agent);
        if fresh || superseded {
            self.set.emit(
                EventKind::AgentRegistered,
                None,
                Some(&new.id),
                self.now,
                Vec::new(),
            );
        } else if was_offline {
            self.set
                .emit(EventKind::AgentOnline, None, Some(&new.id), self.now, Vec::new());
        }
        self.set.opened.push(Opened::Agent(new.id.clone()));
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    /// What an agent claimed before it registered counts in its load from now on, and its lease is its liveness.
    fn adopt_claims(&mut self, mut agent: Agent) -> Need<Agent> {
        let counter = self.set.counter(&crate::limit::Scope::Agent(agent.id.clone()))?;
        if usize::try_from(counter.active).unwrap_or(usize::MAX) <= agent.attempts.len() {
            return Ok(agent);
        }
        let mut claims = self.set.claims_of(&agent.id);
        claims.sort_by_key(|attempt| attempt.key);
        for attempt in claims {
            let task = self.set.task(attempt.key.task)?;
            self.set.put_task(Task {
                lease_expires_at: None,
                ..(*task).clone()
            });
            self.set.put_attempt(Attempt {
                registered: true,
                ..(*attempt).clone()
            });
            agent.attempts.push(attempt.key);
        }
        Ok(agent)
    }

    pub(super) fn deregister(&mut self, id: &AgentId) -> Need<Reply> {
        let agent = self.registered(id)?;
        for key in agent.attempts.clone() {
            let Some(attempt) = self.set.attempt(key)? else {
                continue;
            };
            if attempt.is_live() {
                let task = self.set.task(key.task)?;
                self.end((*attempt).clone(), Outcome::Released)?;
                self.give_back(&task, id, "its agent left");
            } else {
                self.vacate_row(&attempt)?;
            }
        }
        let agent = self.registered(id)?;
        self.supersede_waiter(id);
        self.set.tell_strange(id, None);
        self.set.remove_agent(id);
        self.set
            .emit(EventKind::AgentDeregistered, None, Some(id), self.now, Vec::new());
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    pub(super) fn vacate_row(&mut self, attempt: &Attempt) -> Need<()> {
        let mut attempt = attempt.clone();
        self.vacate(&mut attempt)?;
        self.set.put_attempt(attempt);
        Ok(())
    }

    /// An attempt whose agent is gone: lost while it was live, or simply over.
    pub(super) fn lose_or_vacate(&mut self, key: AttemptKey, reason: &str) -> Need<()> {
        let Some(attempt) = self.set.attempt(key)? else {
            return Ok(());
        };
        if attempt.is_live() {
            self.lose(&attempt, reason)
        } else {
            self.vacate_row(&attempt)
        }
    }

    pub(super) fn drain(&mut self, id: &AgentId, draining: bool) -> Need<Reply> {
        let agent = self.registered(id)?;
        if agent.draining == draining {
            return Ok(Reply::Now(Ok(Answer::Agent(agent))));
        }
        let agent = self.set.put_agent(Agent {
            draining,
            ..(*agent).clone()
        });
        if draining {
            self.set
                .emit(EventKind::AgentDraining, None, Some(id), self.now, Vec::new());
            self.answer_waiter_now(id)?;
            // A sync of this very turn is not to wait either.
            for (_, reply) in &mut self.replies {
                if let Reply::Sync(sync) = reply {
                    sync.end_wait_of(id);
                }
            }
        } else {
            self.set
                .emit(EventKind::AgentOnline, None, Some(id), self.now, Vec::new());
            self.set.opened.push(Opened::Agent(id.clone()));
        }
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    /// An operator trusts the agent again.
    pub(super) fn lift(&mut self, id: &AgentId) -> Need<Reply> {
        let agent = self.registered(id)?;
        let agent = self.set.put_agent(Agent {
            quarantined_until: None,
            quarantines: 0,
            fast_failures: Vec::new(),
            paused_until: None,
            paused_models: BTreeMap::new(),
            ..(*agent).clone()
        });
        self.set
            .emit(EventKind::AgentOnline, None, Some(id), self.now, Vec::new());
        self.set.opened.push(Opened::Agent(id.clone()));
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    pub(super) fn list_agents(&mut self, status: Option<AgentStatus>, capabilities: &[Label]) -> Need<Reply> {
        let mut agents: Vec<Arc<Agent>> = self
            .set
            .all_agents()?
            .into_iter()
            .filter(|agent| status.is_none_or(|status| agent.status() == status))
            .filter(|agent| agent.has_all(capabilities))
            .collect();
        agents.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Reply::Now(Ok(Answer::Agents(agents))))
    }
}
