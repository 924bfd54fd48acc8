//! Registration: agents come, change, drain and leave.
//!
//! # Invariants
//! - I2: what an agent claimed before it registered counts in its load from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::roll_call::superseded;
use super::{Reply, Turn};
use crate::access::Actor;
use crate::agent::{Agent, AgentStatus, Peer};
use crate::attempt::{Attempt, AttemptKey, Outcome};
use crate::command::{Answer, NewAgent};
use crate::event::EventKind;
use crate::name::{AgentId, Label};
use crate::rejection::{Rejection, Slug};
use crate::set::{Need, Opened};
use crate::task::Task;

impl Turn<'_> {
    pub(super) fn register(&mut self, actor: &Actor, new: &NewAgent) -> Need<Reply> {
        let known = self.set.agent(&new.id)?;
        let moved = Self::check_peer(actor, known.as_deref(), new)?;
        let superseded = match (&known, &new.session) {
            (Some(agent), Some(session)) => {
                if agent.has_superseded(session) {
                    // It was on its way when the next session began.
                    return Err(superseded(&agent.id).into());
                }
                agent.session.as_ref().is_some_and(|own| own != session)
            }
            _ => false,
        };
        let cut_off = match (superseded, moved) {
            (true, _) => Some("a new session of its agent began"),
            (_, true) => Some("its agent is reached in another way now"),
            _ => None,
        };
        if let Some(reason) = cut_off {
            for key in known.iter().flat_map(|agent| agent.attempts.clone()) {
                self.lose_or_vacate(key, reason)?;
            }
            self.supersede_waiter(&new.id);
        }
        let mut known = self.set.agent(&new.id)?;
        if let Some(agent) = known.as_mut().filter(|_| cut_off.is_some()) {
            Arc::make_mut(agent).hand_over(new.session.clone());
        }
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
                peer: new.peer.clone(),
                offline: false,
                last_seen: self.now,
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
                former_sessions: Arc::default(),
                peer: new.peer.clone(),
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

    /// Only administrators say where an agent is, since a server goes there; and no worker takes the place of one. Whether
    /// it is somewhere else than before.
    fn check_peer(actor: &Actor, known: Option<&Agent>, new: &NewAgent) -> Need<bool> {
        let before = known.and_then(|agent| agent.peer.as_deref());
        if let Some(peer) = before {
            Self::must_steer(actor, &new.id, peer)?;
        }
        match (before, &new.peer) {
            (Some(peer), None) => {
                let message = format!(
                    "agent `{}` is reached at {}: remove it before a worker takes its place, or name a url",
                    new.id, peer.url
                );
                Err(Rejection::new(Slug::WrongState, message).into())
            }
            (_, Some(_)) if !actor.is_admin() => {
                let message = "url: only an administrator registers an agent that the server goes to";
                Err(Rejection::new(Slug::Forbidden, message).into())
            }
            (before, Some(peer)) => Ok(known.is_some() && before.is_none_or(|before| before.url != peer.url)),
            (None, None) => Ok(false),
        }
    }

    /// Whether this speaker may change or remove an agent that a server goes to.
    fn must_steer(actor: &Actor, id: &AgentId, peer: &Peer) -> Need<()> {
        if actor.is_admin() {
            return Ok(());
        }
        let message = format!(
            "agent `{id}` is reached at {}: only an administrator changes that",
            peer.url
        );
        Err(Rejection::new(Slug::Forbidden, message).into())
    }

    /// A server speaks for an agent. While another does that is heard of, it goes on to.
    pub(super) fn adopt(&mut self, id: &AgentId, session: &Arc<str>, alone: bool) -> Need<Reply> {
        let agent = self.registered(id)?;
        if agent.peer.is_none() {
            let message = format!("agent `{id}` has no url: workers speak for it");
            return Err(Rejection::new(Slug::WrongState, message).into());
        }
        if agent.has_superseded(session) {
            return Err(superseded(id).into());
        }
        match &agent.session {
            Some(own) if own == session => return Ok(Reply::Now(Ok(Answer::Agent(agent)))),
            Some(_) if !alone && !agent.offline => {
                let message = format!("another server speaks for agent `{id}`");
                return Err(Rejection::new(Slug::Superseded, message).into());
            }
            _ => {}
        }
        self.supersede_waiter(id);
        let mut agent = (*agent).clone();
        agent.hand_over(Some(Arc::clone(session)));
        agent.last_seen = self.now;
        self.set.timers.set(id, self.now + self.set.settings.agent_ttl);
        if std::mem::take(&mut agent.offline) {
            self.set
                .emit(EventKind::AgentOnline, None, Some(id), self.now, Vec::new());
        }
        let agent = self.set.put_agent(agent);
        self.set.opened.push(Opened::Agent(id.clone()));
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    /// A server is about to stop, and leaves its agent to the next one.
    pub(super) fn abandon(&mut self, id: &AgentId, session: &Arc<str>) -> Need<Reply> {
        let agent = self.registered(id)?;
        if agent.session.as_ref() != Some(session) {
            return Err(superseded(id).into());
        }
        self.supersede_waiter(id);
        let mut agent = (*agent).clone();
        agent.hand_over(None);
        // A word from it like any other: whoever comes next has a whole ttl.
        agent.last_seen = self.now;
        self.set.timers.set(id, self.now + self.set.settings.agent_ttl);
        let agent = self.set.put_agent(agent);
        Ok(Reply::Now(Ok(Answer::Agent(agent))))
    }

    /// What an agent claimed before it registered counts in its load from now on, and its lease is its liveness.
    fn adopt_claims(&mut self, mut agent: Agent) -> Need<Agent> {
        let counter = self.set.counter(&crate::limit::Scope::Agent(agent.id.clone()))?;
        if usize::try_from(counter.active).unwrap_or(usize::MAX) <= agent.attempts.len() {
            return Ok(agent);
        }
        let mut claims = self.set.claims_of(&agent.id)?;
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

    pub(super) fn deregister(&mut self, actor: &Actor, id: &AgentId) -> Need<Reply> {
        let agent = self.registered(id)?;
        if let Some(peer) = &agent.peer {
            Self::must_steer(actor, id, peer)?;
        }
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
