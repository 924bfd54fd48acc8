//! Views of limits in the words of those who set them: the allowance of an agent, the quota of a model, the limits of a
//! repository. Each reads and writes a part of a [`Policy`]; there 0 and empty are unlimited.

use super::{Limit, Policy, Prices, Window};
use crate::money::Money;
use crate::name::ModelName;
use crate::time::Span;

/// The seed's allowance of an agent: a view of the limits of `agent:A`. 0 and empty are unlimited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowance {
    /// Tokens in a UTC day.
    pub daily_token_limit: u64,
    /// Attempts started in a UTC day.
    pub daily_job_limit: u64,
    /// Attempts at the same time.
    pub concurrent_jobs: u64,
    /// The longest that one attempt may run.
    pub max_job_duration: Span,
    /// The models that it may use.
    pub model_allowlist: Vec<ModelName>,
}

fn unless_zero(bound: u64) -> Option<u64> {
    (bound > 0).then_some(bound)
}

impl Allowance {
    /// The allowance that a policy amounts to.
    pub fn of(policy: &Policy) -> Self {
        let day = policy.limit(Window::Day);
        Self {
            daily_token_limit: day.and_then(|day| day.tokens).unwrap_or(0),
            daily_job_limit: day.and_then(|day| day.jobs).unwrap_or(0),
            concurrent_jobs: policy
                .limits
                .iter()
                .filter_map(|limit| limit.concurrent)
                .min()
                .unwrap_or(0),
            max_job_duration: policy.max_job_duration.unwrap_or_default(),
            model_allowlist: policy.model_allowlist.clone(),
        }
    }

    /// Puts this allowance in place of the one that the policy amounts to; its other limits stay.
    pub fn put(self, policy: &mut Policy) {
        for limit in &mut policy.limits {
            limit.concurrent = None;
        }
        let mut day = policy
            .limit(Window::Day)
            .cloned()
            .unwrap_or(Limit::none(Window::Day));
        day.tokens = unless_zero(self.daily_token_limit);
        day.jobs = unless_zero(self.daily_job_limit);
        day.concurrent = unless_zero(self.concurrent_jobs);
        policy.set_limit(day);
        policy.limits.retain(|limit| !limit.is_empty());
        policy.max_job_duration = (!self.max_job_duration.is_zero()).then_some(self.max_job_duration);
        policy.model_allowlist = self.model_allowlist;
    }
}

/// The quota of a model: a view of the limits of `model:M`. 0 is unlimited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelQuota {
    /// Tokens in a UTC day.
    pub daily_token_budget: u64,
    /// Attempts started in a UTC hour.
    pub hourly_rate_limit: u64,
    /// Money in total.
    pub cost_ceiling: Money,
    /// What a million tokens cost.
    pub prices: Prices,
}

impl ModelQuota {
    /// The quota that a policy amounts to.
    pub fn of(policy: &Policy) -> Self {
        Self {
            daily_token_budget: policy.limit(Window::Day).and_then(|day| day.tokens).unwrap_or(0),
            hourly_rate_limit: policy.limit(Window::Hour).and_then(|hour| hour.jobs).unwrap_or(0),
            cost_ceiling: policy
                .limit(Window::Total)
                .and_then(|total| total.cost)
                .unwrap_or_default(),
            prices: policy.prices,
        }
    }

    /// Puts this quota in place of the one that the policy amounts to; its other limits stay.
    pub fn put(self, policy: &mut Policy) {
        let mut day = policy
            .limit(Window::Day)
            .cloned()
            .unwrap_or(Limit::none(Window::Day));
        day.tokens = unless_zero(self.daily_token_budget);
        policy.set_limit(day);
        let mut hour = policy
            .limit(Window::Hour)
            .cloned()
            .unwrap_or(Limit::none(Window::Hour));
        hour.jobs = unless_zero(self.hourly_rate_limit);
        policy.set_limit(hour);
        let mut total = policy
            .limit(Window::Total)
            .cloned()
            .unwrap_or(Limit::none(Window::Total));
        total.cost = (self.cost_ceiling > Money::ZERO).then_some(self.cost_ceiling);
        policy.set_limit(total);
        policy.prices = self.prices;
    }
}

/// The limits of a repository: a view of the limits of `repo:R`. 0 is unlimited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepoLimits {
    /// Pull requests in a UTC day.
    pub max_daily_prs: u64,
    /// Issues in a UTC day.
    pub max_daily_issues: u64,
    /// Nothing starts for so long after a failed attempt.
    pub cooldown_after_failure: Span,
}

impl RepoLimits {
    /// The limits that a policy amounts to.
    pub fn of(policy: &Policy) -> Self {
        let day = policy.limit(Window::Day);
        Self {
            max_daily_prs: day.and_then(|day| day.pull_requests).unwrap_or(0),
            max_daily_issues: day.and_then(|day| day.issues).unwrap_or(0),
            cooldown_after_failure: policy.cooldown_after_failure,
        }
    }

    /// Puts these limits in place of those that the policy amounts to; its other limits stay.
    pub fn put(self, policy: &mut Policy) {
        let mut day = policy
            .limit(Window::Day)
            .cloned()
            .unwrap_or(Limit::none(Window::Day));
        day.pull_requests = unless_zero(self.max_daily_prs);
        day.issues = unless_zero(self.max_daily_issues);
        policy.set_limit(day);
        policy.cooldown_after_failure = self.cooldown_after_failure;
    }
}
