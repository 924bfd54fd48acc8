//! Following: what became of tasks that are claimed there.

use std::collections::HashMap;

use adjutant_client::{Error, TaskFilter};
use adjutant_core::task::Status;
use adjutant_engine::clock::wall;
use adjutant_wire::{Completion, ModelUse, Task, TaskPatch, UsageReport};

use super::{Charge, Dispatch, Notice, mirror};

/// What is left of an output that was too long for the other side.
const SHORT_OUTPUT_BYTES: usize = 64 << 10;
/// Tasks in progress there that are looked through in a round.
const MAX_IN_PROGRESS: usize = 100_000;

impl Dispatch {
    /// Finds what is ours of what is in progress there, and tells there what happened here.
    pub(super) async fn follow(&mut self) -> Result<(), Error> {
        let filter = TaskFilter {
            status: Some(Status::InProgress),
            limit: Some(1_000),
            ..TaskFilter::default()
        };
        let there: HashMap<String, Task> = self
            .there
            .all_tasks(&filter, MAX_IN_PROGRESS)
            .await?
            .into_iter()
            .filter(|task| task.status == Status::InProgress)
            .map(|task| (task.id.clone(), task))
            .collect();
        self.foreign.retain(|id, _| there.contains_key(id));
        for task in there.values() {
            self.adopt(task).await?;
        }
        let charges: Vec<String> = self.charges.keys().cloned().collect();
        for id in charges {
            self.look(&id, there.get(&id)).await?;
        }
        Ok(())
    }

    /// Takes care of a task in progress there that this process does not know, if it has a mirror here.
    async fn adopt(&mut self, task: &Task) -> Result<(), Error> {
        let charge = self.charges.get(&task.id);
        let is_known = charge.is_some_and(|charge| is_held_by(task, charge));
        if is_known || self.foreign.get(&task.id) == Some(&task.claimed_at) {
            return Ok(());
        }
        let agent = task.claimed_by.clone().unwrap_or_default();
        let attempt = mirror::current_attempt(task);
        let found = self.source.newest(&task.id, attempt, &self.here).await?;
        let mirror = match found {
            Some(mirror) if self.is_ours(task, &mirror, &agent).await? => mirror,
            _ => {
                if !self.charges.contains_key(&task.id) {
                    self.foreign.insert(task.id.clone(), task.claimed_at);
                }
                return Ok(());
            }
        };
        self.charge(task, &mirror, &agent);
        if !mirror::is_let_go(&mirror) {
            mirror::let_go(&mirror.id, &self.here).await?;
        }
        Ok(())
    }

