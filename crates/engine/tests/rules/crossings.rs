//! Crossings: how near a limit is, and what happens when it is reached.

use adjutant_core::attempt::StopReason;
use adjutant_core::command::{Answer, CheckStatus, Command};
use adjutant_core::limit::{Allowance, Limit};
use adjutant_core::money::Money;
use adjutant_core::task::{Produces, Status};

use crate::harness::*;

use Status::{Completed, Failed, InProgress, Pending};

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
    let ends: [(&str, Act); 3] = [
        ("reported", |fleet| {
            drop(fleet.complete(failed("x").attempt(1)).unwrap());
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

#[test]
fn a_hard_limit_on_cost_stops_what_runs() {
    let mut fleet = Fleet::new();
    let cents = |cents| Money::from_cents(cents).unwrap();
    fleet.limit(
        "project:p",
        [Limit {
            cost: Some(cents(10.0)),
            ..ever()
        }],
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").project("p")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 0, 0).cost(cents(9.9))).unwrap();
    assert!(fleet.sync(roll("a").running([("x", 1)])).stop.is_empty());
    fleet.report(spent("a", "x", 0, 0).cost(cents(0.1))).unwrap();
    let answer = fleet.sync(roll("a").running([("x", 1)]));
    assert_eq!(stops(&answer), [("x".into(), 1, StopReason::Limit)]);
}

#[test]
fn starts_and_what_they_make_cross_limits_too() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [jobs(daily(), 5)]);
    fleet.limit("repo:o/r", [pull_requests(daily(), 1)]);
    for index in 1..=5 {
        let id = format!("x{index}");
        fleet.submit(task(&id)).unwrap();
        fleet.claim(&id, "a").unwrap();
        let told = (fleet.count("quota_warning"), fleet.count("quota_exceeded"));
        assert_eq!(told, (usize::from(index >= 4), usize::from(index == 5)));
    }
    fleet
        .submit(task("y").repo("o/r").produces(Produces::PullRequest))
        .unwrap();
    fleet.claim("y", "b").unwrap();
    fleet.finish("y");
    assert_eq!(fleet.count("quota_exceeded"), 2);
}

#[test]
fn a_limit_on_all_stops_all_who_run_something() {
    let mut fleet = Fleet::new();
    fleet.limit("fleet", [tokens(daily(), 100)]);
    for id in ["a", "b"] {
        fleet.join(agent(id).with([id]));
        fleet.submit(task(&format!("x-{id}")).labels([id])).unwrap();
        fleet.take(id);
    }
    let waits = ["a", "b"].map(|id| fleet.wait(roll(id).listing(&[(format!("x-{id}"), 1)])));
    fleet.report(spent("a", "x-a", 100, 0)).unwrap();
    for wait in waits {
        assert_eq!(fleet.heard(wait).unwrap().stop.len(), 1);
    }
}

#[test]
fn a_fleets_status_tells_what_each_agent_has_left() {
    let mut fleet = Fleet::new();
    fleet.join(agent("b"));
    fleet.join(agent("a"));
    fleet.limit(
        "agent:a",
        [Limit {
            jobs: Some(3),
            ..tokens(daily(), 100)
        }],
    );
    fleet.submit(task("x").estimate(30)).unwrap();
    match fleet.call(Command::FleetStatus) {
        Ok(Answer::Fleet(standings)) => {
            let left: Vec<_> = standings
                .iter()
                .map(|one| {
                    (
                        one.agent.id.as_str(),
                        one.check.remaining_tokens,
                        one.check.remaining_jobs,
                    )
                })
                .collect();
            assert_eq!(left, [("a", 70, 2), ("b", -1, -1)]);
        }
        other => panic!("{other:?}"),
    }
}
