//! What clients were told: an accepted task is there, an acknowledged end stands, and nobody is sent what it has.

use std::sync::Arc;

use adjutant_core::attempt::{AttemptKey, AttemptState, Outcome, StopReason};
use adjutant_core::command::{Answer, Command, Completion, Request, Sync, SyncAnswer, TaskView};
use adjutant_core::decide::Verdict;
use adjutant_core::name::AgentId;
use adjutant_core::task::Status;

use super::{Check, Witness, hold};

impl Witness {
    /// A server answered what a client had sent.
    pub fn told(&mut self, sent: &Request, verdict: &Verdict) {
        let checked = self.check_answer(sent, verdict);
        self.note(checked);
    }

    fn check_answer(&self, sent: &Request, verdict: &Verdict) -> Check {
        match (&sent.command, verdict) {
            (_, Err(rejection)) => {
                hold!(rejection.slug.code() < 500, "{rejection} for {:?}", sent.command);
                Ok(())
            }
            (Command::Submit { .. }, Ok(Answer::Task(view))) => self.is_there(view),
            (Command::Submit { .. }, Ok(Answer::Batch(items))) => {
                items.iter().flatten().try_for_each(|view| self.is_there(view))
            }
            (Command::Complete { completions, .. }, Ok(Answer::Task(view))) => {
                let completion = completions.first().and_then(|item| item.as_ref().ok());
                completion.map_or(Ok(()), |completion| self.has_ended(completion, view))
            }
            (Command::Complete { completions, .. }, Ok(Answer::Batch(items))) => completions
                .iter()
                .zip(items)
                .try_for_each(|(completion, item)| match (completion, item) {
                    (Ok(completion), Ok(view)) => self.has_ended(completion, view),
                    _ => Ok(()),
                }),
            (Command::Sync(sync), Ok(Answer::Sync(answer))) => {
                for (completion, item) in sync.done.iter().zip(&answer.done) {
                    if let Ok(view) = item {
                        self.has_ended(completion, view)?;
                    }
                }
                self.roll(&sync.agent, answer)
            }
            _ => Ok(()),
        }
    }

    /// A sync was taken: none of a lower number may be after it.
    pub fn numbered(&mut self, sync: &Sync) {
        let (Some(session), Some(n)) = (&sync.session, sync.n) else {
            return;
        };
        let key = (sync.agent.clone(), Arc::clone(session));
        let highest = self.numbers.entry(key).or_insert(n);
        let checked = if n < *highest {
            Err(format!(
                "delivery: sync {n} of {:?} was taken after sync {highest}",
                sync.agent
            ))
        } else {
            *highest = n;
            Ok(())
        };
        self.note(checked);
    }

    /// I5: what was accepted exists.
    fn is_there(&self, view: &TaskView) -> Check {
        hold!(
            self.ids.get(&view.task.id) == Some(&view.task.key) && self.tasks.contains_key(&view.task.key),
            "I5: {:?} was accepted and is not there",
            view.task.id
        );
        Ok(())
    }

    /// I10: what was acknowledged happened, to the attempt that was named.
    fn has_ended(&self, completion: &Completion, view: &TaskView) -> Check {
        let Some(number) = completion.attempt else {
            return Ok(());
        };
        let key = AttemptKey {
            task: view.task.key,
            number,
        };
        let state = self.attempts.get(&key).map(|attempt| attempt.state);
        let fits = match state {
            Some(AttemptState::Ended(outcome)) => match outcome {
                Outcome::Completed => completion.result.success,
                Outcome::Failed | Outcome::Released => !completion.result.success,
                Outcome::Lost | Outcome::TimedOut | Outcome::Cancelled => false,
            },
            _ => false,
        };
        hold!(
            fits,
            "I10: success = {} of {key} was acknowledged, it is {state:?}",
            completion.result.success
        );
        let status = self.tasks.get(&view.task.key).map(|task| task.status);
        hold!(
            !completion.result.success || status == Some(Status::Completed),
            "I10: the success of {key} was acknowledged, its task is {status:?}"
        );
        Ok(())
    }

    /// Only offered attempts of this agent are sent, and only what is to end is stopped.
    fn roll(&self, agent: &AgentId, answer: &SyncAnswer) -> Check {
        for start in &answer.start {
            let key = AttemptKey {
                task: start.view.task.key,
                number: start.attempt,
            };
            let attempt = self.attempts.get(&key);
            hold!(
                attempt
                    .is_some_and(|attempt| attempt.state == AttemptState::Offered && attempt.agent == *agent),
                "delivery: {agent:?} is sent {key}, which is {:?} of {:?}",
                attempt.map(|attempt| attempt.state),
                attempt.map(|attempt| &attempt.agent)
            );
        }
        for stop in &answer.stop {
            let Some(task) = self.ids.get(&stop.id) else {
                continue;
            };
            let key = AttemptKey {
                task: *task,
                number: stop.attempt,
            };
            let Some(attempt) = self.attempts.get(&key).filter(|attempt| attempt.agent == *agent) else {
                continue;
            };
            hold!(
                !attempt.is_live() || (attempt.stop.is_some() && stop.reason == StopReason::Limit),
                "delivery: {agent:?} is told to stop {key} ({:?}), which goes on",
                stop.reason
            );
        }
        Ok(())
    }
}
