//! Limits, and what is used of them, as they go out.

use adjutant_core::counter::Counter;
use adjutant_core::limit::{Allowance, ModelQuota, Policy, RepoLimits, Scope, Window};
use adjutant_core::name::{AgentId, ModelName, RepoName};
use adjutant_core::time::Timestamp;
use adjutant_wire as wire;

use super::texts;

/// All limits of a scope with what is used of them.
pub(crate) fn scope(scope: &Scope, policy: &Policy, counter: &Counter, now: Timestamp) -> wire::ScopeLimits {
    wire::ScopeLimits {
        scope: scope.to_string(),
        limits: policy.limits.clone(),
        used: Window::ALL.map(|window| scope_use(counter, window, now)).to_vec(),
        held_tokens: counter.held_tokens,
        held_cost: counter.held_cost,
        active_jobs: counter.active,
    }
}

fn scope_use(counter: &Counter, window: Window, now: Timestamp) -> wire::ScopeUse {
    let tally = counter.window(window, now);
    wire::ScopeUse {
        window: window.name().to_owned(),
        period_start: (window != Window::Total).then(|| window.start(now)),
        tokens: tally.tokens,
        cost: tally.cost,
        jobs: tally.jobs,
        pull_requests: tally.pull_requests,
        issues: tally.issues,
    }
}

/// The allowance of an agent.
pub(crate) fn allowance(agent: &AgentId, policy: &Policy) -> wire::Allowance {
    let allowance = Allowance::of(policy);
    wire::Allowance {
        agent_id: agent.to_string(),
        daily_token_limit: allowance.daily_token_limit,
        daily_job_limit: allowance.daily_job_limit,
        concurrent_jobs: allowance.concurrent_jobs,
        max_job_duration: allowance.max_job_duration,
        model_allowlist: texts(&allowance.model_allowlist),
    }
}

/// What an agent used today.
pub(crate) fn usage(agent: &AgentId, counter: &Counter, now: Timestamp) -> wire::AllowanceUsage {
    let today = counter.window(Window::Day, now);
    wire::AllowanceUsage {
        agent_id: agent.to_string(),
        tokens_used: today.tokens,
        jobs_started: today.jobs,
        active_jobs: counter.active,
        cost: today.cost,
        period_start: Window::Day.start(now),
    }
}

/// The quota and the prices of a model.
pub(crate) fn model(model: &ModelName, policy: &Policy) -> wire::Model {
    let quota = ModelQuota::of(policy);
    wire::Model {
        model: model.to_string(),
        daily_token_budget: quota.daily_token_budget,
        hourly_rate_limit: quota.hourly_rate_limit,
        cost_ceiling: quota.cost_ceiling,
        prices: quota.prices,
    }
}

/// The limits of a repository.
pub(crate) fn repo(repo: &RepoName, policy: &Policy) -> wire::Repo {
    let limits = RepoLimits::of(policy);
    wire::Repo {
        repo: repo.to_string(),
        max_daily_prs: limits.max_daily_prs,
        max_daily_issues: limits.max_daily_issues,
        cooldown_after_failure: limits.cooldown_after_failure,
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::counter::Booking;
    use adjutant_core::time::Span;

    use super::*;

    #[test]
    fn usage_of_yesterday_is_not_shown_as_that_of_today() {
        let day: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let mut counter = Counter::new(Scope::Agent("a".into()));
        let booking = Booking {
            jobs: 1,
            tokens: 7,
            ..Booking::default()
        };
        counter.book(day.hour(), 0, booking, day);
        let today = usage(&"a".into(), &counter, day);
        assert_eq!(
            (today.tokens_used, today.jobs_started, today.period_start),
            (7, 1, day)
        );
        let tomorrow = usage(&"a".into(), &counter, day + Span::DAY);
        assert_eq!(
            (tomorrow.tokens_used, tomorrow.period_start),
            (0, day + Span::DAY)
        );
        let all = scope(&counter.scope, &Policy::default(), &counter, day + Span::DAY);
        assert_eq!(
            all.used.iter().map(|used| used.tokens).collect::<Vec<_>>(),
            [0, 0, 7]
        );
    }
}
