//! Accounting: booking of usage, holds, settlement, and what happens when a limit is crossed.
//!
//! # Invariants
//! - I9: every change of a counter's tally is a change of a ledger line, in the same turn.
//! - An attempt is settled exactly once; its hold and its active slot come back then.
//! - Usage uses up the attempt's own hold first; what exceeds it is booked in full. Debt is not forgotten.

use std::collections::BTreeMap;

use super::Turn;
use crate::attempt::{Attempt, AttemptKey, AttemptState, Hold, Outcome, StopReason, Tokens, add_usage};
use crate::counter::{Booking, Counter, Tally};
use crate::event::EventKind;
use crate::ledger::{refund_percent, scopes};
use crate::limit::{Quantity, Scope, WARNING_PERCENT, Window, signed};
use crate::money::Money;
use crate::name::ModelName;
use crate::rejection::Rejection;
use crate::set::rows::Value;
use crate::set::{Need, Opened};
use crate::task::{Gate, Produces};
use crate::time::Span;

/// How long usage of an ended attempt is still booked.
pub(super) const LATE_USAGE: Span = Span::DAY;
// What can be reported on is not forgotten.
const _: () = assert!(LATE_USAGE.as_micros() < crate::retention::LEAST_FINISHED.as_micros());

/// The most models that one attempt reports of: more is a mistake, or mischief.
const MAX_MODELS: usize = 64;

/// Tokens and cost that were reported of one model.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) model: Option<ModelName>,
    pub(super) tokens: Tokens,
    pub(super) cost: Option<Money>,
    pub(super) total: bool,
}

