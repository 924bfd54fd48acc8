//! The clock: what the passing of time alone brings.
//!
//! Silence counts only while the server watched. After a start, and after a gap of its own (sleep, a step of the
//! clock, a store that was out of reach), every agent gets a full ttl again.

use super::{Reply, Turn};
use crate::agent::Agent;
use crate::attempt::{AttemptState, Outcome, StopReason};
use crate::command::Answer;
use crate::event::EventKind;
use crate::name::AgentId;
use crate::set::rows::{MAX_DUE, MAX_FANOUT};
use crate::set::{Need, Opened};
use crate::task::{Gate, Status, Task, TaskKey};
use crate::time::{Span, Timestamp};

/// How often free locks that tasks wait for are offered again.
const LOCK_SWEEP: Span = Span::from_secs(5);

impl Turn<'_> {
    /// Notes the time, and whether the server was away since the last turn.
    pub(super) fn watch(&mut self) {
        self.set.begin_turn();
        let last = self.set.last_now;
        let gap = self.now.since(last);
        if last == Timestamp::EPOCH || gap > self.set.settings.agent_ttl.part(4) {
            self.set.watched_since = self.now;
        }
        if last != Timestamp::EPOCH && last.hour() != self.now.hour() {
            self.set.new_hour = true;
        }
        self.set.last_now = self.now;
    }

    pub(super) fn tick(&mut self) -> Need<Reply> {
        if self.set.new_hour {
            self.set.hour_looked_at = true;
            self.set.new_period();
            self.set.opened.push(Opened::All);
        }
        let mut due = self.set.timers.due(self.now);
        due.sort();
        self.set.popped.extend(due.iter().cloned());
        self.with_each(due, |turn, id| turn.check_agent(&id))?;
        let are_more_silent = !self.set.is_complete() && self.check_shared()?;
        self.check_lingering()?;
        self.check_cooldowns();
        self.check_tasks()?;
        if are_more_silent {
            self.set.wake_task_at(self.now);
        }
        self.sweep_locks();
        Ok(Reply::Now(Ok(Answer::Done)))
    }

    /// Where servers share a store, another one may have been the one that watched and is gone.
    /// Says whether there are more who went silent than one turn deals with.
    fn check_shared(&mut self) -> Need<bool> {
        let due = self.set.due(self.now)?;
        let mut are_more_silent = false;
        self.with_each(due.silent.iter().take(MAX_DUE), |turn, id| {
            turn.check_agent(id)?;
            // While nobody can be reaped, the next turn would find the same.
            are_more_silent |= turn.set.agent(id)?.is_some_and(|agent| agent.offline);
            Ok(())
        })?;
        are_more_silent &= due.silent.len() > MAX_DUE;
        self.with_each(due.lingering, |turn, key| {
            let attempt = turn.set.attempt(key)?;
            if let Some(until) = attempt.and_then(|attempt| attempt.lingers_until) {
                turn.set.linger(until, key);
            }
            Ok(())
        })?;
        self.set.wake_task_at(due.next.unwrap_or(Timestamp::NEVER));
        if !due.tasks.is_empty() {
            self.set.wake_task_at(self.now);
        }
        Ok(are_more_silent)
    }

    /// Looks at everything that time changes for an agent, and says when to look again.
    fn check_agent(&mut self, id: &AgentId) -> Need<()> {
        let Some(agent) = self.set.agent(id)? else {
            return Ok(());
        };
        if !agent.offline {
            let expires = agent.last_seen.max(self.set.watched_since) + self.set.settings.agent_ttl;
            if expires <= self.now {
                self.reap(&agent)?;
            } else {
                self.set.timers.set(id, expires);
            }
        }
        self.recover(id)?;
        self.check_offers(id)
    }

    /// An agent that was silent for longer than the ttl: its attempts are lost.
    fn reap(&mut self, agent: &Agent) -> Need<()> {
        self.set.put_agent(Agent {
            offline: true,
            ..agent.clone()
        });
        self.set.emit(
            EventKind::AgentOffline,
            None,
            Some(&agent.id),
            self.now,
            Vec::new(),
        );
        for key in &agent.attempts {
            self.lose_or_vacate(*key, "agent lost")?;
        }
        Ok(())
    }

    /// Ends pauses and quarantines whose time has come.
    fn recover(&mut self, id: &AgentId) -> Need<()> {
        let Some(agent) = self.set.agent(id)? else {
            return Ok(());
        };
        let now = self.now;
        if agent.recovers_at().is_some_and(|at| at <= now) {
            let mut agent = (*agent).clone();
            agent.paused_until = agent.paused_until.filter(|until| *until > now);
            agent.quarantined_until = agent.quarantined_until.filter(|until| *until > now);
            agent.paused_models.retain(|_, until| *until > now);
            self.set.put_agent(agent);
            self.set.opened.push(Opened::Agent(id.clone()));
        }
        if let Some(at) = self.set.agent(id)?.and_then(|agent| agent.recovers_at()) {
            self.set.timers.set(id, at);
        }
        Ok(())
    }

    /// Claims of plain clients whose lease is over at last, and jobs dispatched elsewhere whose slot is.
    fn check_lingering(&mut self) -> Need<()> {
        let over: Vec<_> = self
            .set
            .lingering
            .iter()
            .take_while(|(until, _)| *until <= self.now)
            .copied()
            .collect();
        for (until, key) in over {
            self.set.lingering_seen.push((until, key));
            let Some(attempt) = self.set.attempt(key)? else {
                continue;
            };
            if attempt.lingers_until != Some(until) {
                continue;
            }
            self.end_external(&attempt, until)?;
            if attempt.occupies && !attempt.is_live() {
                self.lose_or_vacate(key, "its lease ended")?;
            }
        }
        Ok(())
    }

    fn check_cooldowns(&mut self) {
        let over: Vec<_> = self
            .set
            .cooldowns
            .iter()
            .take_while(|(until, _)| *until <= self.now)
            .cloned()
            .collect();
        for (until, scope) in over {
            self.open(&scope);
            self.set.cooldowns_seen.push((until, scope));
        }
    }

    /// Tasks whose time has come: delays that ended, timeouts, leases of plain clients, and ends whose dependents
    /// are not all told.
    fn check_tasks(&mut self) -> Need<()> {
        if self.set.next_task_wake > self.now {
            return Ok(());
        }
        let due = self.set.due(self.now)?;
        // What this turn changed is not stored yet: the store does not know when that wakes.
        self.set.next_task_wake = self.set.changed_wake().min(due.next.unwrap_or(Timestamp::NEVER));
        let mut budget = MAX_FANOUT;
        self.with_each(due.tasks, |turn, key| turn.check_task(key, &mut budget))
    }

    fn check_task(&mut self, key: TaskKey, budget: &mut usize) -> Need<()> {
        let mut task = self.set.task(key)?;
        if task.fanout.is_some() {
            task = self.go_on_telling(key, budget)?;
        }
        let over = |time: Option<Timestamp>| time.is_some_and(|time| time <= self.now);
        match task.status {
            Status::Pending if over(task.delayed_until) => {
                self.set.put_task(Task {
                    delayed_until: None,
                    ready_since: self.now,
                    ..(*task).clone()
                });
                self.set.opened.push(Opened::Task(key));
            }
            Status::InProgress if over(task.deadline) => self.time_out(key)?,
            Status::InProgress if over(task.lease_expires_at) => {
                let attempt = self.attempt_of(&task, task.attempt)?;
                self.lose(&attempt, "its lease expired")?;
            }
            _ => {
                if let Some(at) = task.wakes_at() {
                    self.set.wake_task_at(at);
                }
            }
        }
        Ok(())
    }

    fn time_out(&mut self, key: TaskKey) -> Need<()> {
        let task = self.set.task(key)?;
        let attempt = self.attempt_of(&task, task.attempt)?;
        if attempt.state != AttemptState::Taken {
            return Ok(());
        }
        if attempt.stop == Some(StopReason::Limit) {
            return self.release_for_limit(&task, &attempt);
        }
        let limit = attempt.timeout.unwrap_or_default();
        self.blame(&attempt)?;
        let reason = format!("timed out after {limit}");
        self.fail(&task, (*attempt).clone(), Outcome::TimedOut, &reason, None)?;
        Ok(())
    }

    /// A lock may be free and yet be kept from all who want it, because an earlier task that wants it had an agent
    /// then and has none now. So free locks are offered again now and then. Where servers share a store, the passes that
    /// look at everything do that.
    fn sweep_locks(&mut self) {
        if !self.set.is_complete() || self.now.since(self.set.locks_swept) < LOCK_SWEEP {
            return;
        }
        self.set.locks_swept = self.now;
        let gates: Vec<Gate> = self
            .set
            .queues
            .gates()
            .filter(|gate| matches!(gate, Gate::Lock(_)))
            .cloned()
            .collect();
        for gate in gates {
            let Gate::Lock(lock) = &gate else { continue };
            if matches!(self.set.lock_holder(lock), Ok(None)) {
                self.set.opened.push(Opened::Gate(gate));
            }
        }
    }
}
