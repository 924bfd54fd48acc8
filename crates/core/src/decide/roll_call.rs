//! Roll-call: agents register, say what they run, and hear what to start and what to stop.
//!
//! A dispatch *offers* an attempt; the agent's next sync that lists it *takes* it. Only offered attempts are sent
//! again; a taken one that a later sync does not list, nor finish, has ended as lost. So a lost answer loses nothing,
//! and nothing is started twice.
//!
//! # Invariants
//! - I2: an agent's load is what occupies it here, never what it says.
//! - A call of a session that was superseded changes nothing.
//! - Liveness is stamped when a sync arrives; an open connection proves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::custody::OFFER_TIMEOUT;
use super::{Reply, Turn, Verdict};
use crate::access::Actor;
use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey, AttemptState, Outcome, StopReason};
use crate::command::{Answer, Start, Stop, Sync, SyncAnswer, TaskView, Ticket};
use crate::event::EventKind;
use crate::name::{AgentId, TaskId};
use crate::rejection::{Rejection, Slug};
use crate::set::{Need, Opened, Waiter};
use crate::task::Task;
use crate::time::Span;

/// The most attempts that one answer starts, when the agent names no number.
const MAX_START: u32 = 1_000;

/// A sync on its way to its answer.
pub(super) struct PendingSync {
    agent: AgentId,
    max: Option<u32>,
    wait: Span,
    /// Attempts of this agent that it said it runs.
    running: Vec<AttemptKey>,
    /// What it runs and must stop, beyond what its attempts say.
    strange: Vec<Stop>,
    done: Vec<Result<Arc<Task>, Rejection>>,
    /// The session that spoke, if it said so.
    session: Option<Arc<str>>,
    /// Whether this is a plain heartbeat: it starts nothing.
    heartbeat: bool,
    /// Whether its number is that of the sync before: the answer to that one may have been lost.
    repeats: bool,
}

impl PendingSync {
    /// Lets the sync not wait, if it is this agent's.
    pub(super) fn end_wait_of(&mut self, id: &AgentId) {
        if self.agent == *id {
            self.wait = Span::ZERO;
        }
    }
}

