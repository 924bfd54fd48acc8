//! Limits: what refuses a start and in which words, holds, crossings, hard stops, checks.

use adjutant_core::attempt::StopReason;
use adjutant_core::command::CheckStatus;
use adjutant_core::limit::{Allowance, Limit, ModelQuota, Prices, RepoLimits};
use adjutant_core::money::Money;
use adjutant_core::task::{Produces, Status};

use crate::harness::*;

use Status::{Completed, Failed, InProgress, Pending};

fn cents(cents: f64) -> Money {
    Money::from_cents(cents).unwrap()
}

/// One job of `used` is started and spends 60 tokens; then `x` is claimed by the same id. Its refusal says why.
fn refusal(prepare: impl FnOnce(&mut Fleet), draft: fn(&str) -> Draft) -> Option<String> {
    let mut fleet = Fleet::new();
    prepare(&mut fleet);
    fleet.submit(draft("used")).unwrap();
    fleet.claim("used", "a").unwrap();
    fleet.report(spent("a", "used", 40, 20)).unwrap();
    fleet.submit(draft("x")).unwrap();
    fleet.claim("x", "a").err().map(|refusal| refusal.message)
}

#[test]
fn every_limit_refuses_in_its_own_words() {
    type Prepare = fn(&mut Fleet);
    let draft = |id: &str| {
        task(id)
            .model("m")
            .repo("o/r")
            .project("p")
            .produces(Produces::PullRequest)
    };
    let table: [(&str, Prepare); 20] = [
        ("daily token limit exceeded", |f| {
            f.limit("agent:a", [tokens(daily(), 60)])
        }),
        ("daily job limit exceeded", |f| {
            f.limit("agent:a", [jobs(daily(), 1)])
        }),
        ("concurrent job limit reached", |f| {
            f.limit("agent:a", [concurrent(daily(), 1)])
        }),
        ("agent:a hour tokens limit reached", |f| {
            f.limit("agent:a", [tokens(hourly(), 60)])
        }),
        ("agent:a total jobs limit reached", |f| {
            f.limit("agent:a", [jobs(ever(), 1)])
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
            f.limit("model:m", [tokens(ever(), 60)])
        }),
        ("model:m day concurrent limit reached", |f| {
            f.limit("model:m", [concurrent(daily(), 1)])
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
            f.limit("repo:o/r", [tokens(daily(), 60)])
        }),
        ("repo:o/r hour jobs limit reached", |f| {
            f.limit("repo:o/r", [jobs(hourly(), 1)])
        }),
        ("project:p day tokens limit reached", |f| {
            f.limit("project:p", [tokens(daily(), 60)])
        }),
        ("project:p total jobs limit reached", |f| {
            f.limit("project:p", [jobs(ever(), 1)])
        }),
        ("project:p day pull_requests limit reached", |f| {
            f.limit("project:p", [pull_requests(daily(), 1)])
        }),
        ("fleet day tokens limit reached", |f| {
            f.limit("fleet", [tokens(daily(), 60)])
        }),
        ("fleet hour jobs limit reached", |f| {
            f.limit("fleet", [jobs(hourly(), 1)])
        }),
        ("fleet total concurrent limit reached", |f| {
            f.limit("fleet", [concurrent(ever(), 1)])
        }),
        ("model not in allowlist: m", |f| {
            f.submit(task("first")).unwrap();
            f.allow(
                "a",
                Allowance {
                    model_allowlist: vec!["other".into()],
                    ..Allowance::default()
                },
            );
        }),
    ];
    for (words, prepare) in table {
        if words.starts_with("model not") {
            let mut fleet = Fleet::new();
            prepare(&mut fleet);
            fleet.submit(draft("x")).unwrap();
            assert_eq!(fleet.claim("x", "a").unwrap_err().message, words);
            continue;
        }
        assert_eq!(refusal(prepare, draft).as_deref(), Some(words));
    }
    let issue = |id: &str| task(id).repo("o/r").produces(Produces::Issue);
    let prepare: Prepare = |f| {
        f.repo(
            "o/r",
            RepoLimits {
                max_daily_issues: 1,
                ..RepoLimits::default()
            },
        )
    };
    assert_eq!(
        refusal(prepare, issue).as_deref(),
        Some("repository daily issue limit reached: o/r")
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

// ---- checks ------------------------------------------------------------------------------------------------------

#[test]
fn a_check_says_what_is_left_and_how_near_it_is() {
    let table = [
        (0, CheckStatus::Ok, 1_000, true),
        (799, CheckStatus::Ok, 201, true),
        (800, CheckStatus::Warning, 200, true),
        (1_000, CheckStatus::Exceeded, 0, false),
        (1_250, CheckStatus::Exceeded, -250, false),
    ];
    for (used, status, remaining, allowed) in table {
        let mut fleet = Fleet::new();
        fleet.limit(
            "agent:a",
            [soft(Limit {
                jobs: Some(5),
                ..tokens(daily(), 1_000)
            })],
        );
        fleet.submit(task("x")).unwrap();
        fleet.claim("x", "a").unwrap();
        fleet.report(spent("a", "x", used, 0)).unwrap();
        let check = fleet.allowed("a", None);
        assert_eq!(
            (check.status, check.remaining_tokens, check.allowed),
            (status, remaining, allowed),
            "{used}"
        );
        assert_eq!(check.remaining_jobs, 4);
        assert_eq!(check.reason.is_empty(), allowed);
    }
}

#[test]
fn a_check_counts_holds_and_knows_no_bounds_where_none_are_set() {
    let mut fleet = Fleet::new();
    let check = fleet.allowed("nobody", Some("m"));
    assert_eq!(
        (check.allowed, check.remaining_tokens, check.remaining_jobs),
        (true, -1, -1)
    );
    fleet.limit("agent:a", [tokens(daily(), 1_000)]);
    fleet.submit(task("x").estimate(900)).unwrap();
    fleet.claim("x", "a").unwrap();
    let check = fleet.allowed("a", None);
    assert_eq!(
        (check.remaining_tokens, check.status),
        (100, CheckStatus::Warning)
    );
    fleet.allow(
        "b",
        Allowance {
            model_allowlist: vec!["m".into()],
            ..Allowance::default()
        },
    );
    assert!(fleet.allowed("b", Some("m")).allowed);
    assert_eq!(
        fleet.allowed("b", Some("other")).reason,
        "model not in allowlist: other"
    );
}

// ---- crossings ---------------------------------------------------------------------------------------------------

#[test]
fn crossings_are_told_once_for_each_period() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [soft(tokens(daily(), 100))]);
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    for (used, warnings, exceeded) in [(79, 0, 0), (1, 1, 0), (10, 1, 0), (10, 1, 1), (50, 1, 1)] {
        fleet.report(spent("a", "x", used, 0)).unwrap();
        assert_eq!(
            (fleet.count("quota_warning"), fleet.count("quota_exceeded")),
            (warnings, exceeded)
        );
    }
    fleet.advance_to(fleet.midnight());
    fleet.report(spent("a", "x", 85, 0)).unwrap();
    assert_eq!(
        (fleet.count("quota_warning"), fleet.count("quota_exceeded")),
        (2, 1)
    );
    fleet.reset("agent:a");
    fleet.report(spent("a", "x", 85, 0)).unwrap();
    assert_eq!(
        (fleet.count("quota_warning"), fleet.count("quota_exceeded")),
        (3, 1)
    );
}

