//! Limits that are set, and their views: allowances, model quotas, limits of repositories.

use adjutant_core::agent::MAX_CAPABILITIES;
use adjutant_core::limit::{Allowance, Limit, ModelQuota, Prices, RepoLimits, Scope};
use adjutant_core::name::{AgentId, ModelName, RepoName};
use adjutant_core::rejection::Rejection;
use adjutant_wire as wire;

use super::{count, money, names, same_as_path};

/// The scope that a path names.
pub(crate) fn scope(text: &str) -> Result<Scope, Rejection> {
    let scope: Scope = text.parse().map_err(|why| Rejection::field("scope", why))?;
    if let Scope::Repo(repo) = &scope {
        super::repo::<RepoName>("scope", repo.as_str())?;
    }
    Ok(scope)
}

/// All limits of a scope: at most one for each window.
pub(crate) fn limits(scope: &Scope, body: wire::ScopeLimits) -> Result<Vec<Limit>, Rejection> {
    same_as_path("scope", &body.scope, &scope.to_string())?;
    for (index, limit) in body.limits.iter().enumerate() {
        let field = |name: &str| format!("limits[{index}].{name}");
        if body.limits[..index]
            .iter()
            .any(|other| other.window == limit.window)
        {
            return Err(Rejection::field(
                &field("window"),
                format_args!("`{}` has a limit already", limit.window.name()),
            ));
        }
        for (name, bound) in [
            ("tokens", limit.tokens),
            ("jobs", limit.jobs),
            ("concurrent", limit.concurrent),
            ("pull_requests", limit.pull_requests),
            ("issues", limit.issues),
        ] {
            count(field(name), bound.unwrap_or(0))?;
        }
        money(&field("cost"), limit.cost.unwrap_or_default())?;
    }
    Ok(body.limits)
}

/// An agent's allowance.
pub(crate) fn allowance(agent: &AgentId, body: &wire::Allowance) -> Result<Allowance, Rejection> {
    same_as_path("agent_id", &body.agent_id, agent.as_str())?;
    Ok(Allowance {
        daily_token_limit: count("daily_token_limit", body.daily_token_limit)?,
        daily_job_limit: count("daily_job_limit", body.daily_job_limit)?,
        concurrent_jobs: count("concurrent_jobs", body.concurrent_jobs)?,
        max_job_duration: body.max_job_duration,
        model_allowlist: names("model_allowlist", &body.model_allowlist, MAX_CAPABILITIES)?,
    })
}

/// A model's quota and prices.
pub(crate) fn model(model: &ModelName, body: &wire::Model) -> Result<ModelQuota, Rejection> {
    same_as_path("model", &body.model, model.as_str())?;
    Ok(ModelQuota {
        daily_token_budget: count("daily_token_budget", body.daily_token_budget)?,
        hourly_rate_limit: count("hourly_rate_limit", body.hourly_rate_limit)?,
        cost_ceiling: money("cost_ceiling", body.cost_ceiling)?,
        prices: Prices {
            input: money("prices.input", body.prices.input)?,
            output: money("prices.output", body.prices.output)?,
            cached: money("prices.cached", body.prices.cached)?,
        },
    })
}

/// A repository's limits.
pub(crate) fn repo(repo: &RepoName, body: &wire::Repo) -> Result<RepoLimits, Rejection> {
    same_as_path("repo", &body.repo, repo.as_str())?;
    Ok(RepoLimits {
        max_daily_prs: count("max_daily_prs", body.max_daily_prs)?,
        max_daily_issues: count("max_daily_issues", body.max_daily_issues)?,
        cooldown_after_failure: body.cooldown_after_failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::object;

    #[test]
    fn scopes_are_read_from_paths() {
        for text in ["fleet", "agent:a", "model:x/y", "repo:o/n", "project:p"] {
            assert_eq!(scope(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "agent:", "agent:a b", "repo:n", "team:t"] {
            assert!(scope(text).unwrap_err().message.starts_with("scope: "), "{text}");
        }
    }

    #[test]
    fn a_window_has_one_limit() {
        let read = |text: &str| object(text.as_bytes()).and_then(|body| limits(&Scope::Fleet, body));
        let set = read(
            r#"{"limits": [{"window": "day", "tokens": 5}, {"window": "hour", "jobs": 1, "hard": false}]}"#,
        );
        assert_eq!(set.unwrap().len(), 2);
        for (text, field) in [
            (
                r#"{"limits": [{"window": "day"}, {"window": "day"}]}"#,
                "limits[1].window",
            ),
            (r#"{"limits": [{"window": "week"}]}"#, "limits[0].window"),
            (r#"{"limits": [{"tokens": 1}]}"#, "window"),
            (
                r#"{"limits": [{"window": "day", "tokens": -1}]}"#,
                "limits[0].tokens",
            ),
            (
                r#"{"limits": [{"window": "day", "jobs": 1000000000001}]}"#,
                "limits[0].jobs",
            ),
            (r#"{"limits": [{"window": "day", "cost": -1}]}"#, "limits[0].cost"),
            (
                r#"{"limits": [{"window": "day", "cost": 1e10}]}"#,
                "limits[0].cost",
            ),
            (r#"{"scope": "model:m", "limits": []}"#, "scope"),
            ("{}", "limits"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.message.contains(field), "{text}: {}", refused.message);
        }
    }

    #[test]
    fn an_allowance_is_unlimited_where_it_says_nothing() {
        let read = |text: &str| {
            object::<wire::Allowance>(text.as_bytes()).and_then(|body| allowance(&"a".into(), &body))
        };
        assert_eq!(read("{}").unwrap(), Allowance::default());
        let set = read(
            r#"{"agent_id": "a", "daily_token_limit": 5, "max_job_duration": "2h", "model_allowlist": ["m"]}"#,
        );
        assert_eq!(set.unwrap().max_job_duration.as_secs(), 7_200);
        assert!(read(r#"{"agent_id": "b"}"#).is_err());
        assert!(
            read(r#"{"daily_job_limit": 1.5}"#)
                .unwrap_err()
                .message
                .starts_with("daily_job_limit: ")
        );
    }
}
