//! Limits: what refuses a start and in which words, and what is held.

use adjutant_core::limit::{Allowance, Limit, ModelQuota, Prices, RepoLimits};
use adjutant_core::money::Money;
use adjutant_core::task::{Produces, Status};

use crate::harness::*;

use Status::{InProgress, Pending};

fn cents(cents: f64) -> Money {
    Money::from_cents(cents).unwrap()
}

/// One job of `used` is started and spends 60 tokens; then `x` is claimed by the same id. Its refusal says why.
fn refusal(prepare: impl FnOnce(&mut Fleet), draft: impl Fn(&str) -> Draft) -> Option<String> {
    let mut fleet = Fleet::new();
    prepare(&mut fleet);
    fleet.submit(draft("used")).unwrap();
    fleet.claim("used", "a").unwrap();
    fleet.report(spent("a", "used", 40, 20)).unwrap();
    fleet.submit(draft("x")).unwrap();
    fleet.claim("x", "a").err().map(|refusal| refusal.message)
}

/// A limit that is set like this refuses the second of two tasks in these words.
fn assert_words(words: &str, prepare: Act) {
    let draft = |id: &str| {
        let draft = task(id).model("m").repo("o/r").project("p");
        draft.produces(if words.contains("issue") {
            Produces::Issue
        } else {
            Produces::PullRequest
        })
    };
    assert_eq!(refusal(prepare, draft).as_deref(), Some(words));
}

#[test]
fn every_limit_of_an_agent_or_a_model_refuses_in_its_own_words() {
    let table: [(&str, Act); 10] = [
        ("daily token limit exceeded", |f| {
            f.limit("agent:a", [tokens(daily(), 60)]);
        }),
        ("daily job limit exceeded", |f| {
            f.limit("agent:a", [jobs(daily(), 1)]);
        }),
        ("concurrent job limit reached", |f| {
            f.limit("agent:a", [concurrent(daily(), 1)]);
        }),
        ("agent:a hour tokens limit reached", |f| {
            f.limit("agent:a", [tokens(hourly(), 60)]);
        }),
        ("agent:a total jobs limit reached", |f| {
            f.limit("agent:a", [jobs(ever(), 1)]);
        }),
        ("global model token budget exceeded for: m", |f| {
            f.model(
                "m",
                ModelQuota {
                    daily_token_budget: 60,
                    ..ModelQuota::default()
                },
            );
        }),
        ("model hourly rate limit reached for: m", |f| {
            f.model(
                "m",
                ModelQuota {
                    hourly_rate_limit: 1,
                    ..ModelQuota::default()
                },
            );
        }),
        ("model cost ceiling reached for: m", |f| {
            let prices = Prices {
                input: cents(1_000_000.0),
                ..Prices::default()
            };
            f.model(
                "m",
                ModelQuota {
                    cost_ceiling: cents(40.0),
                    prices,
                    ..ModelQuota::default()
                },
            );
        }),
        ("model:m total tokens limit reached", |f| {
            f.limit("model:m", [tokens(ever(), 60)]);
        }),
        ("model:m day concurrent limit reached", |f| {
            f.limit("model:m", [concurrent(daily(), 1)]);
        }),
    ];
    for (words, prepare) in table {
        assert_words(words, prepare);
    }
}

