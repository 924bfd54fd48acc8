//! I3, I4, I9: what starts is within every limit, what ends is settled once, and counters are sums of the ledger.

use std::collections::HashMap;

use adjutant_core::attempt::{Attempt, AttemptState, Outcome};
use adjutant_core::event::EventKind;
use adjutant_core::limit::{Scope, Window};
use adjutant_core::set::rows::Changes;
use adjutant_core::task::Produces;

use super::books::{Standing, scopes_of, within};
use super::{Before, Check, Moment, Started, Witness, hold};

/// What an end gives back of each ledger line, in percent.
fn refund_percent(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Completed | Outcome::Released => 0,
        Outcome::Failed | Outcome::Lost | Outcome::TimedOut => 50,
        Outcome::Cancelled => 100,
    }
}

impl Witness {
    pub(super) fn money(
        &mut self,
        moment: &Moment,
        changes: &Changes,
        before: &Before,
        started: &[Started],
    ) -> Check {
        for change in &changes.attempts {
            let (old, now) = (before.attempts[&change.key].as_deref(), change.now.as_deref());
            let lost_first = changes.events.iter().any(|event| {
                event.kind == EventKind::TaskAttemptFailed
                    && event
                        .task
                        .as_ref()
                        .is_some_and(|(task, _)| *task == change.key.task)
            });
            self.settlement(old, now, before, lost_first)?;
        }
        for change in &changes.accounts {
            let was = before.attempts.get(&change.key);
            // Lines change after the end as well: late usage. Refunds do not.
            if was.is_none() || matches!(was, Some(Some(old)) if !old.is_live()) {
                let sum = |account: Option<&adjutant_core::ledger::Account>| -> u64 {
                    account.map_or(0, |account| account.lines.iter().map(|line| line.refunded).sum())
                };
                hold!(
                    sum(change.before.as_deref()) == sum(change.now.as_deref()),
                    "settled twice: refunds of {} changed after its end",
                    change.key
                );
            }
        }
        for scope in self.books.take_touched() {
            let counter = self.counters.get(&scope);
            self.books
                .check(&scope, counter.map(|counter| &**counter), moment.now)?;
        }
        for change in &changes.counters {
            self.books.check(&change.key, change.now.as_deref(), moment.now)?;
        }
        self.starts_within_limits(moment, started)
    }

    /// Exactly once for an attempt: refunds follow from how it ended, line by line.
    ///
    /// An attempt may be lost and succeed late in one transaction: then the refund of the loss stays.
    fn settlement(
        &self,
        old: Option<&Attempt>,
        now: Option<&Attempt>,
        before: &Before,
        lost_first: bool,
    ) -> Check {
        let Some(now) = now else { return Ok(()) };
        let AttemptState::Ended(outcome) = now.state else {
            return Ok(());
        };
        hold!(
            now.hold.tokens == 0 && now.hold.cost.as_nanos() == 0,
            "attempt {} has ended and still holds {:?}",
            now.key,
            now.hold
        );
        if old.is_some_and(|old| !old.is_live()) {
            return Ok(());
        }
        let percent = if outcome == Outcome::Completed && lost_first {
            refund_percent(Outcome::Lost)
        } else {
            refund_percent(outcome)
        };
        let Some(account) = self.accounts.get(&now.key) else {
            return Ok(());
        };
        let earlier = before.accounts.get(&now.key).and_then(Option::as_deref);
        for line in &account.lines {
            let due = line.tokens.counted() * percent / 100;
            // Usage that came with the end is in the line; usage after it, in the same transaction, as well.
            let at_least = earlier
                .and_then(|earlier| {
                    earlier.lines.iter().find(|other| {
                        other.scope == line.scope
                            && other.hour == line.hour
                            && other.resets == line.resets
                            && other.model == line.model
                    })
                })
                .map_or(0, |other| other.tokens.counted() * percent / 100);
            hold!(
                line.refunded <= due && line.refunded >= at_least,
                "settlement of {}: {outcome:?} refunds {} of {} in {}",
                now.key,
                line.refunded,
                line.tokens.counted(),
                line.scope
            );
        }
        Ok(())
    }

    /// I3, I4. Starts of one transaction are undone from the last to the first, so that each is seen as it found things.
    fn starts_within_limits(&self, moment: &Moment, started: &[Started]) -> Check {
        // Between a claim and the end of its turn other commands may have spent something.
        let exact = moment.sent.len() <= 1;
        let mut later: HashMap<(Scope, Window), Standing> = HashMap::new();
        for start in started.iter().rev() {
            let Some(attempt) = self.attempts.get(&start.key) else {
                continue;
            };
            if !attempt.is_live() {
                // It ended in the same transaction: what it found cannot be told any more.
                continue;
            }
            for scope in scopes_of(attempt) {
                let Some(policy) = self.policies.get(&scope) else {
                    continue;
                };
                let resets = self.counters.get(&scope).map_or(0, |counter| counter.resets);
                for limit in &policy.limits {
                    let standing = later.entry((scope.clone(), limit.window)).or_insert(Standing {
                        used: self.books.sum(&scope, resets, limit.window, moment.now),
                        held: self.books.held(&scope),
                    });
                    if !start.claimed || exact {
                        let checked = within(limit, *standing, attempt);
                        hold!(
                            checked.is_ok(),
                            "I4: attempt {} started beyond the limit of {} of {scope} ({limit:?}): {standing:?}",
                            start.key,
                            checked.err().unwrap_or_default()
                        );
                    }
                    standing.used.jobs -= 1;
                    standing.held.active -= 1;
                    standing.held.tokens -= i64::try_from(attempt.hold.tokens).unwrap_or(i64::MAX);
                    standing.held.cost_nanos -= attempt.hold.cost.as_nanos();
                    match attempt.produces {
                        Some(Produces::PullRequest) => standing.held.pull_requests -= 1,
                        Some(Produces::Issue) => standing.held.issues -= 1,
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }
}