impl Turn<'_> {
    /// Books the start of an attempt: one job, one active slot, and its hold, in every scope that it counts for.
    pub(super) fn book_start(&mut self, attempt: &Attempt, jobs: u64) -> Need<()> {
        let model = attempt.model.clone();
        self.set.open_account(attempt.key);
        for scope in scopes(attempt, model.as_ref()) {
            let mut counter = (*self.set.counter(&scope)?).clone();
            counter.active += 1;
            counter.held_tokens += attempt.hold.tokens;
            counter.held_cost += attempt.hold.cost;
            match attempt.produces {
                Some(Produces::PullRequest) => counter.held_pull_requests += 1,
                Some(Produces::Issue) => counter.held_issues += 1,
                None => {}
            }
            let booking = Booking {
                jobs,
                ..Booking::default()
            };
            self.book_line(
                attempt.key,
                &scope,
                model.as_ref(),
                &mut counter,
                |line| line.jobs += jobs,
                booking,
            )?;
            self.store_counter(counter)?;
        }
        Ok(())
    }

    /// Books on the ledger line of the current hour and on the counter at once.
    fn book_line(
        &mut self,
        attempt: AttemptKey,
        scope: &Scope,
        model: Option<&ModelName>,
        counter: &mut Counter,
        change: impl FnOnce(&mut crate::ledger::Line),
        booking: Booking,
    ) -> Need<()> {
        if booking == Booking::default() {
            return Ok(());
        }
        let mut account = (*self.set.account(attempt)?).clone();
        let hour = self.now.hour();
        change(account.line(scope, hour, counter.resets, model));
        self.set.put_account(account);
        counter.book(hour, counter.resets, booking, self.now);
        Ok(())
    }

    /// Stores a counter, and tells which limits it has crossed.
    pub(super) fn store_counter(&mut self, mut counter: Counter) -> Need<()> {
        let policy = self.set.policy(&counter.scope)?;
        let scope = counter.scope.clone();
        if policy.limits.is_empty() {
            self.set.put_counter(counter);
            return Ok(());
        }
        let before = self.set.counter(&scope)?;
        if policy.used_up(&before, self.now).is_none() && policy.used_up(&counter, self.now).is_some() {
            self.stop_scope(&scope);
        }
        for limit in &policy.limits {
            let used = counter.window(limit.window, self.now);
            let mut crossed = Vec::new();
            let mut cross = |quantity, used: i128, bound: i128| {
                let bit = |exceeded| Tally::told_bit(quantity, exceeded);
                if used >= bound && bound >= 0 {
                    crossed.push((quantity, true, bit(true) | bit(false)));
                } else if used * 100 >= bound * i128::from(WARNING_PERCENT) {
                    crossed.push((quantity, false, bit(false)));
                }
            };
            if let Some(bound) = limit.tokens {
                cross(Quantity::Tokens, used.tokens.into(), signed(bound).into());
            }
            if let Some(bound) = limit.cost {
                cross(
                    Quantity::Cost,
                    used.cost.as_nanos().into(),
                    bound.as_nanos().into(),
                );
            }
            if let Some(bound) = limit.jobs {
                cross(Quantity::Jobs, used.jobs.into(), bound.into());
            }
            if let Some(bound) = limit.pull_requests {
                cross(Quantity::PullRequests, used.pull_requests.into(), bound.into());
            }
            if let Some(bound) = limit.issues {
                cross(Quantity::Issues, used.issues.into(), bound.into());
            }
            for (quantity, exceeded, bits) in crossed {
                if used.told & Tally::told_bit(quantity, exceeded) != 0 {
                    continue;
                }
                counter.roll(limit.window, self.now).told |= bits;
                self.tell_crossing(&scope, limit.window, quantity, exceeded);
            }
        }
        self.set.put_counter(counter);
        Ok(())
    }

    /// A hard limit of this scope is used up: what runs in it is to stop, and who waits hears it at once.
    pub(super) fn stop_scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Agent(id) => {
                self.touched.insert(id.clone());
            }
            Scope::Fleet | Scope::Model(_) | Scope::Project(_) | Scope::Repo(_) => {
                self.hard_limit_reached = true;
            }
        }
    }

    fn tell_crossing(&mut self, scope: &Scope, window: Window, quantity: Quantity, exceeded: bool) {
        let kind = if exceeded {
            EventKind::QuotaExceeded
        } else {
            EventKind::QuotaWarning
        };
        let agent = match scope {
            Scope::Agent(id) => Some(id.clone()),
            _ => None,
        };
        let payload = vec![
            ("scope", Value::Text(scope.to_string())),
            ("window", Value::Text(window.name().into())),
            ("limit", Value::Text(quantity.name().into())),
        ];
        self.set.emit(kind, None, agent.as_ref(), self.now, payload);
    }

    /// Books what was reported of an attempt; what exceeds the totals booked so far when `used.total`.
    /// Gives back what was newly booked.
    pub(super) fn book_usage(&mut self, attempt: &mut Attempt, used: &Used) -> Need<(Tokens, Money)> {
        let model = used.model.clone();
        let is_new = !attempt.usage.iter().any(|entry| entry.model == model);
        if is_new && attempt.usage.len() >= MAX_MODELS {
            return Err(
                Rejection::field("model", format!("one attempt uses at most {MAX_MODELS} models")).into(),
            );
        }
        let booked = attempt.usage.iter().find(|entry| entry.model == model);
        let first_report = booked.is_none();
        let (booked_tokens, booked_cost) = booked.map_or((Tokens::default(), Money::ZERO), |entry| {
            (entry.tokens, entry.cost)
        });
        let tokens = if used.total {
            used.tokens.beyond(booked_tokens)
        } else {
            used.tokens
        };
        let cost = match used.cost {
            Some(cost) if used.total => (cost - booked_cost).or_zero(),
            Some(cost) => cost,
            None => self.price(model.as_ref(), tokens)?,
        };
        let unasked = first_report && model.is_some() && model != attempt.model;
        if tokens.is_zero() && cost == Money::ZERO && !unasked {
            return Ok((tokens, cost));
        }
        let from_hold = Hold {
            tokens: tokens.counted().min(attempt.hold.tokens),
            cost: cost.min(attempt.hold.cost),
        };
        attempt.hold.tokens -= from_hold.tokens;
        attempt.hold.cost -= from_hold.cost;
        add_usage(&mut attempt.usage, model.as_ref(), tokens, cost);
        // The last reported model stands last: it is the one that an end without a model counts for.
        if let Some(index) = attempt.usage.iter().position(|entry| entry.model == model) {
            let entry = attempt.usage.remove(index);
            attempt.usage.push(entry);
        }
        self.release_hold(attempt, from_hold)?;
        for scope in scopes(attempt, model.as_ref()) {
            let request = u64::from(unasked && matches!(scope, Scope::Model(_)));
            let mut counter = (*self.set.counter(&scope)?).clone();
            let booking = Booking {
                tokens: signed(tokens.counted()),
                cost,
                jobs: request,
                ..Booking::default()
            };
            let change = |line: &mut crate::ledger::Line| {
                line.tokens = line.tokens.plus(tokens);
                line.cost += cost;
                line.jobs += request;
            };
            self.book_line(attempt.key, &scope, model.as_ref(), &mut counter, change, booking)?;
            self.store_counter(counter)?;
        }
        if unasked && attempt.is_live() {
            self.check_unasked_model(attempt, model.as_ref())?;
        }
        Ok((tokens, cost))
    }

    /// A model that was not asked for is checked with its first report: its use is stopped where it is not allowed.
    fn check_unasked_model(&mut self, attempt: &mut Attempt, model: Option<&ModelName>) -> Need<()> {
        let Some(model) = model else { return Ok(()) };
        let agent_scope = Scope::Agent(attempt.agent.clone());
        let allowed = self
            .set
            .policy(&agent_scope)?
            .allows_model(&agent_scope, Some(model))
            .is_ok();
        let scope = Scope::Model(model.clone());
        let (policy, counter) = (self.set.policy(&scope)?, self.set.counter(&scope)?);
        // Its own request is booked already: only what lies beyond a limit is refused.
        let beyond_rate = policy.limits.iter().any(|limit| {
            limit
                .jobs
                .is_some_and(|bound| counter.window(limit.window, self.now).jobs > bound)
        });
        if !allowed || beyond_rate || policy.used_up(&counter, self.now).is_some() {
            attempt.stop.get_or_insert(StopReason::Limit);
            self.touched.insert(attempt.agent.clone());
        }
        Ok(())
    }

    /// What these tokens of a model cost by its prices.
    pub(super) fn price(&mut self, model: Option<&ModelName>, tokens: Tokens) -> Need<Money> {
        let Some(model) = model else {
            return Ok(Money::ZERO);
        };
        let prices = self.set.policy(&Scope::Model(model.clone()))?.prices;
        Ok(prices.input.per_million(tokens.tokens_in)
            + prices.output.per_million(tokens.tokens_out)
            + prices.cached.per_million(tokens.tokens_cached))
    }

    fn release_hold(&mut self, attempt: &Attempt, hold: Hold) -> Need<()> {
        if hold == Hold::default() {
            return Ok(());
        }
        for scope in scopes(attempt, attempt.model.as_ref()) {
            let mut counter = (*self.set.counter(&scope)?).clone();
            counter.held_tokens -= hold.tokens;
            counter.held_cost -= hold.cost;
            self.set.put_counter(counter);
            self.open_limited(&scope)?;
        }
        Ok(())
    }

    /// Something of this scope became free. Where nothing limits the scope, nothing waits for that.
    fn open_limited(&mut self, scope: &Scope) -> Need<()> {
        if !self.set.policy(scope)?.limits.is_empty() {
            self.open(scope);
        }
        Ok(())
    }

    /// What waits for this scope is to be tried again.
    pub(super) fn open(&mut self, scope: &Scope) {
        let opened = match scope {
            Scope::Agent(id) => Opened::Agent(id.clone()),
            Scope::Model(model) => Opened::Model(model.clone()),
            Scope::Project(project) => Opened::Gate(Gate::Project(project.clone())),
            Scope::Repo(repo) => Opened::Gate(Gate::Repo(repo.clone())),
            Scope::Fleet => Opened::All,
        };
        // What stands here twice is looked at once; a short look back keeps the usual repeats out.
        if !self.set.opened.iter().rev().take(8).any(|other| *other == opened) {
            self.set.opened.push(opened);
        }
    }

    /// Ends an attempt's accounting: its hold and its slot come back, refunds are booked to the periods of their
    /// charges, and what it made is counted.
    pub(super) fn settle(&mut self, attempt: &mut Attempt, outcome: Outcome) -> Need<()> {
        debug_assert!(attempt.is_live(), "an attempt is settled once");
        self.release_hold(attempt, attempt.hold)?;
        attempt.hold = Hold::default();
        let made = u64::from(outcome == Outcome::Completed);
        for scope in scopes(attempt, attempt.model.as_ref()) {
            let mut counter = (*self.set.counter(&scope)?).clone();
            counter.active -= 1;
            let mut booking = Booking::default();
            match attempt.produces {
                Some(Produces::PullRequest) => {
                    counter.held_pull_requests -= 1;
                    booking.pull_requests = made;
                }
                Some(Produces::Issue) => {
                    counter.held_issues -= 1;
                    booking.issues = made;
                }
                None => {}
            }
            let change = |line: &mut crate::ledger::Line| {
                line.pull_requests += booking.pull_requests;
                line.issues += booking.issues;
            };
            let model = attempt.model.clone();
            self.book_line(attempt.key, &scope, model.as_ref(), &mut counter, change, booking)?;
            self.store_counter(counter)?;
            let bounded = self.set.policy(&scope)?.limits.iter().any(|limit| {
                limit.concurrent.is_some() || limit.pull_requests.is_some() || limit.issues.is_some()
            });
            if bounded {
                self.open(&scope);
            }
        }
        attempt.state = AttemptState::Ended(outcome);
        attempt.ended_at = Some(self.now);
        self.refund(attempt, refund_percent(outcome))
    }

    /// Refunds a share of each ledger line of an attempt, rounded down, to the period of the line's charge.
    fn refund(&mut self, attempt: &Attempt, percent: u64) -> Need<()> {
        if percent == 0 || attempt.usage.is_empty() {
            return Ok(());
        }
        let mut account = (*self.set.account(attempt.key)?).clone();
        let mut touched: BTreeMap<Scope, Counter> = BTreeMap::new();
        for line in &mut account.lines {
            let refund = line.tokens.counted() * percent / 100;
            if refund == 0 {
                continue;
            }
            line.refunded += refund;
            let counter = match touched.remove(&line.scope) {
                Some(counter) => counter,
                None => (*self.set.counter(&line.scope)?).clone(),
            };
            let mut counter = counter;
            let booking = Booking {
                tokens: -signed(refund),
                ..Booking::default()
            };
            counter.book(line.hour, line.resets, booking, self.now);
            touched.insert(line.scope.clone(), counter);
        }
        self.set.put_account(account);
        for (scope, counter) in touched {
            self.set.put_counter(counter);
            self.open_limited(&scope)?;
        }
        Ok(())
    }

    /// What a late success makes is counted, though the attempt was settled before.
    pub(super) fn book_late_success(&mut self, attempt: &Attempt) -> Need<()> {
        let booking = match attempt.produces {
            Some(Produces::PullRequest) => Booking {
                pull_requests: 1,
                ..Booking::default()
            },
            Some(Produces::Issue) => Booking {
                issues: 1,
                ..Booking::default()
            },
            None => return Ok(()),
        };
        let model = attempt.model.clone();
        for scope in scopes(attempt, model.as_ref()) {
            let mut counter = (*self.set.counter(&scope)?).clone();
            let change = |line: &mut crate::ledger::Line| {
                line.pull_requests += booking.pull_requests;
                line.issues += booking.issues;
            };
            self.book_line(attempt.key, &scope, model.as_ref(), &mut counter, change, booking)?;
            self.store_counter(counter)?;
        }
        Ok(())
    }
}