#[test]
fn every_limit_of_a_repository_a_project_or_the_fleet_refuses_in_its_own_words() {
    let table: [(&str, Act); 10] = [
        ("repository daily issue limit reached: o/r", |f| {
            f.repo(
                "o/r",
                RepoLimits {
                    max_daily_issues: 1,
                    ..RepoLimits::default()
                },
            );
        }),
        ("repository daily pull request limit reached: o/r", |f| {
            f.repo(
                "o/r",
                RepoLimits {
                    max_daily_prs: 1,
                    ..RepoLimits::default()
                },
            );
        }),
        ("repo:o/r day tokens limit reached", |f| {
            f.limit("repo:o/r", [tokens(daily(), 60)]);
        }),
        ("repo:o/r hour jobs limit reached", |f| {
            f.limit("repo:o/r", [jobs(hourly(), 1)]);
        }),
        ("project:p day tokens limit reached", |f| {
            f.limit("project:p", [tokens(daily(), 60)]);
        }),
        ("project:p total jobs limit reached", |f| {
            f.limit("project:p", [jobs(ever(), 1)]);
        }),
        ("project:p day pull_requests limit reached", |f| {
            f.limit("project:p", [pull_requests(daily(), 1)]);
        }),
        ("fleet day tokens limit reached", |f| {
            f.limit("fleet", [tokens(daily(), 60)]);
        }),
        ("fleet hour jobs limit reached", |f| {
            f.limit("fleet", [jobs(hourly(), 1)]);
        }),
        ("fleet total concurrent limit reached", |f| {
            f.limit("fleet", [concurrent(ever(), 1)]);
        }),
    ];
    for (words, prepare) in table {
        assert_words(words, prepare);
    }
}

#[test]
fn a_model_that_is_not_in_the_allowlist_is_refused_in_these_words() {
    let mut fleet = Fleet::new();
    let model_allowlist = vec!["other".into()];
    fleet.allow(
        "a",
        Allowance {
            model_allowlist,
            ..Allowance::default()
        },
    );
    fleet.submit(task("x").model("m")).unwrap();
    assert_eq!(
        fleet.claim("x", "a").unwrap_err().message,
        "model not in allowlist: m"
    );
}

#[test]
fn a_limit_that_is_not_reached_refuses_nothing() {
    // I4: with no hold of its own a start needs used + held < limit.
    let table: [(Limit, bool); 5] = [
        (tokens(daily(), 61), true),
        (tokens(daily(), 60), false),
        (jobs(daily(), 2), true),
        (concurrent(daily(), 2), true),
        (soft(tokens(daily(), 60)), false),
    ];
    for (limit, permitted) in table {
        let refused = refusal(|fleet| fleet.limit("agent:a", [limit.clone()]), task);
        assert_eq!(refused.is_none(), permitted, "{limit:?}: {refused:?}");
    }
}

#[test]
fn several_windows_of_a_scope_bind_together() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [jobs(hourly(), 1), jobs(daily(), 2)]);
    for id in ["x", "y", "z"] {
        fleet.submit(task(id)).unwrap();
    }
    fleet.claim("x", "a").unwrap();
    assert_eq!(
        fleet.claim("y", "a").unwrap_err().message,
        "agent:a hour jobs limit reached"
    );
    fleet.advance_to(fleet.next_hour());
    fleet.claim("y", "a").unwrap();
    fleet.advance_to(fleet.next_hour());
    assert_eq!(
        fleet.claim("z", "a").unwrap_err().message,
        "daily job limit exceeded"
    );
}

#[test]
fn the_default_allowance_binds_agents_without_one() {
    use adjutant_core::limit::Policy;
    let default_allowance = Policy {
        limits: vec![jobs(daily(), 1)],
        ..Policy::default()
    }
    .into();
    let mut fleet = Fleet::with(adjutant_engine::Settings {
        default_allowance,
        ..Default::default()
    });
    for id in ["x", "y"] {
        fleet.submit(task(id)).unwrap();
    }
    fleet.claim("x", "a").unwrap();
    assert_eq!(
        fleet.claim("y", "a").unwrap_err().message,
        "daily job limit exceeded"
    );
    fleet.allow(
        "a",
        Allowance {
            daily_job_limit: 2,
            ..Allowance::default()
        },
    );
    fleet.claim("y", "a").unwrap();
}

// ---- holds -------------------------------------------------------------------------------------------------------

