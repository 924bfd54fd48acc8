//! The witness's own books: sums of ledger lines, holds and active slots by scope, kept without asking a counter.

use std::collections::HashMap;

use adjutant_core::attempt::Attempt;
use adjutant_core::counter::{Counter, Tally};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::{Limit, Scope, Window};
use adjutant_core::task::Produces;
use adjutant_core::time::Timestamp;

use super::{Check, hold};

/// What lines of one period come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) jobs: i64,
    pub(super) tokens: i64,
    pub(super) cost_nanos: i64,
    pub(super) pull_requests: i64,
    pub(super) issues: i64,
}

impl Sum {
    /// Adds what a line comes to, or takes it away.
    pub(super) fn add(&mut self, line: &Line, sign: i64) {
        self.jobs += sign * number(line.jobs);
        self.tokens += sign * (number(line.tokens.counted()) - number(line.refunded));
        self.cost_nanos += sign * line.cost.as_nanos();
        self.pull_requests += sign * number(line.pull_requests);
        self.issues += sign * number(line.issues);
    }
}

/// What live attempts of a scope hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) active: i64,
    pub(super) tokens: i64,
    pub(super) cost_nanos: i64,
    pub(super) pull_requests: i64,
    pub(super) issues: i64,
}

#[derive(Debug, Default)]
struct Book {
    held: Held,
    /// By reset, window and start of the period.
    sums: HashMap<(u32, Window, Timestamp), Sum>,
    /// What forgotten lines came to, by reset.
    archived: HashMap<u32, Sum>,
}

/// All scopes.
#[derive(Debug, Default)]
pub(super) struct Books {
    books: HashMap<Scope, Book>,
    touched: Vec<Scope>,
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The scopes that an attempt counts for.
pub(super) fn scopes_of(attempt: &Attempt) -> impl Iterator<Item = Scope> + use<> {
    [
        Some(Scope::Agent(attempt.agent.clone())),
        attempt.repo.clone().map(Scope::Repo),
        attempt.project.clone().map(Scope::Project),
        attempt.model.clone().map(Scope::Model),
        Some(Scope::Fleet),
    ]
    .into_iter()
    .flatten()
}

impl Books {
    /// Puts the lines of an account in place of what it said before.
    pub(super) fn account(&mut self, before: Option<&Account>, now: Option<&Account>) {
        for (account, sign) in [(before, -1), (now, 1)] {
            for line in account.iter().flat_map(|account| &account.lines) {
                self.line(line, sign);
            }
        }
    }

    /// Lines that are forgotten count for totals only.
    pub(super) fn forget(&mut self, account: &Account) {
        for line in &account.lines {
            let Some(book) = self.books.get_mut(&line.scope) else {
                continue;
            };
            for window in [Window::Hour, Window::Day] {
                let key = (line.resets, window, window.start(line.hour));
                if let Some(sum) = book.sums.get_mut(&key) {
                    sum.add(line, -1);
                }
            }
            let archived = book.archived.entry(line.resets).or_default();
            archived.add(line, 1);
        }
    }

    /// What the forgotten lines of a scope and reset came to.
    pub(super) fn archived(&self, scope: &Scope, resets: u32) -> Sum {
        self.books
            .get(scope)
            .and_then(|book| book.archived.get(&resets))
            .copied()
            .unwrap_or_default()
    }

    fn line(&mut self, line: &Line, sign: i64) {
        let book = self.books.entry(line.scope.clone()).or_default();
        for window in Window::ALL {
            let key = (line.resets, window, window.start(line.hour));
            book.sums.entry(key).or_default().add(line, sign);
        }
        self.touch(&line.scope);
    }

    /// Puts what an attempt holds in place of what it held.
    pub(super) fn attempt(&mut self, before: Option<&Attempt>, now: Option<&Attempt>) {
        for (attempt, sign) in [(before, -1), (now, 1)] {
            let Some(attempt) = attempt.filter(|attempt| attempt.is_live()) else {
                continue;
            };
            for scope in scopes_of(attempt) {
                let held = &mut self.books.entry(scope.clone()).or_default().held;
                held.active += sign;
                held.tokens += sign * number(attempt.hold.tokens);
                held.cost_nanos += sign * attempt.hold.cost.as_nanos();
                held.pull_requests += sign * i64::from(attempt.produces == Some(Produces::PullRequest));
                held.issues += sign * i64::from(attempt.produces == Some(Produces::Issue));
                self.touch(&scope);
            }
        }
    }

