//! Completions: the word of an agent on how its attempt went, in time or late.
//!
//! # Invariants
//! - I8: a stale completion changes nothing but the ledger.
//! - I10: the same completion again answers the same.

use std::sync::Arc;

use super::account::{LATE_USAGE, Used};
use super::{Reply, Turn};
use crate::access::{Actor, Power};
use crate::attempt::{Attempt, AttemptKey, AttemptState, Outcome, StopReason};
use crate::command::Completion;
use crate::event::EventKind;
use crate::name::{AgentId, ModelName};
use crate::rejection::{Rejection, Slug};
use crate::set::rows::{Ending, Value};
use crate::set::{Halt, Need};
use crate::task::{Status, Task, TaskResult};

impl Turn<'_> {
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
            self.learn(task, &attempt)?;
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
        self.learn(task, &attempt)?;
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
}