#[test]
fn an_estimate_is_held_in_every_scope_and_comes_back() {
    let mut fleet = Fleet::new();
    let prices = Prices {
        output: cents(1_000_000.0),
        ..Prices::default()
    };
    fleet.model(
        "m",
        ModelQuota {
            prices,
            ..ModelQuota::default()
        },
    );
    fleet
        .submit(task("x").model("m").repo("o/r").project("p").estimate(100))
        .unwrap();
    fleet.claim("x", "a").unwrap();
    let scopes = ["agent:a", "model:m", "repo:o/r", "project:p", "fleet"];
    for scope in scopes {
        let counter = fleet.counter(scope);
        assert_eq!(
            (counter.held_tokens, counter.held_cost, counter.active),
            (100, cents(100.0), 1),
            "{scope}"
        );
    }
    fleet.report(spent("a", "x", 30, 0)).unwrap();
    assert_eq!(
        (fleet.counter("fleet").held_tokens, fleet.tokens("fleet")),
        (70, 30)
    );
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    assert_eq!(
        (fleet.counter("fleet").held_tokens, fleet.tokens("fleet")),
        (0, 130),
        "the rest in full"
    );
    fleet.finish("x");
    for scope in scopes {
        let counter = fleet.counter(scope);
        assert_eq!(
            (counter.held_tokens, counter.held_cost, counter.active),
            (0, Money::ZERO, 0),
            "{scope}"
        );
    }
}

#[test]
fn holds_count_for_limits() {
    // I4: used + held + own hold ≤ limit.
    let mut fleet = Fleet::new();
    fleet.limit("fleet", [tokens(daily(), 100)]);
    for (id, estimate) in [("x", 60), ("y", 41), ("z", 40), ("more", 0)] {
        fleet.submit(task(id).estimate(estimate)).unwrap();
    }
    fleet.claim("x", "a").unwrap();
    assert_eq!(
        fleet.claim("y", "a").unwrap_err().message,
        "fleet day tokens limit reached"
    );
    fleet.claim("z", "a").unwrap();
    assert_eq!(fleet.claim("more", "a").unwrap_err().slug.code(), 429);
}

#[test]
fn a_pull_request_is_held_while_it_is_made_and_counted_when_it_is() {
    let table = [("done", true, 1), ("failed", false, 0)];
    for (name, success, made) in table {
        let mut fleet = Fleet::new();
        fleet.repo(
            "o/r",
            RepoLimits {
                max_daily_prs: 1,
                ..RepoLimits::default()
            },
        );
        fleet.join(agent("a").load(2));
        fleet
            .submit(task("x").repo("o/r").produces(Produces::PullRequest).retries(1))
            .unwrap();
        fleet
            .submit(task("y").repo("o/r").produces(Produces::PullRequest))
            .unwrap();
        fleet.submit(task("other").repo("o/r")).unwrap();
        assert_eq!(
            fleet.statuses(["x", "y", "other"]),
            [InProgress, Pending, InProgress],
            "{name}"
        );
        fleet
            .complete(if success { done("x") } else { failed("x") })
            .unwrap();
        assert_eq!(fleet.counter("repo:o/r").total.pull_requests, made, "{name}");
        assert_eq!(
            fleet.status("y"),
            if success { Pending } else { InProgress },
            "{name}"
        );
    }
}

#[test]
fn a_repository_cools_down_after_a_failed_attempt() {
    let mut fleet = Fleet::new();
    fleet.repo(
        "o/r",
        RepoLimits {
            cooldown_after_failure: minutes(10),
            ..RepoLimits::default()
        },
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").repo("o/r").retries(1)).unwrap();
    fleet.fail("x");
    fleet.submit(task("y").repo("o/r")).unwrap();
    assert_eq!(
        fleet.why("y"),
        ("repo_limit", "repository cooling down after failure: o/r".into())
    );
    fleet.restart();
    fleet.advance(minutes(10));
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
}

#[test]
fn the_end_of_a_cooldown_is_not_missed_when_somebody_asks_first() {
    let mut fleet = Fleet::new();
    fleet.repo(
        "o/r",
        RepoLimits {
            cooldown_after_failure: minutes(10),
            ..RepoLimits::default()
        },
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").repo("o/r").retries(1)).unwrap();
    fleet.fail("x");
    fleet.submit(task("y").repo("o/r")).unwrap();
    fleet.jump(minutes(10));
    fleet.sync(heartbeat("a"));
    fleet.tick();
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
}