    fn touch(&mut self, scope: &Scope) {
        if !self.touched.contains(scope) {
            self.touched.push(scope.clone());
        }
    }

    /// What was booked or held anew since this was asked last.
    pub(super) fn take_touched(&mut self) -> Vec<Scope> {
        std::mem::take(&mut self.touched)
    }

    /// Every scope that was ever touched.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        self.books.keys().cloned().collect()
    }

    pub(super) fn held(&self, scope: &Scope) -> Held {
        self.books.get(scope).map(|book| book.held).unwrap_or_default()
    }

    pub(super) fn sum(&self, scope: &Scope, resets: u32, window: Window, now: Timestamp) -> Sum {
        self.books
            .get(scope)
            .and_then(|book| book.sums.get(&(resets, window, window.start(now))))
            .copied()
            .unwrap_or_default()
    }

    /// I9: a counter says exactly what its ledger lines and live attempts come to.
    pub(super) fn check(&self, scope: &Scope, counter: Option<&Counter>, now: Timestamp) -> Check {
        let empty = Counter::new(scope.clone());
        let counter = counter.unwrap_or(&empty);
        let held = self.held(scope);
        let told = Held {
            active: i64::from(counter.active),
            tokens: number(counter.held_tokens),
            cost_nanos: counter.held_cost.as_nanos(),
            pull_requests: i64::from(counter.held_pull_requests),
            issues: i64::from(counter.held_issues),
        };
        hold!(
            told == held,
            "I9: {scope} holds {told:?}, its live attempts {held:?}"
        );
        for window in Window::ALL {
            let sum = self.sum(scope, counter.resets, window, now);
            let tally = told_sum(&counter.window(window, now));
            hold!(
                tally == sum,
                "I9: {scope} {} counts {tally:?}, its ledger {sum:?}",
                window.name()
            );
        }
        Ok(())
    }
}

fn told_sum(tally: &Tally) -> Sum {
    Sum {
        jobs: number(tally.jobs),
        tokens: tally.tokens,
        cost_nanos: tally.cost.as_nanos(),
        pull_requests: number(tally.pull_requests),
        issues: number(tally.issues),
    }
}

/// What a start found in a scope: everything used and held, its own part included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) used: Sum,
    pub(super) held: Held,
}

/// I3, I4: whether a start was within a limit, given what stood in its scope right after it.
pub(super) fn within(limit: &Limit, after: Standing, attempt: &Attempt) -> Result<(), &'static str> {
    let (used, held) = (after.used, after.held);
    let own = number(attempt.hold.tokens);
    if let Some(bound) = limit.tokens.map(number) {
        let taken = used.tokens + held.tokens;
        // With no hold of its own it needs room for at least something.
        if taken > bound || (own == 0 && taken >= bound) {
            return Err("tokens");
        }
    }
    if let Some(bound) = limit.cost {
        let taken = used.cost_nanos + held.cost_nanos;
        let own = attempt.hold.cost.as_nanos();
        if taken > bound.as_nanos() || (own == 0 && taken >= bound.as_nanos()) {
            return Err("cost");
        }
    }
    if limit.jobs.is_some_and(|bound| used.jobs > number(bound)) {
        return Err("jobs");
    }
    if limit.concurrent.is_some_and(|bound| held.active > number(bound)) {
        return Err("concurrent");
    }
    let beyond = |bound: Option<u64>, count: i64| bound.is_some_and(|bound| count > number(bound));
    match attempt.produces {
        Some(Produces::PullRequest)
            if beyond(limit.pull_requests, used.pull_requests + held.pull_requests) =>
        {
            Err("pull requests")
        }
        Some(Produces::Issue) if beyond(limit.issues, used.issues + held.issues) => Err("issues"),
        _ => Ok(()),
    }
}