#[test]
fn a_hard_limit_stops_what_runs_and_a_soft_one_does_not() {
    let table = [
        (tokens(daily(), 100), true),
        (soft(tokens(daily(), 100)), false),
        (jobs(daily(), 1), false),
        (concurrent(daily(), 1), false),
        (tokens(daily(), 101), false),
    ];
    for (limit, stopped) in table {
        for scope in ["agent:a", "fleet", "project:p", "model:m"] {
            let mut fleet = Fleet::new();
            fleet.limit(scope, [limit.clone()]);
            fleet.join(agent("a"));
            fleet.submit(task("x").project("p").model("m")).unwrap();
            fleet.take("a");
            fleet.report(spent("a", "x", 100, 0)).unwrap();
            let expected = if stopped {
                vec![("x".into(), 1, StopReason::Limit)]
            } else {
                Vec::new()
            };
            let answer = fleet.sync(roll("a").running([("x", 1)]));
            assert_eq!(stops(&answer), expected, "{scope} {limit:?}");
            assert_eq!(
                stops(&fleet.sync(heartbeat("a"))),
                expected,
                "a heartbeat reports stops too"
            );
        }
    }
}

#[test]
fn holds_alone_stop_nothing() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.join(agent("a"));
    fleet.submit(task("x").estimate(100)).unwrap();
    fleet.take("a");
    assert!(fleet.sync(roll("a").running([("x", 1)])).stop.is_empty());
}