    /// Whether it was claimed for this mirror.
    async fn is_ours(&self, task: &Task, mirror: &Task, agent: &str) -> Result<bool, Error> {
        if mirror::is_over(mirror) && !mirror::is_let_go(mirror) {
            // Nothing was claimed for it.
            return Ok(false);
        }
        if task.attempt > 0 {
            if mirror::is_let_go(mirror) {
                // That is done only after the claim of the attempt that it is named for.
                return Ok(true);
            }
            // Between a claim and letting go the process was killed, or somebody else was faster: the same claim made
            // again is answered as the first time.
            let key = mirror::claim_key(mirror);
            return match self.there.claim_task(&task.id, Some(agent), Some(&key)).await {
                Ok(answer) => Ok(answer.task.attempt == task.attempt),
                Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => Ok(false),
                Err(error) => Err(error),
            };
        }
        // A side without numbers does not know claims that are made again either: the name must do.
        match self.here.get_agent(agent).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks at the mirror of a task, and tells there what is new. `there` is the task as it was listed there.
    pub(super) async fn look(&mut self, id: &str, there: Option<&Task>) -> Result<(), Error> {
        let Some(charge) = self.charges.get(id).cloned() else {
            return Ok(());
        };
        let mirror = mirror::find(&self.here, &charge.mirror).await?;
        match mirror {
            Some(mirror) if matches!(mirror.status, Status::Completed | Status::Failed) => {
                self.tell_end(id, &charge, &mirror).await
            }
            Some(mirror) if !mirror::is_over(&mirror) => {
                if !mirror::is_let_go(&mirror) {
                    // It is claimed, but what was to follow did not come through.
                    mirror::let_go(&mirror.id, &self.here).await?;
                }
                self.tell_progress(id, &charge, &mirror, there).await
            }
            mirror => {
                if let Some(mirror) = &mirror {
                    self.tell_use(id, &charge, mirror).await?;
                }
                self.give_back(id, &charge).await
            }
        }
    }

    async fn tell_end(&mut self, id: &str, charge: &Charge, mirror: &Task) -> Result<(), Error> {
        let success = mirror.status == Status::Completed;
        let mut completion = completion(mirror, &charge.agent, charge.attempt);
        if mirror.usage.models.len() > 1 {
            self.tell_use(id, charge, mirror).await?;
        }
        let mut answer = self.there.complete_task(id, &completion).await;
        if matches!(&answer, Err(error) if error.code() == Some(413)) {
            // Who takes less than we do is told the end of it.
            let from = completion.output.len().saturating_sub(SHORT_OUTPUT_BYTES);
            let from = completion.output.ceil_char_boundary(from);
            completion.output.drain(..from);
            answer = self.there.complete_task(id, &completion).await;
        }
        self.settle(id, charge, answer, |task| Notice::Ended { task, success })
    }

    /// The last word on a task was answered. One that was refused for good is not said again.
    fn settle<T>(
        &mut self,
        id: &str,
        charge: &Charge,
        answer: Result<T, Error>,
        done: impl FnOnce(String) -> Notice,
    ) -> Result<(), Error> {
        match answer {
            Ok(_) => (self.tell)(done(id.to_owned())),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                self.foreign.insert(id.to_owned(), charge.claimed_at);
                (self.tell)(Notice::Refused {
                    task: id.to_owned(),
                    why: error.to_string(),
                });
            }
        }
        self.charges.remove(id);
        Ok(())
    }

    /// Tells what was used, if it is more than was told. Only a side that numbers attempts is known to take it.
    async fn tell_use(&mut self, id: &str, charge: &Charge, mirror: &Task) -> Result<(), Error> {
        let used = &mirror.usage.models;
        if charge.attempt.is_none() || is_told(used, &charge.told) {
            return Ok(());
        }
        for one in used {
            self.tell_usage(id, charge, one).await?;
        }
        if let Some(charge) = self.charges.get_mut(id) {
            charge.told.clone_from(used);
        }
        Ok(())
    }