impl Turn<'_> {
    // ---- sync ----------------------------------------------------------------------------------------------------

    pub(super) fn sync(&mut self, actor: &Actor, sync: &Sync) -> Need<Reply> {
        let agent = self.registered(&sync.agent)?;
        Self::check_session(&agent, sync)?;
        let mut seen = (*agent).clone();
        let repeats = sync.session.is_some() && sync.n.is_some() && sync.n == seen.last_n;
        let was_offline = seen.offline;
        seen.last_seen = self.now;
        seen.offline = false;
        if let Some(session) = &sync.session {
            if seen.session.is_none() {
                seen.session = Some(Arc::clone(session));
            }
            seen.last_n = sync.n.or(seen.last_n);
        }
        if sync.running.is_some() && seen.mute {
            seen.mute = false;
            self.set.opened.push(Opened::Agent(sync.agent.clone()));
        }
        self.set.put_agent(seen);
        self.set
            .timers
            .set(&sync.agent, self.now + self.set.settings.agent_ttl);
        if was_offline {
            self.set.emit(
                EventKind::AgentOnline,
                None,
                Some(&sync.agent),
                self.now,
                Vec::new(),
            );
            self.set.opened.push(Opened::Agent(sync.agent.clone()));
        }
        let done = self.complete_each(actor, &completions_of(sync))?;
        let Some(listed) = &sync.running else {
            return Ok(Reply::Sync(Box::new(PendingSync {
                agent: sync.agent.clone(),
                max: Some(0),
                wait: Span::ZERO,
                running: Vec::new(),
                strange: Vec::new(),
                done,
                session: sync.session.clone(),
                heartbeat: true,
                repeats: false,
            })));
        };
        self.supersede_waiter(&sync.agent);
        let finished: BTreeSet<(&TaskId, Option<u32>)> =
            sync.done.iter().map(|done| (&done.id, done.attempt)).collect();
        let mut running = Vec::with_capacity(listed.len());
        let mut strange = Vec::new();
        self.with_each(listed, |turn, item| {
            let ends =
                finished.contains(&(&item.id, Some(item.attempt))) || finished.contains(&(&item.id, None));
            match turn.hear_running(&sync.agent, &item.id, item.attempt)? {
                Ok(key) => running.push(key),
                // What it reports as done in the same call needs no stop.
                Err(_) if ends => {}
                Err(reason) => strange.push(Stop {
                    id: item.id.clone(),
                    attempt: item.attempt,
                    reason,
                }),
            }
            Ok(())
        })?;
        self.hear_silence(&sync.agent, &running)?;
        Ok(Reply::Sync(Box::new(PendingSync {
            agent: sync.agent.clone(),
            max: sync.max,
            wait: sync.wait.min(self.set.settings.agent_ttl.part(3)),
            running,
            strange,
            done,
            session: sync.session.clone(),
            heartbeat: false,
            repeats,
        })))
    }

    fn check_session(agent: &Agent, sync: &Sync) -> Need<()> {
        if let Some(peer) = &agent.peer
            && (sync.session.is_none() || sync.session != agent.session)
        {
            let message = format!(
                "a server speaks for agent `{}`, which is reached at {}",
                agent.id, peer.url
            );
            return Err(Rejection::new(Slug::Superseded, message).into());
        }
        let Some(session) = &sync.session else {
            return Ok(());
        };
        if agent.session.as_ref().is_some_and(|own| own != session) || agent.has_superseded(session) {
            return Err(superseded(&agent.id).into());
        }
        if let (Some(n), Some(last)) = (sync.n, agent.last_n)
            && n < last
        {
            return Err(Rejection::new(
                Slug::StaleSync,
                format!("n: sync {last} of this session was seen already"),
            )
            .into());
        }
        Ok(())
    }

    /// The agent says that it runs this attempt: it has taken it, or must stop it.
    fn hear_running(
        &mut self,
        agent: &AgentId,
        id: &TaskId,
        number: u32,
    ) -> Need<Result<AttemptKey, StopReason>> {
        let Some(task) = self.set.find_task(id)? else {
            return Ok(Err(StopReason::Unknown));
        };
        let key = AttemptKey { task, number };
        let attempt = match number {
            0 => None,
            _ => self.set.attempt(key)?,
        };
        let Some(attempt) = attempt.filter(|attempt| attempt.agent == *agent) else {
            return Ok(Err(StopReason::Unknown));
        };
        if attempt.is_live() {
            if attempt.state == AttemptState::Offered {
                let mut taken = (*attempt).clone();
                self.take(&mut taken)?;
                self.set.put_attempt(taken);
            }
            return Ok(Ok(key));
        }
        if attempt.occupies {
            return Ok(Ok(key));
        }
        Ok(Err(attempt
            .outcome()
            .map_or(StopReason::Ended, StopReason::after)))
    }

    /// What the agent has and did not list: taken attempts are lost, ended ones are over at last.
    fn hear_silence(&mut self, id: &AgentId, running: &[AttemptKey]) -> Need<()> {
        let agent = self.registered(id)?;
        for key in &agent.attempts {
            if running.contains(key) {
                continue;
            }
            let Some(attempt) = self.set.attempt(*key)? else {
                continue;
            };
            match attempt.state {
                AttemptState::Offered => {}
                AttemptState::Taken => self.lose(&attempt, "its agent no longer runs it")?,
                AttemptState::Ended(_) => self.vacate_row(&attempt)?,
            }
        }
        Ok(())
    }

    // ---- answers -------------------------------------------------------------------------------------------------

    /// The agent whose session is to be answered. Since it asked, the agent may have left, or a new session may have
    /// begun, in this very turn or on another server: what is offered is for that one.
    fn listener(&mut self, id: &AgentId, session: Option<&Arc<str>>) -> Need<Result<Arc<Agent>, Rejection>> {
        Ok(match self.set.agent(id)? {
            None => Err(Rejection::new(
                Slug::AgentNotFound,
                format!("agent `{id}` left in the meantime"),
            )),
            Some(agent) if session.is_some() && session != agent.session.as_ref() => Err(superseded(id)),
            Some(agent) => Ok(agent),
        })
    }

    /// Answers a sync, or lets it wait.
    pub(super) fn answer_sync(&mut self, ticket: Ticket, sync: PendingSync) -> Need<Option<Verdict>> {
        let agent = match self.listener(&sync.agent, sync.session.as_ref())? {
            Ok(agent) => agent,
            Err(rejection) => return Ok(Some(Err(rejection))),
        };
        let (mut stop, new_stop) = self.stops(&agent, &sync.running, sync.heartbeat)?;
        let repeated_stop = sync.repeats && !stop.is_empty();
        let news = new_stop || repeated_stop || self.is_news(&sync) || !sync.done.is_empty();
        stop.extend(self.still_strange(&agent, &sync.strange)?);
        let start = if sync.heartbeat {
            Vec::new()
        } else {
            self.offers(&agent, sync.max)?
        };
        if !news && start.is_empty() && !sync.wait.is_zero() {
            // Of two syncs in one turn the later one waits.
            self.supersede_waiter(&sync.agent);
            let waiter = Waiter {
                ticket,
                session: sync.session,
                max: sync.max,
                running: sync.running.into(),
                strange: sync.strange,
            };
            self.set.waiters.put(sync.agent, Some(Arc::new(waiter)));
            return Ok(None);
        }
        let done = self.views_of(sync.done, |_, task| Ok(task))?;
        Ok(Some(Ok(self.sync_answer(&agent, start, stop, done))))
    }

    /// What the agent runs and must stop, less what has become its own in the meantime: a store that was restored gives
    /// out numbers that an agent may know already.
    fn still_strange(&mut self, agent: &Agent, strange: &[Stop]) -> Need<Vec<Stop>> {
        if strange.is_empty() {
            return Ok(Vec::new());
        }
        let mut own = Vec::with_capacity(agent.attempts.len());
        for key in &agent.attempts {
            own.extend(self.set.attempt(*key)?.filter(|attempt| attempt.is_live()));
        }
        let is_own = |stop: &&Stop| {
            own.iter()
                .any(|attempt| attempt.task_id == stop.id && attempt.key.number == stop.attempt)
        };
        Ok(strange.iter().filter(|stop| !is_own(stop)).cloned().collect())
    }

    /// Whether something that the agent runs and must not was not told in the answer before.
    fn is_news(&mut self, sync: &PendingSync) -> bool {
        let strange: Vec<(TaskId, u32)> = sync
            .strange
            .iter()
            .map(|stop| (stop.id.clone(), stop.attempt))
            .collect();
        if strange.is_empty() {
            if !sync.heartbeat {
                self.set.tell_strange(&sync.agent, None);
            }
            return false;
        }
        let told = self
            .set
            .tell_strange(&sync.agent, Some(strange.clone()))
            .unwrap_or_default();
        sync.repeats || strange.iter().any(|stop| !told.contains(stop))
    }

    fn sync_answer(
        &self,
        agent: &Agent,
        start: Vec<Start>,
        stop: Vec<Stop>,
        done: Vec<Result<TaskView, Rejection>>,
    ) -> Answer {
        Answer::Sync(Box::new(SyncAnswer {
            start,
            stop,
            done,
            drain: agent.draining,
            lease_ttl: self.set.settings.agent_ttl,
        }))
    }

    /// What the agent runs and must stop; and whether it was not told so before. A heartbeat lists nothing: it hears
    /// of everything that the agent has.
    fn stops(&mut self, agent: &Agent, running: &[AttemptKey], all: bool) -> Need<(Vec<Stop>, bool)> {
        let mut stops = Vec::new();
        let mut news = false;
        let keys = if all { agent.attempts.as_slice() } else { running };
        for key in keys {
            let Some(attempt) = self.set.attempt(*key)? else {
                continue;
            };
            let reason = if attempt.is_live() {
                match attempt.stop {
                    None if self.is_used_up(&attempt)? => Some(StopReason::Limit),
                    stop => stop,
                }
            } else {
                attempt.stop.or_else(|| attempt.outcome().map(StopReason::after))
            };
            let Some(reason) = reason else { continue };
            if !attempt.stop_told || attempt.stop != Some(reason) {
                news = true;
                let told = Attempt {
                    stop: Some(reason),
                    stop_told: true,
                    ..(*attempt).clone()
                };
                self.set.put_attempt(told);
            }
            stops.push(Stop {
                id: attempt.task_id.clone(),
                attempt: key.number,
                reason,
            });
        }
        Ok((stops, news))
    }

    /// Whether a hard limit of some scope of this attempt is used up.
    fn is_used_up(&mut self, attempt: &Attempt) -> Need<bool> {
        let mut models: Vec<_> = attempt
            .usage
            .iter()
            .filter_map(|entry| entry.model.clone())
            .collect();
        models.extend(attempt.model.clone());
        let mut scopes = crate::ledger::scopes(attempt, None);
        scopes.extend(models.into_iter().map(crate::limit::Scope::Model));
        for scope in scopes {
            let policy = self.set.policy(&scope)?;
            if !policy.limits.is_empty() && policy.used_up(&*self.set.counter(&scope)?, self.now).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is offered to the agent, as part of an answer.
    fn offers(&mut self, agent: &Agent, max: Option<u32>) -> Need<Vec<Start>> {
        let mut start = Vec::new();
        let max = usize::try_from(max.unwrap_or(MAX_START).min(MAX_START)).unwrap_or(usize::MAX);
        for key in &agent.attempts {
            if start.len() >= max {
                break;
            }
            let Some(attempt) = self.set.attempt(*key)? else {
                continue;
            };
            if attempt.state != AttemptState::Offered {
                continue;
            }
            if attempt.delivered_at.is_none() {
                let delivered = Attempt {
                    delivered_at: Some(self.now),
                    ..(*attempt).clone()
                };
                self.set.put_attempt(delivered);
                self.set
                    .timers
                    .set(&agent.id, self.now + self.set.settings.agent_ttl);
            }
            let task = self.set.task(key.task)?;
            start.push(Start {
                view: self.view(&task)?,
                attempt: key.number,
                timeout: attempt.timeout,
            });
        }
        Ok(start)
    }

    // ---- waiting syncs -------------------------------------------------------------------------------------------

    /// A newer call ends an older sync that still waits: it hears nothing new.
    pub(super) fn supersede_waiter(&mut self, id: &AgentId) {
        if let Some(Some(waiter)) = self.set.waiters.get(id) {
            let ticket = waiter.ticket;
            self.set.waiters.put(id.clone(), None);
            let nothing = SyncAnswer {
                start: Vec::new(),
                stop: Vec::new(),
                done: Vec::new(),
                drain: false,
                lease_ttl: self.set.settings.agent_ttl,
            };
            self.set
                .answers
                .push((ticket, Ok(Answer::Sync(Box::new(nothing)))));
        }
    }

    /// The wait of a sync is over.
    pub(super) fn wait_over(&mut self, id: &AgentId, ticket: Ticket) -> Need<Reply> {
        if matches!(self.set.waiters.get(id), Some(Some(waiter)) if waiter.ticket == ticket) {
            self.answer_waiter_now(id)?;
        }
        // The sync itself may be part of this very turn.
        for (own, reply) in &mut self.replies {
            if let Reply::Sync(sync) = reply
                && *own == ticket
            {
                sync.wait = Span::ZERO;
            }
        }
        Ok(Reply::Now(Ok(Answer::Done)))
    }

    /// Answers a waiting sync with what there is, if only with nothing.
    pub(super) fn answer_waiter_now(&mut self, id: &AgentId) -> Need<()> {
        let Some(Some(waiter)) = self.set.waiters.get(id) else {
            return Ok(());
        };
        let waiter = Arc::clone(waiter);
        let verdict = match self.listener(id, waiter.session.as_ref())? {
            Ok(agent) => {
                let (mut stop, _) = self.stops(&agent, &waiter.running, false)?;
                stop.extend(self.still_strange(&agent, &waiter.strange)?);
                let start = self.offers(&agent, waiter.max)?;
                Ok(self.sync_answer(&agent, start, stop, Vec::new()))
            }
            Err(rejection) => Err(rejection),
        };
        self.set.waiters.put(id.clone(), None);
        self.set.answers.push((waiter.ticket, verdict));
        Ok(())
    }

    /// Another server may have started or stopped something of an agent that waits here.
    pub(super) fn hear_news(&mut self, agents: Option<&BTreeSet<AgentId>>) {
        let waiting = self.set.waiters.rows().map(|(id, _)| id);
        let concerned = waiting.filter(|id| agents.is_none_or(|agents| agents.contains(*id)));
        self.touched.extend(concerned.cloned());
    }

    /// Answers the waiting syncs that this turn has something for.
    pub(super) fn wake_waiters(&mut self, answers: &mut Vec<(Ticket, Verdict)>) -> Need<()> {
        let mut touched = std::mem::take(&mut self.touched);
        if self.hard_limit_reached {
            let running =
                |(id, waiter): (&AgentId, &Arc<Waiter>)| (!waiter.running.is_empty()).then(|| id.clone());
            touched.extend(self.set.waiters.rows().filter_map(running));
        }
        self.with_each(touched, |turn, id| {
            if let Some(answer) = turn.wake_waiter(id)? {
                answers.push(answer);
            }
            Ok(())
        })
    }

    fn wake_waiter(&mut self, id: AgentId) -> Need<Option<(Ticket, Verdict)>> {
        let Some(Some(waiter)) = self.set.waiters.get(&id) else {
            return Ok(None);
        };
        let waiter = Arc::clone(waiter);
        let verdict = match self.listener(&id, waiter.session.as_ref())? {
            Ok(agent) => {
                let (mut stop, new_stop) = self.stops(&agent, &waiter.running, false)?;
                stop.extend(self.still_strange(&agent, &waiter.strange)?);
                let start = self.offers(&agent, waiter.max)?;
                if start.is_empty() && !new_stop {
                    return Ok(None);
                }
                Ok(self.sync_answer(&agent, start, stop, Vec::new()))
            }
            Err(rejection) => Err(rejection),
        };
        self.set.waiters.put(id, None);
        Ok(Some((waiter.ticket, verdict)))
    }

    // ---- offers that go unanswered -------------------------------------------------------------------------------

    /// Takes back offers that were in no answer for too long, and loses those that were and were never taken.
    pub(super) fn check_offers(&mut self, id: &AgentId) -> Need<()> {
        let Some(agent) = self.set.agent(id)? else {
            return Ok(());
        };
        let ttl = self.set.settings.agent_ttl;
        for key in agent.attempts.clone() {
            let Some(attempt) = self.set.attempt(key)? else {
                continue;
            };
            if attempt.state != AttemptState::Offered {
                continue;
            }
            let offered = attempt.started_at.max(self.set.watched_since);
            match attempt.delivered_at {
                Some(delivered) if self.now.since(delivered.max(self.set.watched_since)) >= ttl => {
                    self.lose(&attempt, "it was offered and never taken")?;
                }
                Some(delivered) => self
                    .set
                    .timers
                    .set(id, delivered.max(self.set.watched_since) + ttl),
                None if self.now.since(offered) >= OFFER_TIMEOUT => self.take_back(&attempt)?,
                None => self.set.timers.set(id, offered + OFFER_TIMEOUT),
            }
        }
        Ok(())
    }

    fn take_back(&mut self, attempt: &Attempt) -> Need<()> {
        let agent = self.registered(&attempt.agent)?;
        self.set.put_agent(Agent {
            mute: true,
            ..(*agent).clone()
        });
        let task = self.set.task(attempt.key.task)?;
        self.end(attempt.clone(), Outcome::Released)?;
        self.give_back(&task, &attempt.agent, "its agent did not fetch it");
        Ok(())
    }
}

pub(super) fn superseded(id: &AgentId) -> Rejection {
    let message = format!("a newer session speaks for agent `{id}`; this worker is to exit");
    Rejection::new(Slug::Superseded, message)
}

fn completions_of(sync: &Sync) -> Vec<Result<crate::command::Completion, Rejection>> {
    sync.done
        .iter()
        .map(|done| {
            let mut done = done.clone();
            // In a roll-call only the agent itself speaks.
            match &done.agent {
                Some(other) if *other != sync.agent => Err(Rejection::new(
                    Slug::NotHolder,
                    format!(
                        "agent_id: `{other}` does not speak in the sync of `{}`",
                        sync.agent
                    ),
                )),
                _ => {
                    done.agent = Some(sync.agent.clone());
                    Ok(done)
                }
            }
        })
        .collect()
}