#[test]
fn what_is_stopped_for_a_limit_ends_as_released_and_keeps_its_charge() {
    let ends: [(&str, fn(&mut Fleet)); 3] = [
        ("reported", |fleet| {
            drop(fleet.complete(failed("x").attempt(1)).unwrap())
        }),
        ("no longer listed", |fleet| drop(fleet.sync(roll("a")))),
        ("timed out", |fleet| fleet.advance(minutes(10))),
    ];
    for (name, end) in ends {
        let mut fleet = Fleet::new();
        fleet.limit("agent:a", [tokens(daily(), 100)]);
        fleet.join(agent("a"));
        fleet.submit(task("x").timeout(600)).unwrap();
        fleet.take("a");
        fleet.report(spent("a", "x", 120, 0)).unwrap();
        assert_eq!(fleet.sync(roll("a").running([("x", 1)])).stop.len(), 1);
        end(&mut fleet);
        let task = fleet.stored("x").task;
        assert_eq!(
            (task.status, task.retry_count),
            (Pending, 0),
            "{name}: no failure counted"
        );
        assert_eq!(fleet.tokens("agent:a"), 120, "{name}: the charge is kept");
        assert_eq!(fleet.why("x").0, "quota", "{name}");
    }
}

#[test]
fn what_is_stopped_for_a_limit_may_succeed_all_the_same() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 120, 0)).unwrap();
    fleet.sync(roll("a").running([("x", 1)]));
    fleet.complete(done("x").attempt(1)).unwrap();
    assert_eq!(fleet.status("x"), Completed);
}

#[test]
fn lowering_a_limit_counts_as_reaching_it() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    let wait = fleet.wait(roll("a").running([("x", 1)]));
    fleet.limit("fleet", [tokens(daily(), 90)]);
    assert_eq!(
        stops(&fleet.heard(wait).unwrap()),
        [("x".into(), 1, StopReason::Limit)]
    );
    assert_eq!(fleet.count("quota_exceeded"), 1);
}

#[test]
fn a_raised_limit_that_is_reached_again_stops_what_runs() {
    let mut fleet = Fleet::new();
    fleet.limit("fleet", [tokens(daily(), 100)]);
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.submit(task("y")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    fleet.complete(done("x")).unwrap();
    assert_eq!(fleet.status("y"), Pending);
    fleet.limit("fleet", [tokens(daily(), 200)]);
    fleet.take("a");
    let wait = fleet.wait(roll("a").running([("y", 1)]));
    fleet.report(spent("a", "y", 100, 0)).unwrap();
    let answer = fleet
        .heard(wait)
        .expect("a hard limit was reached: the wait ends at once");
    assert_eq!(stops(&answer), [("y".into(), 1, StopReason::Limit)]);
}

#[test]
fn debt_is_not_forgotten() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [soft(tokens(daily(), 100))]);
    fleet.join(agent("a"));
    fleet.submit(task("x").estimate(50).retries(1)).unwrap();
    fleet.report(spent("a", "x", 250, 0)).unwrap();
    assert_eq!(fleet.allowed("a", None).remaining_tokens, -150);
    fleet.fail("x");
    assert_eq!(
        (fleet.status("x"), fleet.allowed("a", None).remaining_tokens),
        (Failed, -25)
    );
    fleet.submit(task("y")).unwrap();
    assert_eq!(fleet.status("y"), Pending);
    fleet.advance_to(fleet.midnight());
    assert_eq!(fleet.status("y"), InProgress);
}
