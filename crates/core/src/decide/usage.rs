//! Reports of usage: what agents say of tokens and cost while they work.

use super::account::{LATE_USAGE, Used};
use super::{Reply, Turn};
use crate::access::{Actor, Power};
use crate::attempt::{Attempt, AttemptKey, Tokens, add_usage};
use crate::command::{Answer, UsageEvent, UsageReport};
use crate::event::EventKind;
use crate::money::Money;
use crate::name::ModelName;
use crate::rejection::{Rejection, Slug};
use crate::set::Need;
use crate::set::rows::Value;
use crate::task::Task;

impl Turn<'_> {
    pub(super) fn report(&mut self, actor: &Actor, report: &UsageReport) -> Need<Reply> {
        let done = Ok(Reply::Now(Ok(Answer::Done)));
        let Some(key) = self.set.find_task(&report.job)? else {
            if matches!(actor.power, Power::Attempt { .. }) {
                return Err(super::no_task(&report.job).into());
            }
            self.report_external(report)?;
            return done;
        };
        if report.event != UsageEvent::Usage {
            return Err(Rejection::new(
                Slug::JobIsTask,
                format!(
                    "job_id: `{}` is a task of this server, which keeps its account itself",
                    report.job
                ),
            )
            .into());
        }
        let task = self.set.task(key)?;
        let number = report.attempt.unwrap_or(task.attempt);
        let attempt = match number {
            0 => None,
            _ => self.set.attempt(AttemptKey { task: key, number })?,
        };
        let Some(attempt) = attempt.filter(|attempt| attempt.agent == report.agent) else {
            return Err(Rejection::new(
                Slug::NotHolder,
                format!(
                    "agent `{}` did not run attempt {number} of task `{}`",
                    report.agent, report.job
                ),
            )
            .into());
        };
        if let Power::Attempt { .. } = actor.power
            && !(actor.is_attempt(&report.job, number) && attempt.is_live())
        {
            return Err(Rejection::new(Slug::StaleAttempt, "this attempt has ended").into());
        }
        if attempt
            .ended_at
            .is_some_and(|ended| self.now.since(ended) > LATE_USAGE)
        {
            return Err(Rejection::new(
                Slug::StaleAttempt,
                format!("attempt {number} ended more than a day ago; its account is closed"),
            )
            .into());
        }
        let mut attempt = (*attempt).clone();
        self.take(&mut attempt)?;
        let used = Used {
            model: report.model.clone().or_else(|| attempt.model.clone()),
            tokens: report.tokens,
            cost: report.cost,
            total: report.total,
        };
        self.use_by(&mut attempt, &used)?;
        self.set.put_attempt(attempt);
        done
    }

    /// Books usage of a task's attempt, on the task as well, and tells it.
    pub(super) fn use_by(&mut self, attempt: &mut Attempt, used: &Used) -> Need<()> {
        let (tokens, cost) = self.book_usage(attempt, used)?;
        if tokens.is_zero() && cost == Money::ZERO {
            return Ok(());
        }
        let task = self.set.task(attempt.key.task)?;
        let mut usage = task.usage.to_vec();
        add_usage(&mut usage, used.model.as_ref(), tokens, cost);
        let task = self.set.put_task(Task {
            usage: usage.into(),
            ..(*task).clone()
        });
        self.tell_usage(Some(&task), attempt, used.model.as_ref(), tokens, cost);
        Ok(())
    }

    pub(super) fn tell_usage(
        &mut self,
        task: Option<&Task>,
        attempt: &Attempt,
        model: Option<&ModelName>,
        tokens: Tokens,
        cost: Money,
    ) {
        let mut payload = vec![
            ("attempt", Value::Number(attempt.key.number.into())),
            ("tokens_in", Value::Number(tokens.tokens_in)),
            ("tokens_out", Value::Number(tokens.tokens_out)),
            ("tokens_cached", Value::Number(tokens.tokens_cached)),
            ("cost", Value::Money(cost)),
        ];
        if let Some(model) = model {
            payload.push(("model", Value::Text(model.to_string())));
        }
        if task.is_none() {
            payload.push(("job_id", Value::Text(attempt.task_id.to_string())));
        }
        self.set.emit(
            EventKind::UsageRecorded,
            task,
            Some(&attempt.agent),
            self.now,
            payload,
        );
    }
}
