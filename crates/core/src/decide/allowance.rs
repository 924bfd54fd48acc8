//! Allowances: what is set for a scope, whether something may start, and resets.

use std::collections::BTreeSet;

use super::{Reply, Turn};
use crate::command::{AgentStanding, Answer, CheckAnswer, CheckStatus, PolicyChange};
use crate::counter::Counter;
use crate::event::EventKind;
use crate::limit::{Ask, LimitRefusal, Policy, Scope, WARNING_PERCENT, signed};
use crate::name::{AgentId, ModelName};
use crate::rejection::Rejection;
use crate::set::Need;
use crate::set::rows::Value;

impl Turn<'_> {
    pub(super) fn get_policy(&mut self, scope: &Scope) -> Need<Reply> {
        Ok(Reply::Now(Ok(Answer::Policy {
            scope: scope.clone(),
            policy: self.set.policy(scope)?,
            counter: self.set.counter(scope)?,
            now: self.now,
        })))
    }

    pub(super) fn set_policy(&mut self, scope: &Scope, change: &PolicyChange) -> Need<Reply> {
        let mut policy = (*self.set.policy(scope)?).clone();
        match change {
            PolicyChange::Limits(limits) => {
                let windows: BTreeSet<_> = limits.iter().map(|limit| limit.window).collect();
                if windows.len() != limits.len() {
                    return Err(Rejection::field("limits", "a window occurs twice").into());
                }
                policy.limits.clear();
                for limit in limits {
                    if limit.permits_nothing() {
                        return Err(Rejection::field(
                            "limits",
                            "a limit is at least 1; leave out what is not to be limited",
                        )
                        .into());
                    }
                    policy.set_limit(limit.clone());
                }
            }
            PolicyChange::Allowance(allowance) => allowance.clone().put(&mut policy),
            PolicyChange::Model(quota) => quota.clone().put(&mut policy),
            PolicyChange::Repo(limits) => limits.clone().put(&mut policy),
        }
        self.set.put_policy(scope.clone(), policy);
        let counter = (*self.set.counter(scope)?).clone();
        // A limit that was lowered below what is used counts as reached.
        if self.set.policy(scope)?.used_up(&counter, self.now).is_some() {
            self.stop_scope(scope);
        }
        self.store_counter(counter)?;
        self.open(scope);
        self.get_policy(scope)
    }

    /// Starts the periods of a scope anew: what was used so far counts no more.
    pub(super) fn reset(&mut self, scope: &Scope) -> Need<Reply> {
        let mut counter = (*self.set.counter(scope)?).clone();
        counter.reset();
        self.set.put_counter(counter);
        let agent = match scope {
            Scope::Agent(id) => Some(id.clone()),
            _ => None,
        };
        let payload = vec![("scope", Value::Text(scope.to_string()))];
        self.set
            .emit(EventKind::QuotaReset, None, agent.as_ref(), self.now, payload);
        self.open(scope);
        self.get_policy(scope)
    }

    /// Whether an agent may start something with a model, and what is left.
    pub(super) fn check(&mut self, agent: &AgentId, model: Option<&ModelName>) -> Need<CheckAnswer> {
        let row = self.set.glance(agent)?;
        let model = match (&row, model) {
            (Some(row), model) => row.model_for(model).cloned(),
            (None, model) => model.cloned(),
        };
        let scope = Scope::Agent(agent.clone());
        let (policy, counter) = (self.set.policy(&scope)?, self.set.counter(&scope)?);
        let refusal = self.first_refusal(&scope, &policy, model.as_ref())?;
        let (remaining_tokens, near) = self.remaining_tokens(&policy, &counter);
        let status = match (&refusal, near) {
            (Some(_), _) => CheckStatus::Exceeded,
            (None, true) => CheckStatus::Warning,
            (None, false) => CheckStatus::Ok,
        };
        Ok(CheckAnswer {
            allowed: refusal.is_none(),
            status,
            remaining_tokens,
            remaining_jobs: self.remaining_jobs(&policy, &counter),
            reason: refusal.map(|refusal| refusal.reason).unwrap_or_default(),
        })
    }

    fn first_refusal(
        &mut self,
        scope: &Scope,
        policy: &Policy,
        model: Option<&ModelName>,
    ) -> Need<Option<LimitRefusal>> {
        if let Err(refusal) = policy.allows_model(scope, model) {
            return Ok(Some(*refusal));
        }
        let scopes = [
            Some(scope.clone()),
            model.cloned().map(Scope::Model),
            Some(Scope::Fleet),
        ];
        for scope in scopes.into_iter().flatten() {
            let (policy, counter) = (self.set.policy(&scope)?, self.set.counter(&scope)?);
            if let Err(refusal) = policy.permits(&scope, &counter, Ask::default(), self.now) {
                return Ok(Some(*refusal));
            }
        }
        Ok(None)
    }

    /// The least that is left of the agent's own limits on tokens, holds counted, and whether 80 % of one are gone.
    fn remaining_tokens(&self, policy: &Policy, counter: &Counter) -> (i64, bool) {
        let mut least = None;
        let mut near = false;
        for limit in &policy.limits {
            let Some(bound) = limit.tokens.map(signed) else {
                continue;
            };
            let taken = counter.window(limit.window, self.now).tokens + signed(counter.held_tokens);
            let left = bound.saturating_sub(taken);
            near |= i128::from(taken) * 100 >= i128::from(bound) * i128::from(WARNING_PERCENT);
            least = Some(least.map_or(left, |least: i64| least.min(left)));
        }
        (least.unwrap_or(-1), near)
    }

    fn remaining_jobs(&self, policy: &Policy, counter: &Counter) -> i64 {
        policy
            .limits
            .iter()
            .filter_map(|limit| {
                let bound = signed(limit.jobs?);
                Some((bound - signed(counter.window(limit.window, self.now).jobs)).max(0))
            })
            .min()
            .unwrap_or(-1)
    }

    pub(super) fn fleet_status(&mut self) -> Need<Reply> {
        let mut agents = self.set.all_agents()?;
        agents.sort_by(|a, b| a.id.cmp(&b.id));
        let mut standings = Vec::with_capacity(agents.len());
        for agent in agents {
            let check = self.check(&agent.id, None)?;
            standings.push(AgentStanding { agent, check });
        }
        Ok(Reply::Now(Ok(Answer::Fleet(standings))))
    }
}