    /// Tells what was used of a model in all.
    async fn tell_usage(&self, id: &str, charge: &Charge, used: &ModelUse) -> Result<(), Error> {
        let report = UsageReport {
            agent_id: charge.agent.clone(),
            job_id: id.to_owned(),
            model: used.model.clone(),
            tokens_in: used.tokens.tokens_in,
            tokens_out: used.tokens.tokens_out,
            tokens_cached: used.tokens.tokens_cached,
            cost: Some(used.cost),
            total: true,
            attempt: charge.attempt,
            ..UsageReport::default()
        };
        match self.there.report_usage(&report).await {
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                tracing::warn!(task = id, %error, "usage was not taken");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells progress and new notes, and keeps the claim alive; a task that was taken away is stopped here.
    async fn tell_progress(
        &mut self,
        id: &str,
        charge: &Charge,
        mirror: &Task,
        listed: Option<&Task>,
    ) -> Result<(), Error> {
        let there = match listed {
            Some(task) => Some(task.clone()),
            None => mirror::find(&self.there, id).await?,
        };
        let Some(there) = there.filter(|task| is_held_by(task, charge)) else {
            mirror::cancel(&charge.mirror, &self.here).await?;
            self.tell_use(id, charge, mirror).await?;
            self.charges.remove(id);
            (self.tell)(Notice::TakenAway { task: id.to_owned() });
            return Ok(());
        };
        self.tell_use(id, charge, mirror).await?;
        let new_notes: Vec<&str> = mirror
            .notes
            .iter()
            .skip(charge.notes)
            .map(|note| note.text.as_str())
            // Another process may have told it before this one began.
            .filter(|text| !there.notes.iter().any(|note| note.text == *text))
            .collect();
        let patch = TaskPatch {
            progress: (mirror.progress != there.progress || is_half_over(&there)).then_some(mirror.progress),
            notes: (!new_notes.is_empty()).then(|| new_notes.join("\n")),
            attempt: charge.attempt,
            agent_id: Some(charge.agent.clone()),
            ..TaskPatch::default()
        };
        if patch.progress.is_some() || patch.notes.is_some() {
            match self.there.patch_task(id, &patch).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => tracing::warn!(task = id, %error, "progress was not taken"),
            }
        }
        if let Some(charge) = self.charges.get_mut(id) {
            charge.is_started = mirror.status == Status::InProgress;
            charge.notes = mirror.notes.len();
        }
        Ok(())
    }

    /// The mirror was cancelled here, or is gone: somebody else may have the task.
    async fn give_back(&mut self, id: &str, charge: &Charge) -> Result<(), Error> {
        let patch = TaskPatch {
            status: Some(Status::Pending),
            attempt: charge.attempt,
            agent_id: Some(charge.agent.clone()),
            ..TaskPatch::default()
        };
        let answer = self.there.patch_task(id, &patch).await;
        if let Ok(task) = &answer {
            // Whoever cancelled it here does not want it to begin again at once.
            self.rest(task);
        }
        self.settle(id, charge, answer, |task| Notice::GivenBack { task })
    }
}

/// How a mirror ended, for the agent that the task is claimed for.
pub(super) fn completion(mirror: &Task, agent: &str, attempt: Option<u32>) -> Completion {
    let result = mirror.result.clone().unwrap_or_default();
    let success = mirror.status == Status::Completed;
    let mut completion = Completion {
        success,
        output: result.output,
        artifacts: result.artifacts,
        error_message: match &mirror.fail_reason {
            Some(reason) if result.error_message.is_empty() && !success => reason.clone(),
            _ => result.error_message,
        },
        attempt,
        agent_id: Some(agent.to_owned()),
        ..Completion::default()
    };
    // A completion names a single model; what several used is told before it.
    if let [only] = mirror.usage.models.as_slice() {
        completion.model.clone_from(&only.model);
        completion.tokens_in = Some(only.tokens.tokens_in);
        completion.tokens_out = Some(only.tokens.tokens_out);
        completion.tokens_cached = Some(only.tokens.tokens_cached);
        completion.cost = Some(only.cost);
    }
    completion
}

/// Whether nothing was used since it was told.
fn is_told(used: &[ModelUse], told: &[ModelUse]) -> bool {
    used.len() == told.len()
        && used.iter().zip(told).all(|(one, other)| {
            one.model == other.model && one.tokens == other.tokens && one.cost == other.cost
        })
}

/// Whether the claim is still the one that was made.
fn is_held_by(task: &Task, charge: &Charge) -> bool {
    task.status == Status::InProgress
        && task
            .claimed_by
            .as_deref()
            .is_none_or(|agent| agent == charge.agent)
        && charge.attempt.is_none_or(|attempt| attempt == task.attempt)
}

/// Whether half of the claim's lease has passed by our clock: it is renewed then.
fn is_half_over(task: &Task) -> bool {
    let (Some(from), Some(until)) = (task.claimed_at, task.lease_expires_at) else {
        return false;
    };
    let now = wall();
    until.since(now).as_micros() < until.since(from).as_micros() / 2
}
