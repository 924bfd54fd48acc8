//! Holds: what an attempt sets aside of its limits before it has used anything.
//!
//! # Invariants
//! - I4: a learned hold is never more than what is left, so that it refuses nothing that would fit.
//!
//! # Not here
//! How holds are used up and given back: `account`. What is remembered of finished attempts: [`crate::experience`].

use super::Turn;
use crate::attempt::{Attempt, Hold, Tokens};
use crate::experience::Kind;
use crate::ledger::scopes;
use crate::limit::signed;
use crate::money::Money;
use crate::name::ModelName;
use crate::set::Need;
use crate::task::Task;

impl Turn<'_> {
    /// What an attempt of this task holds by its estimate: what a start asks of its limits. A hold that is learned asks
    /// for nothing, since it is never more than what is left.
    pub(super) fn hold_for(&mut self, task: &Task, model: Option<&ModelName>) -> Need<Hold> {
        let tokens = task.estimated_tokens;
        if tokens == 0 {
            return Ok(Hold::default());
        }
        let cost = self.held_cost(model, tokens)?;
        Ok(Hold { tokens, cost })
    }

    /// What an attempt holds from its start: its estimate; without one, where tokens or cost are limited, what such
    /// attempts are known to use, but not more than what is left.
    pub(super) fn hold_at_start(&mut self, task: &Task, attempt: &Attempt) -> Need<Hold> {
        let model = attempt.model.as_ref();
        if task.estimated_tokens > 0 {
            return self.hold_for(task, model);
        }
        let (mut left_tokens, mut left_cost) = (None, None);
        for scope in scopes(attempt, model) {
            let policy = self.set.policy(&scope)?;
            if policy.limits.is_empty() {
                continue;
            }
            let counter = self.set.counter(&scope)?;
            for limit in &policy.limits {
                let used = counter.window(limit.window, self.now);
                if let Some(bound) = limit.tokens {
                    let left = signed(bound)
                        .saturating_sub(used.tokens)
                        .saturating_sub(signed(counter.held_tokens));
                    left_tokens = Some(left_tokens.map_or(left, |least: i64| least.min(left)));
                }
                if let Some(bound) = limit.cost {
                    let left = bound - used.cost - counter.held_cost;
                    left_cost = Some(left_cost.map_or(left, |least: Money| least.min(left)));
                }
            }
        }
        if left_tokens.is_none() && left_cost.is_none() {
            return Ok(Hold::default());
        }
        let kind = Kind::of(&task.class.demand, model);
        let Some(usual) = self.set.experience(&kind)?.percentile() else {
            return Ok(Hold::default());
        };
        let tokens = match left_tokens {
            Some(left) => usual.min(u64::try_from(left).unwrap_or(0)),
            None => usual,
        };
        let cost = self.held_cost(model, tokens)?;
        Ok(Hold {
            tokens,
            cost: left_cost.map_or(cost, |left| cost.min(left.or_zero())),
        })
    }

    /// Remembers what a finished attempt used, for the holds of those like it.
    pub(super) fn learn(&mut self, task: &Task, attempt: &Attempt) -> Need<()> {
        let tokens = attempt.tokens();
        if tokens == 0 {
            return Ok(());
        }
        let kind = Kind::of(&task.class.demand, attempt.model.as_ref());
        let mut experience = (*self.set.experience(&kind)?).clone();
        experience.learn(tokens);
        self.set.put_experience(kind, experience);
        Ok(())
    }

    /// The cost of a hold: as if all of it were output.
    fn held_cost(&mut self, model: Option<&ModelName>, tokens: u64) -> Need<Money> {
        self.price(
            model,
            Tokens {
                tokens_out: tokens,
                ..Tokens::default()
            },
        )
    }
}
