//! Jobs that were dispatched elsewhere: only their account is kept here, so that limits hold for them as well.

use super::Turn;
use super::account::{LATE_USAGE, Used};
use crate::attempt::{Attempt, AttemptKey, AttemptState, Hold, Outcome};
use crate::command::{UsageEvent, UsageReport};
use crate::limit::Scope;
use crate::money::Money;
use crate::rejection::{Rejection, Slug};
use crate::set::Need;
use crate::task::TaskKey;
use crate::time::{Span, Timestamp};

/// How long such a job keeps its slot when no `max_job_duration` is set.
const EXTERNAL_JOB: Span = Span::DAY;

impl Turn<'_> {
    pub(super) fn report_external(&mut self, report: &UsageReport) -> Need<()> {
        let known = self.set.job(&report.job)?;
        let attempt = match known {
            Some(key) => self.set.attempt(key)?,
            None => None,
        };
        if let Some(attempt) = &attempt
            && attempt.agent != report.agent
        {
            return Err(Rejection::new(
                Slug::NotHolder,
                format!("agent `{}` does not run job `{}`", report.agent, report.job),
            )
            .into());
        }
        if report.event == UsageEvent::Usage && attempt.is_none() {
            if known.is_some() {
                // It was forgotten: what it used is in the archive, and would be booked twice.
                return Err(Rejection::new(
                    Slug::StaleAttempt,
                    format!("job `{}` ended long ago; its account is closed", report.job),
                )
                .into());
            }
            if report.attempt.is_some() {
                // An attempt of a task that was forgotten. Jobs that were dispatched elsewhere have no numbers.
                return Err(super::no_task(&report.job).into());
            }
        }
        let running = attempt.as_ref().is_some_and(|attempt| attempt.is_live());
        match report.event {
            UsageEvent::JobStarted if !running => {
                let mut attempt = self.start_external(report, true)?;
                self.use_external(&mut attempt, report)
            }
            UsageEvent::JobStarted => Ok(()),
            UsageEvent::Usage => {
                let mut attempt = match attempt {
                    Some(ended) if ended.ended_at.is_some_and(|at| self.now.since(at) > LATE_USAGE) => {
                        return Err(Rejection::new(
                            Slug::StaleAttempt,
                            format!(
                                "job `{}` ended more than a day ago; its account is closed",
                                report.job
                            ),
                        )
                        .into());
                    }
                    Some(attempt) => (*attempt).clone(),
                    None => self.start_external(report, false)?,
                };
                self.use_external(&mut attempt, report)
            }
            UsageEvent::JobCompleted | UsageEvent::JobFailed | UsageEvent::JobCancelled => {
                let outcome = match report.event {
                    UsageEvent::JobCompleted => Outcome::Completed,
                    UsageEvent::JobFailed => Outcome::Failed,
                    _ => Outcome::Cancelled,
                };
                let Some(attempt) = attempt.filter(|attempt| attempt.is_live()) else {
                    return match known {
                        // A repeat of an end changes nothing.
                        Some(_) => Ok(()),
                        None => Err(Rejection::new(
                            Slug::TaskNotFound,
                            format!("job_id: no job `{}` was started", report.job),
                        )
                        .into()),
                    };
                };
                let mut attempt = (*attempt).clone();
                self.use_external(&mut attempt, report)?;
                self.settle(&mut attempt, outcome)?;
                self.set.put_attempt(attempt);
                Ok(())
            }
        }
    }

    fn use_external(&mut self, attempt: &mut Attempt, report: &UsageReport) -> Need<()> {
        let used = Used {
            model: report.model.clone().or_else(|| attempt.model.clone()),
            tokens: report.tokens,
            cost: report.cost,
            total: report.total,
        };
        let (tokens, cost) = self.book_usage(attempt, &used)?;
        if !tokens.is_zero() || cost > Money::ZERO {
            self.tell_usage(None, attempt, used.model.as_ref(), tokens, cost);
        }
        self.set.put_attempt(attempt.clone());
        Ok(())
    }

    /// Opens the account of a job that was dispatched elsewhere; with a slot when it starts, without one when only
    /// usage of it is known.
    fn start_external(&mut self, report: &UsageReport, slot: bool) -> Need<Attempt> {
        let number = match self.set.job(&report.job)? {
            // A job that starts again under the same id goes on in a new account.
            Some(key) => key.number + 1,
            None => 1,
        };
        let task: TaskKey = match self.set.job(&report.job)? {
            Some(key) => key.task,
            None => self.set.next_key(self.now),
        };
        let policy = self.set.policy(&Scope::Agent(report.agent.clone()))?;
        let key = AttemptKey { task, number };
        let ends = self.now + policy.max_job_duration.unwrap_or(EXTERNAL_JOB);
        let attempt = Attempt {
            key,
            task_id: report.job.clone(),
            external: true,
            agent: report.agent.clone(),
            registered: false,
            state: AttemptState::Taken,
            occupies: false,
            model: report.model.clone(),
            project: None,
            repo: None,
            produces: None,
            locks: std::sync::Arc::default(),
            started_at: self.now,
            ended_at: None,
            delivered_at: None,
            timeout: None,
            hold: Hold::default(),
            usage: Vec::new(),
            stop: None,
            stop_told: false,
            lingers_until: Some(ends),
        };
        self.set.put_job(report.job.clone(), key);
        let attempt = if slot {
            self.book_start(&attempt, 1)?;
            self.set.linger(ends, key);
            attempt
        } else {
            Attempt {
                state: AttemptState::Ended(Outcome::Completed),
                ended_at: Some(self.now),
                lingers_until: None,
                ..attempt
            }
        };
        self.set.put_attempt(attempt.clone());
        Ok(attempt)
    }

    /// The slot of a job that was dispatched elsewhere ends by itself: it counts as done, its charge stays.
    pub(super) fn end_external(&mut self, attempt: &Attempt, at: Timestamp) -> Need<()> {
        if attempt.external && attempt.is_live() && at <= self.now {
            let mut attempt = attempt.clone();
            self.settle(&mut attempt, Outcome::Completed)?;
            self.set.put_attempt(attempt);
        }
        Ok(())
    }
}
