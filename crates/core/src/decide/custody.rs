//! Custody: the life of an attempt, from its start to its end.
//!
//! # Invariants
//! - I1: an attempt starts only on a pending task, and makes it `in_progress`; its end makes it something else.
//! - I8: what names an attempt that is not the current one changes nothing but the ledger.
//! - I10: an acknowledged completion is never undone; the same completion again answers the same.
//!
//! # Not here
//! Which agent gets which task: `dispatch`. What an attempt costs: `account`.

use std::sync::Arc;

use super::{Reply, Turn};
use crate::access::Actor;
use crate::agent::Agent;
use crate::attempt::{Attempt, AttemptKey, AttemptState, Hold, Outcome, StopReason};
use crate::event::EventKind;
use crate::limit::Scope;
use crate::name::{AgentId, TaskId};
use crate::rejection::{Rejection, Slug};
use crate::set::rows::{Ending, Value};
use crate::set::{Need, Opened};
use crate::task::{Gate, MAX_FAILED_ON, Status, Task, TaskResult};
use crate::time::Span;

/// An offer that was in no answer for so long is taken back.
pub(super) const OFFER_TIMEOUT: Span = Span::from_secs(30);
impl Turn<'_> {
    // ---- start ---------------------------------------------------------------------------------------------------

    /// Starts an attempt. That it may start was checked before.
    pub(super) fn start(
        &mut self,
        task: &Task,
        agent_id: &AgentId,
        agent: Option<&Agent>,
        claimed: bool,
    ) -> Need<Arc<Task>> {
        let model = agent.map_or(task.class.demand.model.as_ref(), |agent| {
            agent.model_for(task.class.demand.model.as_ref())
        });
        let policy = self.set.policy(&Scope::Agent(agent_id.clone()))?;
        let timeout = match (task.timeout, policy.max_job_duration) {
            (Some(own), Some(cap)) => Some(own.min(cap)),
            (own, cap) => own.or(cap),
        };
        let number = task.attempt + 1;
        let key = AttemptKey {
            task: task.key,
            number,
        };
        let mut attempt = Attempt {
            key,
            task_id: task.id.clone(),
            external: false,
            agent: agent_id.clone(),
            registered: agent.is_some(),
            state: if claimed {
                AttemptState::Taken
            } else {
                AttemptState::Offered
            },
            occupies: true,
            model: model.cloned(),
            project: task.project.clone(),
            repo: task.repo.clone(),
            produces: task.produces,
            locks: Arc::clone(&task.locks),
            started_at: self.now,
            ended_at: None,
            delivered_at: None,
            timeout,
            hold: Hold::default(),
            usage: Vec::new(),
            stop: None,
            stop_told: false,
            lingers_until: None,
        };
        attempt.hold = self.hold_at_start(task, &attempt)?;
        self.book_start(&attempt, 1)?;
        for lock in &*task.locks {
            self.set.put_lock(lock, Some(key));
        }
        if let Some(agent) = agent {
            let mut agent = agent.clone();
            agent.attempts.push(key);
            self.set.put_agent(agent);
            self.set.timers.set(agent_id, self.now + OFFER_TIMEOUT);
            self.touched.insert(agent_id.clone());
        }
        let lease = agent
            .is_none()
            .then(|| self.now + timeout.unwrap_or(self.set.settings.claim_lease));
        let started = Task {
            status: Status::InProgress,
            gate: None,
            attempt: number,
            claimed_by: Some(agent_id.clone()),
            claimed_at: Some(self.now),
            last_attempt: Some(self.now),
            lease_expires_at: lease,
            deadline: if claimed {
                timeout.map(|timeout| self.now + timeout)
            } else {
                None
            },
            progress: 0,
            updated_at: self.now,
            ..task.clone()
        };
        let kind = if claimed {
            EventKind::TaskClaimed
        } else {
            EventKind::TaskDispatched
        };
        let started = self.set.put_task(started);
        let payload = vec![("attempt", Value::Number(number.into()))];
        self.set
            .emit(kind, Some(&started), Some(agent_id), self.now, payload);
        self.set.put_attempt(attempt);
        Ok(started)
    }

    /// An agent has shown that it has an offered attempt.
    pub(super) fn take(&mut self, attempt: &mut Attempt) -> Need<()> {
        if attempt.state != AttemptState::Offered {
            return Ok(());
        }
        attempt.state = AttemptState::Taken;
        if let Some(timeout) = attempt.timeout {
            let task = self.set.task(attempt.key.task)?;
            self.set.put_task(Task {
                deadline: Some(self.now + timeout),
                ..(*task).clone()
            });
        }
        Ok(())
    }

    // ---- ends ----------------------------------------------------------------------------------------------------

    /// Ends a live attempt: settles its account and frees its place and its locks, unless it may still be running.
    pub(super) fn end(&mut self, mut attempt: Attempt, outcome: Outcome) -> Need<()> {
        let taken = attempt.state == AttemptState::Taken;
        self.settle(&mut attempt, outcome)?;
        let may_run_on = taken && matches!(outcome, Outcome::Cancelled | Outcome::TimedOut);
        if may_run_on && !attempt.registered {
            // Nobody will say when a plain client has stopped: its lease tells.
            let task = self.set.task(attempt.key.task)?;
            attempt.lingers_until = task.lease_expires_at.filter(|until| *until > self.now);
            if let Some(until) = attempt.lingers_until {
                self.set.linger(until, attempt.key);
            }
        }
        if may_run_on && (attempt.registered || attempt.lingers_until.is_some()) {
            attempt.stop.get_or_insert(match outcome {
                Outcome::Cancelled => StopReason::Cancelled,
                _ => StopReason::Timeout,
            });
            self.touched.insert(attempt.agent.clone());
        } else {
            if taken && matches!(outcome, Outcome::Released | Outcome::Lost) {
                // Whoever waits may still run it.
                self.touched.insert(attempt.agent.clone());
            }
            self.vacate(&mut attempt)?;
        }
        self.set.put_attempt(attempt);
        Ok(())
    }

    /// Frees the place and the locks of an attempt that has ended.
    pub(super) fn vacate(&mut self, attempt: &mut Attempt) -> Need<()> {
        if !attempt.occupies {
            return Ok(());
        }
        attempt.occupies = false;
        for lock in attempt.locks.iter() {
            if self.set.lock_holder(lock)? == Some(attempt.key) {
                self.set.put_lock(lock, None);
                self.set.opened.push(Opened::Gate(Gate::Lock(lock.clone())));
            }
        }
        if let Some(agent) = self.set.agent(&attempt.agent)?
            && agent.attempts.contains(&attempt.key)
        {
            let mut agent = (*agent).clone();
            agent.attempts.retain(|own| *own != attempt.key);
            self.set.put_agent(agent);
        }
        self.set.opened.push(Opened::Agent(attempt.agent.clone()));
        Ok(())
    }

    /// A failed attempt: the task waits for its next one, or is a dead letter.
    pub(super) fn fail(
        &mut self,
        task: &Arc<Task>,
        attempt: Attempt,
        outcome: Outcome,
        reason: &str,
        result: Option<TaskResult>,
    ) -> Need<Arc<Task>> {
        let (agent, number) = (attempt.agent.clone(), attempt.key.number);
        self.cool_down(&attempt)?;
        self.end(attempt, outcome)?;
        let retries = task.retry_count + 1;
        let payload = vec![
            ("attempt", Value::Number(number.into())),
            ("outcome", Value::Text(outcome.name().into())),
            ("reason", Value::Text(clip(reason))),
        ];
        self.set.emit(
            EventKind::TaskAttemptFailed,
            Some(task),
            Some(&agent),
            self.now,
            payload,
        );
        let mut failed_on = task.failed_on.to_vec();
        if !failed_on.contains(&agent) {
            failed_on.push(agent.clone());
            let excess = failed_on.len().saturating_sub(MAX_FAILED_ON);
            failed_on.drain(..excess);
        }
        let has_result = result.is_some();
        self.set.put_ending(Ending {
            task: task.key,
            result,
            fail_reason: Some(reason.to_owned()),
        });
        let failed = Task {
            retry_count: retries,
            failed_on: failed_on.into(),
            lease_expires_at: None,
            deadline: None,
            has_result,
            updated_at: self.now,
            ..(**task).clone()
        };
        if retries < task.max_retries {
            let until = self.now + task.backoff(retries);
            let waiting = self.set.put_task(Task {
                status: Status::Pending,
                claimed_by: None,
                delayed_until: Some(until),
                ready_since: until,
                ..failed
            });
            let payload = vec![
                ("retry", Value::Number(retries.into())),
                ("not_before", Value::Time(until)),
            ];
            self.set
                .emit(EventKind::TaskRetried, Some(&waiting), None, self.now, payload);
            return Ok(waiting);
        }
        let dead = self.set.put_task(Task {
            status: Status::Failed,
            ..failed
        });
        let payload = vec![("reason", Value::Text(clip(reason)))];
        self.set.emit(
            EventKind::TaskDeadLettered,
            Some(&dead),
            Some(&agent),
            self.now,
            payload,
        );
        self.tell_dependents(dead, false)
    }

    /// A task whose attempt was given back waits again at once, with no failure counted.
    pub(super) fn give_back(&mut self, task: &Arc<Task>, agent: &AgentId, why: &str) -> Arc<Task> {
        let task = self.set.put_task(Task {
            status: Status::Pending,
            claimed_by: None,
            lease_expires_at: None,
            deadline: None,
            ready_since: self.now,
            updated_at: self.now,
            ..(**task).clone()
        });
        let payload = vec![
            ("attempt", Value::Number(task.attempt.into())),
            ("reason", Value::Text(why.into())),
        ];
        self.set.emit(
            EventKind::TaskReleased,
            Some(&task),
            Some(agent),
            self.now,
            payload,
        );
        self.set.opened.push(Opened::Task(task.key));
        task
    }

    /// An attempt that was stopped for a limit ends as released.
    pub(super) fn release_for_limit(&mut self, task: &Arc<Task>, attempt: &Attempt) -> Need<()> {
        let unasked = attempt
            .usage
            .iter()
            .any(|entry| entry.model.is_some() && entry.model != attempt.model);
        self.end(attempt.clone(), Outcome::Released)?;
        let task = self.give_back(task, &attempt.agent, "limit");
        if unasked {
            self.put_off(&task, &attempt.agent);
        }
        Ok(())
    }

    /// The check of a dispatch does not see a model that the task does not name. What was stopped for such a model is
    /// not started again at once on the same agent, only to spend and be stopped again.
    pub(super) fn put_off(&mut self, task: &Task, agent: &AgentId) -> Arc<Task> {
        let until = self.now + task.backoff(task.attempt);
        let mut failed_on = task.failed_on.to_vec();
        if !failed_on.contains(agent) {
            failed_on.push(agent.clone());
            let excess = failed_on.len().saturating_sub(MAX_FAILED_ON);
            failed_on.drain(..excess);
        }
        self.set.put_task(Task {
            delayed_until: Some(until),
            ready_since: until,
            failed_on: failed_on.into(),
            ..task.clone()
        })
    }

    /// An attempt whose agent is gone or no longer knows of it: a failed one.
    pub(super) fn lose(&mut self, attempt: &Attempt, reason: &str) -> Need<()> {
        let task = self.set.task(attempt.key.task)?;
        let payload = vec![("attempt", Value::Number(attempt.key.number.into()))];
        self.set.emit(
            EventKind::LeaseExpired,
            Some(&task),
            Some(&attempt.agent),
            self.now,
            payload,
        );
        if attempt.stop == Some(StopReason::Limit) {
            return self.release_for_limit(&task, attempt);
        }
        self.fail(&task, attempt.clone(), Outcome::Lost, reason, None)?;
        Ok(())
    }

    // ---- release -------------------------------------------------------------------------------------------------

    pub(super) fn release(
        &mut self,
        actor: &Actor,
        id: &TaskId,
        number: Option<u32>,
        agent: Option<&AgentId>,
    ) -> Need<Reply> {
        let task = self.named(id)?;
        let attempt = self.current(actor, &task, number, agent)?;
        let holder = attempt.agent.clone();
        self.end((*attempt).clone(), Outcome::Released)?;
        let why = if actor.is_admin() {
            "by an operator"
        } else {
            "by its agent"
        };
        let task = self.set.task(task.key)?;
        Ok(Reply::Then(self.give_back(&task, &holder, why)))
    }

    /// The live attempt of a task, when the speaker may speak for it.
    pub(super) fn current(
        &mut self,
        actor: &Actor,
        task: &Task,
        number: Option<u32>,
        agent: Option<&AgentId>,
    ) -> Need<Arc<Attempt>> {
        let attempt = self.attempt_of(task, number.unwrap_or(task.attempt))?;
        Self::check_speaker(actor, task, &attempt, agent, number)?;
        if attempt.is_live() {
            return Ok(attempt);
        }
        let message = match number {
            Some(number) if number != task.attempt => {
                format!("attempt {number} is not the current one: {}", task.attempt)
            }
            _ => format!("task `{}` is {}, not in progress", task.id, task.status.name()),
        };
        let slug = if number.is_some() {
            Slug::StaleAttempt
        } else {
            Slug::WrongState
        };
        Err(Rejection::new(slug, message).into())
    }
}

/// Reasons in events are short; the whole text stands in the task.
fn clip(text: &str) -> String {
    const MAX: usize = 500;
    text.chars().take(MAX).collect()
}
