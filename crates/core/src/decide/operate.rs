//! What operators and planners do with tasks: change, cancel, retry, hold; and what an end means for dependents.
//!
//! # Invariants
//! - I7: a dependent is ready only when every dependency has completed; that is told in the transaction of the
//!   completion, for the first thousand dependents, and in the turns right after it for the rest.

use std::sync::Arc;

use super::{Reply, Turn};
use crate::access::Actor;
use crate::attempt::Outcome;
use crate::command::{Completion, TaskPatch};
use crate::event::EventKind;
use crate::name::{AgentId, TaskId};
use crate::rejection::{Rejection, Slug};
use crate::set::rows::{Ending, MAX_FANOUT, Value};
use crate::set::{Need, Opened};
use crate::task::{DEFAULT_MAX_RETRIES, Demand, DependencyState, Fanout, Note, Status, Task, TaskKey};

/// The most notes of one task.
const MAX_NOTES: u32 = 1_000;

impl Turn<'_> {
    // ---- changes -------------------------------------------------------------------------------------------------

    pub(super) fn patch(&mut self, actor: &Actor, id: &TaskId, patch: &TaskPatch) -> Need<Reply> {
        let task = self.named(id)?;
        match patch.status {
            None => {}
            Some(Status::InProgress) if task.status == Status::InProgress => {}
            Some(Status::InProgress) => {
                return Err(wrong_state(&task, "only a claim makes it in_progress"));
            }
            Some(status) => return self.patch_status(actor, &task, status, patch),
        }
        if patch.replans() {
            self.replan(&task, patch)?;
        }
        let speaks = patch.progress.is_some() || patch.attempt.is_some() || patch.status.is_some();
        if speaks || (task.status == Status::InProgress && patch.note.is_some()) {
            self.progress(actor, &task, patch)?;
        }
        self.note(actor, task.key, patch)?;
        Ok(Reply::Then(self.set.task(task.key)?))
    }

    fn note(&mut self, actor: &Actor, key: TaskKey, patch: &TaskPatch) -> Need<()> {
        let Some(text) = patch.note.as_ref().filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let task = self.set.task(key)?;
        if !actor.is_admin() && task.status != Status::InProgress {
            // Only who worked on it last has something to say of a task that nobody works on.
            let attempt = self.attempt_of(&task, task.attempt)?;
            if !actor.may_act_as(&attempt.agent) && !actor.is_attempt(&task.id, attempt.key.number) {
                return Err(
                    Rejection::new(Slug::NotHolder, "notes: this token has not worked on the task").into(),
                );
            }
        }
        if task.notes >= MAX_NOTES {
            return Err(Rejection::field("notes", format!("a task has at most {MAX_NOTES} notes")).into());
        }
        let author = match &patch.agent {
            Some(agent) => Arc::from(agent.as_str()),
            None => Arc::clone(&actor.name),
        };
        self.set.add_note(
            key,
            Note {
                at: self.now,
                author,
                text: text.clone(),
            },
        );
        self.set.put_task(Task {
            notes: task.notes + 1,
            updated_at: self.now,
            ..(*task).clone()
        });
        Ok(())
    }

    /// A new state by PATCH is one of the other commands.
    fn patch_status(
        &mut self,
        actor: &Actor,
        task: &Arc<Task>,
        status: Status,
        patch: &TaskPatch,
    ) -> Need<Reply> {
        let reply = match status {
            Status::Completed | Status::Failed => {
                let completion = Completion {
                    attempt: patch.attempt,
                    agent: patch.agent.clone(),
                    ..Completion::new(task.id.clone(), status == Status::Completed)
                };
                self.complete_all(actor, &[Ok(completion)], false)
            }
            Status::Pending => self.release(actor, &task.id, patch.attempt, patch.agent.as_ref()),
            Status::Cancelled => self.cancel_command(actor, &task.id, false),
            Status::Blocked => Err(wrong_state(task, "hold it to make it blocked")),
            Status::InProgress => Err(wrong_state(task, "only a claim makes it in_progress")),
        }?;
        if matches!(reply, Reply::Now(_)) || (patch.note.is_none() && !patch.replans()) {
            return Ok(reply);
        }
        if patch.replans() {
            let task = self.set.task(task.key)?;
            self.replan(&task, patch)?;
        }
        self.note(actor, task.key, patch)?;
        Ok(Reply::Then(self.set.task(task.key)?))
    }

    /// Changes what a task asks for; only while nobody works on it.
    fn replan(&mut self, task: &Task, patch: &TaskPatch) -> Need<()> {
        if task.status == Status::InProgress {
            return Err(wrong_state(
                task,
                "priority, labels, prefers, not_before, max_retries and estimated_tokens change only before",
            ));
        }
        let old = &task.class.demand;
        let demand = Demand {
            labels: patch.labels.clone().unwrap_or_else(|| old.labels.clone()),
            prefers: patch.prefers.clone().unwrap_or_else(|| old.prefers.clone()),
            model: old.model.clone(),
        };
        let class = if demand == *old {
            Arc::clone(&task.class)
        } else {
            self.set.class(&demand)?
        };
        let not_before = patch.not_before.unwrap_or(task.not_before);
        let delayed_until = if patch.not_before.is_some() {
            // A backoff after a failed attempt stays.
            let backoff = task.delayed_until.filter(|until| Some(*until) != task.not_before);
            not_before.filter(|time| *time > self.now).max(backoff)
        } else {
            task.delayed_until
        };
        let changed = Task {
            class,
            priority: patch.priority.unwrap_or(task.priority),
            not_before,
            delayed_until,
            max_retries: match patch.max_retries {
                Some(0) => DEFAULT_MAX_RETRIES,
                Some(retries) => retries,
                None => task.max_retries,
            },
            estimated_tokens: patch.estimated_tokens.unwrap_or(task.estimated_tokens),
            // What it waited for may no longer be what stops it.
            gate: None,
            ready_since: delayed_until.map_or(task.ready_since, |until| until.max(task.ready_since)),
            updated_at: self.now,
            ..task.clone()
        };
        let changed = self.set.put_task(changed);
        self.open_ready(&changed);
        self.reopen_locks(task);
        Ok(())
    }

    fn open_ready(&mut self, task: &Task) {
        if task.queue().is_some() {
            self.set.opened.push(Opened::Task(task.key));
        }
    }

    /// A task that waited for a lock may have kept later ones from its other locks: those are tried again.
    fn reopen_locks(&mut self, task: &Task) {
        if matches!(task.gate, Some(crate::task::Gate::Lock(_))) {
            for lock in task.locks.iter() {
                self.set
                    .opened
                    .push(Opened::Gate(crate::task::Gate::Lock(lock.clone())));
            }
        }
    }

    /// Progress of a live attempt: it proves that the agent has it, and renews the lease of a claim.
    fn progress(&mut self, actor: &Actor, task: &Task, patch: &TaskPatch) -> Need<()> {
        let attempt = self.current(actor, task, patch.attempt, patch.agent.as_ref())?;
        if !(actor.is_admin() && patch.agent.is_none() && patch.attempt.is_none()) {
            // An operator's word does not show that the agent has it.
            self.show_taken(&attempt)?;
        }
        let task = self.set.task(task.key)?;
        let lease_expires_at = match task.lease_expires_at {
            Some(lease) => {
                let span = attempt.timeout.unwrap_or(self.set.settings.claim_lease);
                Some(lease.max(self.now + span))
            }
            None => None,
        };
        let progress = patch.progress.unwrap_or(task.progress);
        let changed = self.set.put_task(Task {
            progress,
            lease_expires_at,
            updated_at: self.now,
            ..(*task).clone()
        });
        if patch.progress.is_some() {
            let payload = vec![
                ("attempt", Value::Number(attempt.key.number.into())),
                ("progress", Value::Number(progress.into())),
            ];
            self.set.emit(
                EventKind::TaskProgress,
                Some(&changed),
                Some(&attempt.agent),
                self.now,
                payload,
            );
        }
        Ok(())
    }

    /// A report on an offered attempt shows that the agent has it.
    fn show_taken(&mut self, attempt: &crate::attempt::Attempt) -> Need<()> {
        let mut taken = attempt.clone();
        self.take(&mut taken)?;
        if taken != *attempt {
            self.set.put_attempt(taken);
        }
        Ok(())
    }

    pub(super) fn output(
        &mut self,
        actor: &Actor,
        id: &TaskId,
        number: Option<u32>,
        agent: Option<&AgentId>,
        text: &Arc<str>,
    ) -> Need<Reply> {
        let task = self.named(id)?;
        let attempt = self.current(actor, &task, number, agent)?;
        if !(actor.is_admin() && agent.is_none() && number.is_none()) {
            self.show_taken(&attempt)?;
        }
        if !text.is_empty() {
            self.set.add_output(task.key, Arc::clone(text));
        }
        Ok(Reply::Now(Ok(crate::command::Answer::Done)))
    }

    // ---- hold ----------------------------------------------------------------------------------------------------

    pub(super) fn hold(&mut self, id: &TaskId) -> Need<Reply> {
        let task = self.named(id)?;
        if !matches!(task.status, Status::Pending | Status::Blocked) {
            return Err(wrong_state(&task, "only a task that waits can be held"));
        }
        if task.held {
            return Ok(Reply::Then(task));
        }
        let held = Task {
            status: Status::Blocked,
            held: true,
            gate: None,
            updated_at: self.now,
            ..(*task).clone()
        };
        let held = self.set.put_task(held);
        self.reopen_locks(&task);
        Ok(Reply::Then(held))
    }

    pub(super) fn unhold(&mut self, id: &TaskId) -> Need<Reply> {
        let task = self.named(id)?;
        if !task.held {
            return match task.status {
                Status::Pending | Status::Blocked => Ok(Reply::Then(task)),
                _ => Err(wrong_state(&task, "it is not held")),
            };
        }
        Ok(Reply::Then(self.wait_again(&Task {
            held: false,
            ..(*task).clone()
        })))
    }

    /// Puts a task where its dependencies and its time put it: blocked, pending, or ready.
    fn wait_again(&mut self, task: &Task) -> Arc<Task> {
        let blocked = task.held || task.unmet > 0;
        let task = self.set.put_task(Task {
            status: if blocked { Status::Blocked } else { Status::Pending },
            delayed_until: task.delayed_until.filter(|until| *until > self.now),
            ready_since: self.now,
            updated_at: self.now,
            ..task.clone()
        });
        self.open_ready(&task);
        task
    }

    // ---- cancel and retry ----------------------------------------------------------------------------------------

    pub(super) fn cancel_command(&mut self, actor: &Actor, id: &TaskId, cascade: bool) -> Need<Reply> {
        let task = self.named(id)?;
        if !actor.is_admin()
            && let crate::access::Power::Roles(roles) = &actor.power
            && !roles.contains(&crate::access::Role::Submit)
        {
            return Err(Rejection::new(Slug::Forbidden, "this token may not cancel tasks").into());
        }
        match task.status {
            Status::Completed => Err(wrong_state(&task, "what is done stays done")),
            Status::Failed => Err(wrong_state(&task, "only retry leads out of it")),
            Status::Cancelled if !cascade => Ok(Reply::Then(task)),
            _ => Ok(Reply::Then(self.cancel(&task, cascade)?)),
        }
    }

    fn cancel(&mut self, task: &Arc<Task>, cascade: bool) -> Need<Arc<Task>> {
        if task.status == Status::Cancelled {
            return self.tell_dependents(Arc::clone(task), cascade);
        }
        let mut agent = None;
        if task.status == Status::InProgress {
            let attempt = self.attempt_of(task, task.attempt)?;
            agent = Some(attempt.agent.clone());
            self.end((*attempt).clone(), Outcome::Cancelled)?;
        }
        let current = self.set.task(task.key)?;
        let cancelled = self.set.put_task(Task {
            status: Status::Cancelled,
            held: false,
            gate: None,
            delayed_until: None,
            lease_expires_at: None,
            deadline: None,
            updated_at: self.now,
            ..(*current).clone()
        });
        self.reopen_locks(&current);
        let payload = vec![("attempt", Value::Number(task.attempt.into()))];
        self.set.emit(
            EventKind::TaskCancelled,
            Some(&cancelled),
            agent.as_ref(),
            self.now,
            payload,
        );
        self.tell_dependents(cancelled, cascade)
    }

    /// Starts a task afresh: no failures counted, no wait.
    pub(super) fn retry(&mut self, id: &TaskId) -> Need<Reply> {
        let task = self.named(id)?;
        let revived = match task.status {
            Status::Failed | Status::Cancelled => true,
            Status::Pending if task.delayed_until.is_some() => false,
            Status::Pending => return Ok(Reply::Then(task)),
            Status::Blocked => {
                return Err(wrong_state(&task, "it waits for its dependencies, or is held"));
            }
            Status::InProgress | Status::Completed => {
                return Err(wrong_state(
                    &task,
                    "only what failed, was cancelled or waits is retried",
                ));
            }
        };
        let afresh = Task {
            retry_count: 0,
            failed_on: Arc::default(),
            delayed_until: None,
            claimed_by: None,
            refusal_told: false,
            gate: None,
            has_result: false,
            progress: 0,
            ..(*task).clone()
        };
        let task = self.wait_again(&afresh);
        self.set.put_ending(Ending {
            task: task.key,
            result: None,
            fail_reason: None,
        });
        self.set.emit(
            EventKind::TaskRetried,
            Some(&task),
            None,
            self.now,
            vec![("retry", Value::Number(0))],
        );
        Ok(Reply::Then(if revived {
            self.tell_dependents(task, false)?
        } else {
            task
        }))
    }

    // ---- dependents ----------------------------------------------------------------------------------------------

    /// Tells the dependents of a task how it stands now.
    pub(super) fn tell_dependents(&mut self, task: Arc<Task>, cascade: bool) -> Need<Arc<Task>> {
        if task.dependents == 0 {
            return Ok(task);
        }
        let cascade = cascade
            || task
                .fanout
                .is_some_and(|fanout| fanout.cascade && task.status == Status::Cancelled);
        let fanout = Fanout {
            after: TaskKey(0),
            cascade,
        };
        let task = self.set.put_task(Task {
            fanout: Some(fanout),
            ..(*task).clone()
        });
        let mut budget = MAX_FANOUT;
        self.go_on_telling(task.key, &mut budget)
    }

    /// Tells the next dependents, as many as the budget allows. What a cascade cancels spends from the same budget,
    /// and tells its own dependents in later turns when it is used up.
    pub(super) fn go_on_telling(&mut self, key: TaskKey, budget: &mut usize) -> Need<Arc<Task>> {
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            let task = self.set.task(key)?;
            let Some(fanout) = task.fanout else { continue };
            if *budget == 0 {
                break;
            }
            let page = self.set.dependents(key, fanout.after, *budget)?;
            let state = DependencyState::of(task.status);
            for (dependent, told) in &page {
                *budget = budget.saturating_sub(1);
                if self.tell(key, *dependent, *told, state, fanout.cascade)? {
                    pending.push(*dependent);
                }
            }
            let done = *budget > 0;
            let after = page.last().map_or(fanout.after, |(dependent, _)| *dependent);
            let task = self.set.task(key)?;
            let rest = (!done).then_some(Fanout { after, ..fanout });
            self.set.put_task(Task {
                fanout: rest,
                ..(*task).clone()
            });
        }
        self.set.task(key)
    }

    /// Tells one dependent how one of its dependencies stands. Says whether it has dependents of its own to tell.
    fn tell(
        &mut self,
        of: TaskKey,
        dependent: TaskKey,
        told: DependencyState,
        state: DependencyState,
        cascade: bool,
    ) -> Need<bool> {
        let task = self.set.task(dependent)?;
        let mut changed = (*task).clone();
        if told != state {
            self.set.put_edge(of, dependent, state);
            let unmet = |state| u32::from(state != DependencyState::Met);
            let failed = |state| u32::from(state == DependencyState::Failed);
            changed.unmet = changed.unmet + unmet(state) - unmet(told);
            changed.failed_dependencies = changed.failed_dependencies + failed(state) - failed(told);
        }
        if cascade && !task.status.is_terminal() {
            self.set.put_task(changed);
            return self.cancel_dependent(dependent);
        }
        if cascade && task.status == Status::Cancelled && told != state && task.dependents > 0 {
            // It was cancelled before: what hangs below it is taken along now.
            let fanout = Fanout {
                after: TaskKey(0),
                cascade: true,
            };
            changed.fanout = Some(fanout);
            self.set.put_task(changed);
            return Ok(true);
        }
        if changed == *task {
            return Ok(false);
        }
        if changed.status == Status::Blocked && !changed.held && changed.unmet == 0 {
            self.wait_again(&changed);
        } else {
            changed.updated_at = self.now;
            self.set.put_task(changed);
        }
        Ok(false)
    }

    /// A cascade takes a dependent along; its own dependents are told next.
    fn cancel_dependent(&mut self, key: TaskKey) -> Need<bool> {
        let task = self.set.task(key)?;
        let mut agent = None;
        if task.status == Status::InProgress {
            let attempt = self.attempt_of(&task, task.attempt)?;
            agent = Some(attempt.agent.clone());
            self.end((*attempt).clone(), Outcome::Cancelled)?;
        }
        let current = self.set.task(key)?;
        let fanout = (current.dependents > 0).then_some(Fanout {
            after: TaskKey(0),
            cascade: true,
        });
        let cancelled = self.set.put_task(Task {
            status: Status::Cancelled,
            held: false,
            gate: None,
            delayed_until: None,
            lease_expires_at: None,
            deadline: None,
            updated_at: self.now,
            fanout,
            ..(*current).clone()
        });
        self.reopen_locks(&current);
        let payload = vec![("attempt", Value::Number(cancelled.attempt.into()))];
        self.set.emit(
            EventKind::TaskCancelled,
            Some(&cancelled),
            agent.as_ref(),
            self.now,
            payload,
        );
        Ok(fanout.is_some())
    }
}

fn wrong_state(task: &Task, hint: &str) -> crate::set::Halt {
    Rejection::new(
        Slug::WrongState,
        format!("task `{}` is {}: {hint}", task.id, task.status.name()),
    )
    .into()
}
