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

use super::account::{LATE_USAGE, Used};
use super::{Reply, Turn};
use crate::access::{Actor, Power};
use crate::agent::{Agent, FAST_FAILURE, FAST_FAILURES};
use crate::attempt::{Attempt, AttemptKey, AttemptState, Outcome, StopReason};
use crate::command::Completion;
use crate::event::EventKind;
use crate::limit::Scope;
use crate::name::{AgentId, ModelName, TaskId};
use crate::rejection::{Rejection, Slug};
use crate::set::rows::{Ending, Value};
use crate::set::{Halt, Need, Opened};
use crate::task::{Gate, MAX_FAILED_ON, Status, Task, TaskResult};
use crate::time::{Span, Timestamp};

/// An offer that was in no answer for so long is taken back.
pub(super) const OFFER_TIMEOUT: Span = Span::from_secs(30);
/// When waiting may help and nobody can say when, a client is told to try again so late.
const UNKNOWN_WAIT: Span = Span::from_secs(30);
/// No pause for a rate limit is shorter.
const MIN_PAUSE: Span = Span::from_secs(5);
/// No pause for a rate limit is believed for longer.
const MAX_PAUSE: Span = Span::from_secs(7 * 86_400);

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
        let attempt = Attempt {
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
            hold: self.hold_for(task, model)?,
            usage: Vec::new(),
            stop: None,
            stop_told: false,
            lingers_until: None,
        };
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

    // ---- claim ---------------------------------------------------------------------------------------------------

    pub(super) fn claim(&mut self, actor: &Actor, id: &TaskId, agent: Option<&AgentId>) -> Need<Reply> {
        let agent_id = match agent {
            Some(agent) => agent.clone(),
            None => AgentId::from(&*actor.name),
        };
        if !actor.may_act_as(&agent_id) {
            return Err(Rejection::new(
                Slug::Forbidden,
                format!("agent_id: this token may not act as agent `{agent_id}`"),
            )
            .into());
        }
        let task = self.named(id)?;
        self.check_claimable(&task)?;
        let agent = self.set.agent(&agent_id)?;
        if let Some(agent) = &agent {
            self.check_claimant(&task, agent)?;
        }
        let model = agent.as_ref().map_or(task.class.demand.model.as_ref(), |agent| {
            agent.model_for(task.class.demand.model.as_ref())
        });
        let model = model.cloned();
        if let Err(refusal) = self.permits(&task, &agent_id, model.as_ref())? {
            let slug = if refusal.too_large {
                Slug::ExceedsAllowance
            } else {
                Slug::QuotaExceeded
            };
            let wait = match refusal.until {
                Some(until) => Some(until.since(self.now)),
                None if refusal.too_large => None,
                // The end of another attempt, or an operator, may help: there is no telling when.
                None => Some(UNKNOWN_WAIT),
            };
            return Err(Rejection::new(slug, refusal.reason.clone())
                .retry_after(wait)
                .into());
        }
        Ok(Reply::Then(self.start(
            &task,
            &agent_id,
            agent.as_deref(),
            true,
        )?))
    }

    fn check_claimable(&mut self, task: &Task) -> Need<()> {
        let no = |message: String| Err(Halt::from(Rejection::new(Slug::TaskNotClaimable, message)));
        match task.status {
            Status::InProgress => {
                return Err(Rejection::new(Slug::TaskAlreadyClaimed, "task already claimed")
                    .with_details(format!(
                        "attempt {} of agent `{}` holds it",
                        task.attempt,
                        task.claimed_by.as_ref().map_or("", AgentId::as_str)
                    ))
                    .into());
            }
            Status::Blocked if task.held => return no("task is held by an operator".into()),
            Status::Blocked => {
                return no(format!("task waits for {} of its dependencies", task.unmet));
            }
            Status::Completed | Status::Failed | Status::Cancelled => {
                return no(format!("task is {}", task.status.name()));
            }
            Status::Pending => {}
        }
        if let Some(until) = task.delayed_until.filter(|until| *until > self.now) {
            return Err(Rejection::new(
                Slug::TaskNotClaimable,
                format!("task is not to be started before {until}"),
            )
            .retry_after(Some(until.since(self.now)))
            .into());
        }
        if let Some((lock, why)) = self.lock_in_the_way(task)? {
            return no(format!("lock `{lock}` {why}"));
        }
        Ok(())
    }

    fn check_claimant(&mut self, task: &Task, agent: &Agent) -> Need<()> {
        use crate::agent::AgentStatus;
        let id = &agent.id;
        let no = |slug, message: String| Err(Halt::from(Rejection::new(slug, message)));
        let wait = |until: Option<Timestamp>, now: Timestamp| until.map(|until| until.since(now));
        match agent.status() {
            AgentStatus::Offline => return no(Slug::AgentOffline, format!("agent `{id}` is offline")),
            AgentStatus::Draining => return no(Slug::AgentDraining, format!("agent `{id}` is draining")),
            AgentStatus::Quarantined => {
                return Err(
                    Rejection::new(Slug::AgentQuarantined, format!("agent `{id}` is quarantined"))
                        .retry_after(wait(agent.quarantined_until, self.now))
                        .into(),
                );
            }
            AgentStatus::Available | AgentStatus::Busy => {}
        }
        let demand = &task.class.demand;
        let lacking: Vec<&str> = demand
            .labels
            .iter()
            .filter(|label| !agent.capabilities.contains(label))
            .map(crate::name::Label::as_str)
            .collect();
        if !lacking.is_empty() {
            return no(
                Slug::MissingCapability,
                format!("agent `{id}` lacks: {}", lacking.join(", ")),
            );
        }
        if let Some(model) = &demand.model
            && !agent.has_model(model)
        {
            return no(
                Slug::MissingCapability,
                format!("agent `{id}` cannot use model {model}"),
            );
        }
        let paused = agent.paused_until.max(
            agent
                .model_for(demand.model.as_ref())
                .and_then(|model| agent.paused_models.get(model).copied()),
        );
        if paused.is_some() {
            return Err(Rejection::new(
                Slug::AgentPaused,
                format!("agent `{id}` waits for its provider's rate limit"),
            )
            .retry_after(wait(paused, self.now))
            .into());
        }
        if !agent.has_room() {
            return no(
                Slug::AgentFull,
                format!(
                    "agent `{id}` has no room: {} of {} attempts",
                    agent.load(),
                    agent.max_load
                ),
            );
        }
        Ok(())
    }

    // ---- completion ----------------------------------------------------------------------------------------------

    pub(super) fn complete_all(
        &mut self,
        actor: &Actor,
        items: &[Result<Completion, Rejection>],
        batch: bool,
    ) -> Need<Reply> {
        if !batch && let [item] = items {
            let completion = item.as_ref().map_err(Clone::clone)?;
            return Ok(match self.complete(actor, completion)? {
                Ok(task) => Reply::Then(task),
                // What it spent is booked; the answer is no all the same.
                Err(rejection) => Reply::Now(Err(rejection)),
            });
        }
        Ok(Reply::BatchThen(self.complete_each(actor, items)?))
    }

    /// Completes one after the other; each bad one fails alone.
    pub(super) fn complete_each(
        &mut self,
        actor: &Actor,
        items: &[Result<Completion, Rejection>],
    ) -> Need<Vec<Result<Arc<Task>, Rejection>>> {
        let mut results = Vec::with_capacity(items.len());
        let mut missing = false;
        for item in items {
            let mark = self.set.mark();
            let done = item.as_ref().map_err(|rejection| Halt::from(rejection.clone()));
            match done.and_then(|completion| self.complete(actor, completion)) {
                Ok(result) => results.push(result),
                Err(halt) => {
                    self.set.rewind(mark);
                    match halt {
                        Halt::Rejected(rejection) => results.push(Err(*rejection)),
                        Halt::Missing => missing = true,
                    }
                }
            }
        }
        if missing { Err(Halt::Missing) } else { Ok(results) }
    }

    /// The inner error refuses the completion, though its tokens are booked: spent tokens are spent.
    fn complete(&mut self, actor: &Actor, completion: &Completion) -> Need<Result<Arc<Task>, Rejection>> {
        let task = self.named(&completion.id)?;
        let number = completion.attempt.unwrap_or(task.attempt);
        let attempt = self.attempt_of(&task, number)?;
        let speaks = Self::check_speaker(
            actor,
            &task,
            &attempt,
            completion.agent.as_ref(),
            completion.attempt,
        );
        let mut attempt = (*attempt).clone();
        let told = attempt.stop;
        let used = Self::totals(&task, &attempt, completion);
        if let Err(Halt::Rejected(rejection)) = speaks {
            return self.refuse_stranger(actor, attempt, used.as_ref(), *rejection);
        }
        speaks?;
        match attempt.state {
            AttemptState::Offered | AttemptState::Taken => {
                if let Some(used) = &used {
                    self.use_by(&mut attempt, used)?;
                }
                // Only an agent that was told to stop for a limit before ends for it.
                attempt.stop = told;
                let task = self.set.task(task.key)?;
                if completion.agent.is_none() && actor.is_admin() {
                    // An operator speaks for the agent, which may still run it.
                    self.touched.insert(attempt.agent.clone());
                }
                self.end_by_report(&task, attempt, completion).map(Ok)
            }
            AttemptState::Ended(outcome) => {
                self.complete_late(&task, attempt, outcome, completion, used.as_ref())
            }
        }
    }

    /// A completion in the name of another agent is refused; what it says was spent by an attempt that has ended is
    /// booked all the same, to the agent that ran it, if the speaker may speak for that one.
    fn refuse_stranger(
        &mut self,
        actor: &Actor,
        mut attempt: Attempt,
        used: Option<&Used>,
        rejection: Rejection,
    ) -> Need<Result<Arc<Task>, Rejection>> {
        let open = attempt
            .ended_at
            .is_some_and(|ended| self.now.since(ended) <= LATE_USAGE);
        match used {
            Some(used) if open && actor.may_act_as(&attempt.agent) => {
                self.use_by(&mut attempt, used)?;
                self.set.put_attempt(attempt);
                Ok(Err(rejection))
            }
            _ => Err(rejection.into()),
        }
    }

    /// A completion of an attempt that has ended.
    fn complete_late(
        &mut self,
        task: &Task,
        mut attempt: Attempt,
        outcome: Outcome,
        completion: &Completion,
        used: Option<&Used>,
    ) -> Need<Result<Arc<Task>, Rejection>> {
        let open = attempt
            .ended_at
            .is_none_or(|ended| self.now.since(ended) <= LATE_USAGE);
        if open && let Some(used) = used {
            self.use_by(&mut attempt, used)?;
        }
        let task = self.set.task(task.key)?;
        let success = completion.result.success;
        let current = task.attempt == attempt.key.number;
        let limited = completion.rate_limited_until.is_some() || attempt.stop == Some(StopReason::Limit);
        let repeat = match outcome {
            Outcome::Completed => success,
            Outcome::Failed => !success && completion.rate_limited_until.is_none(),
            Outcome::Released => !success && limited,
            _ => false,
        };
        // Whatever it reports, it no longer runs.
        self.vacate(&mut attempt)?;
        if repeat {
            self.set.put_attempt(attempt);
            return Ok(Ok(task));
        }
        let waits = matches!(task.status, Status::Pending | Status::Blocked | Status::Failed);
        if success && current && waits && outcome.may_succeed_late() {
            self.book_late_success(&attempt)?;
            attempt.state = AttemptState::Ended(Outcome::Completed);
            let agent = attempt.agent.clone();
            self.praise(&agent)?;
            self.set.put_attempt(attempt);
            let done = Task {
                claimed_by: Some(agent.clone()),
                ..(*task).clone()
            };
            return self.finish_success(done, &agent, &completion.result).map(Ok);
        }
        let number = attempt.key.number;
        self.set.put_attempt(attempt);
        let message = if current {
            format!("attempt {number} has ended: {}", outcome.name())
        } else {
            format!("attempt {number} is not the current one: {}", task.attempt)
        };
        Ok(Err(Rejection::new(Slug::StaleAttempt, message).with_details(
            format!("task `{}` is {}", task.id, task.status.name()),
        )))
    }

    /// The attempt that a request is about.
    pub(super) fn attempt_of(&mut self, task: &Task, number: u32) -> Need<Arc<Attempt>> {
        let attempt = match number {
            0 => None,
            _ if number > task.attempt => None,
            _ => self.set.attempt(AttemptKey {
                task: task.key,
                number,
            })?,
        };
        attempt.ok_or_else(|| {
            let message = if number == 0 {
                format!(
                    "task `{}` is {}: nobody has claimed it",
                    task.id,
                    task.status.name()
                )
            } else {
                format!("task `{}` has no attempt {number}", task.id)
            };
            Rejection::new(
                if number == 0 {
                    Slug::WrongState
                } else {
                    Slug::StaleAttempt
                },
                message,
            )
            .into()
        })
    }

    /// Whether the speaker may speak for this attempt.
    pub(super) fn check_speaker(
        actor: &Actor,
        task: &Task,
        attempt: &Attempt,
        agent: Option<&AgentId>,
        named: Option<u32>,
    ) -> Need<()> {
        if let Power::Attempt { .. } = actor.power {
            if actor.is_attempt(&task.id, attempt.key.number) && attempt.is_live() {
                return Ok(());
            }
            return Err(Rejection::new(Slug::StaleAttempt, "this attempt has ended").into());
        }
        let holder = &attempt.agent;
        let speaks = match agent {
            Some(agent) => agent == holder && actor.may_act_as(agent),
            None => actor.may_act_as(holder),
        };
        if speaks {
            return Ok(());
        }
        let whose = named.map_or_else(
            || format!("task `{}`", task.id),
            |number| format!("attempt {number} of task `{}`", task.id),
        );
        Err(Rejection::new(
            Slug::NotHolder,
            match agent {
                Some(agent) => format!("agent `{agent}` does not hold {whose}"),
                None => format!("this token does not speak for the holder of {whose}"),
            },
        )
        .into())
    }

    fn totals(task: &Task, attempt: &Attempt, completion: &Completion) -> Option<Used> {
        if completion.tokens.is_none() && completion.cost.is_none() {
            return None;
        }
        let reported = || attempt.usage.last().and_then(|entry| entry.model.clone());
        let model: Option<ModelName> = completion
            .model
            .clone()
            .or_else(|| task.class.demand.model.clone())
            .or_else(reported)
            .or_else(|| attempt.model.clone());
        Some(Used {
            model,
            tokens: completion.tokens.unwrap_or_default(),
            cost: completion.cost,
            total: true,
        })
    }

    /// A live attempt ends by the word of its agent.
    fn end_by_report(
        &mut self,
        task: &Arc<Task>,
        attempt: Attempt,
        completion: &Completion,
    ) -> Need<Arc<Task>> {
        if completion.result.success {
            let agent = attempt.agent.clone();
            self.praise(&agent)?;
            self.end(attempt, Outcome::Completed)?;
            return self.finish_success((**task).clone(), &agent, &completion.result);
        }
        if let Some(until) = completion.rate_limited_until {
            let (agent, model) = (attempt.agent.clone(), completion.model.clone());
            let unasked = model.is_some() && model != attempt.model;
            self.end(attempt, Outcome::Released)?;
            self.pause(&agent, model.as_ref(), until)?;
            let task = self.give_back(task, &agent, "rate limited");
            return Ok(if unasked {
                self.put_off(&task, &agent)
            } else {
                task
            });
        }
        if attempt.stop == Some(StopReason::Limit) {
            self.release_for_limit(task, &attempt)?;
            return self.set.task(task.key);
        }
        let reason = match completion.result.error_message.as_str() {
            "" => "failed without a message",
            message => message,
        };
        self.blame(&attempt)?;
        self.fail(
            task,
            attempt,
            Outcome::Failed,
            reason,
            Some(completion.result.clone()),
        )
    }

    pub(super) fn finish_success(
        &mut self,
        task: Task,
        agent: &AgentId,
        result: &TaskResult,
    ) -> Need<Arc<Task>> {
        let done = self.set.put_task(Task {
            status: Status::Completed,
            held: false,
            gate: None,
            delayed_until: None,
            lease_expires_at: None,
            deadline: None,
            progress: 100,
            has_result: true,
            updated_at: self.now,
            ..task
        });
        self.set.put_ending(Ending {
            task: done.key,
            result: Some(result.clone()),
            fail_reason: None,
        });
        let payload = vec![("attempt", Value::Number(done.attempt.into()))];
        self.set.emit(
            EventKind::TaskCompleted,
            Some(&done),
            Some(agent),
            self.now,
            payload,
        );
        self.tell_dependents(done, false)
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
    fn put_off(&mut self, task: &Task, agent: &AgentId) -> Arc<Task> {
        let until = self.now + task.backoff(task.attempt);
        let mut failed_on = task.failed_on.to_vec();
        if !failed_on.contains(agent) {
            failed_on.push(agent.clone());
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

    // ---- what an end says of its agent ---------------------------------------------------------------------------

    /// A success: whatever made the agent look like a black hole is forgotten.
    fn praise(&mut self, id: &AgentId) -> Need<()> {
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
    fn pause(&mut self, id: &AgentId, model: Option<&ModelName>, until: Timestamp) -> Need<()> {
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
    fn cool_down(&mut self, attempt: &Attempt) -> Need<()> {
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

/// Reasons in events are short; the whole text stands in the task.
fn clip(text: &str) -> String {
    const MAX: usize = 500;
    text.chars().take(MAX).collect()
}
