//! Usage: what reports add, what ends refund, and for which model it counts.

use adjutant_core::attempt::StopReason;
use adjutant_core::limit::{Allowance, ModelQuota, Prices};
use adjutant_core::money::Money;
use adjutant_core::task::Status;

use crate::harness::*;

fn cents(cents: f64) -> Money {
    Money::from_cents(cents).unwrap()
}

fn running(draft: Draft) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(draft).unwrap();
    fleet.take("a");
    fleet
}

#[test]
fn each_end_refunds_its_share_and_keeps_jobs_and_cost() {
    let table: [(&str, i64, Act); 9] = [
        ("completed", 101, |f| f.finish("x")),
        ("failed", 51, |f| f.fail("x")),
        ("lost", 51, |f| drop(f.sync(roll("a")))),
        ("timed out", 51, |f| f.advance(minutes(10))),
        ("cancelled by an operator", 0, |f| drop(f.cancel("x").unwrap())),
        ("released by an operator", 101, |f| drop(f.release("x").unwrap())),
        ("deregistered", 101, |f| f.deregister("a")),
        ("rate limited", 101, |f| {
            let until = f.now + minutes(5);
            f.complete(failed("x").rate_limited(until)).unwrap();
        }),
        ("a new session", 51, |f| {
            f.join(agent("a").session("one"));
            f.join(agent("a").session("two"));
        }),
    ];
    for (name, tokens, end) in table {
        let mut fleet = running(
            task("x")
                .timeout(600)
                .estimate(500)
                .model("m")
                .project("p")
                .repo("o/r"),
        );
        fleet.report(spent("a", "x", 100, 1).cost(cents(3.0))).unwrap();
        fleet.drain("a");
        end(&mut fleet);
        for scope in ["agent:a", "model:m", "project:p", "repo:o/r", "fleet"] {
            let counter = fleet.counter(scope);
            let day = counter.day;
            assert_eq!(
                (day.tokens, day.jobs, day.cost),
                (tokens, 1, cents(3.0)),
                "{name}: {scope}"
            );
            assert_eq!((counter.held_tokens, counter.active), (0, 0), "{name}: {scope}");
        }
    }
}

#[test]
fn a_refund_wakes_what_waits_for_it() {
    for scope in ["agent:a", "model:m", "project:p", "fleet"] {
        let mut fleet = running(task("x").model("m").project("p").retries(1));
        fleet.limit(scope, [soft(tokens(ever(), 100))]);
        fleet.report(spent("a", "x", 100, 0)).unwrap();
        fleet.submit(task("y").model("m").project("p")).unwrap();
        fleet.drain("a");
        fleet.fail("x");
        fleet.undrain("a");
        assert_eq!(fleet.status("y"), Status::InProgress, "{scope}");
    }
}

#[test]
fn refunds_are_rounded_down_for_each_line() {
    // Two models are two lines: 7/2 + 5/2 rounded down each.
    let mut fleet = running(task("x").retries(1));
    fleet.report(spent("a", "x", 7, 0).model("one")).unwrap();
    fleet.report(spent("a", "x", 5, 0).model("two")).unwrap();
    fleet.fail("x");
    assert_eq!(
        (
            fleet.tokens("agent:a"),
            fleet.tokens("model:one"),
            fleet.tokens("model:two")
        ),
        (7, 4, 3)
    );
}

#[test]
fn a_refund_concerns_only_the_attempt_that_ended() {
    let mut fleet = running(task("x"));
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    fleet.fail("x");
    fleet.advance(minutes(1));
    fleet.take("a");
    fleet.report(spent("a", "x", 10, 0)).unwrap();
    fleet.cancel("x").unwrap();
    assert_eq!(fleet.tokens("agent:a"), 50);
}

#[test]
fn an_increase_adds_and_a_total_adds_only_what_is_new() {
    let mut fleet = running(task("x").model("m"));
    let steps = [
        (spent("a", "x", 10, 5), 15),
        (spent("a", "x", 10, 5), 30),
        (spent("a", "x", 20, 10).total(), 30),
        (spent("a", "x", 25, 10).total(), 35),
        (spent("a", "x", 1, 1).total(), 35),
        (spent("a", "x", 25, 10).total(), 35),
        (spent("a", "x", 3, 0).model("other").total(), 38),
        (spent("a", "x", 3, 0).model("other").total(), 38),
    ];
    for (report, tokens) in steps {
        fleet.report(report.attempt(1)).unwrap();
        assert_eq!(fleet.tokens("agent:a"), tokens);
    }
    fleet.complete(done("x").tokens(30, 10)).unwrap();
    assert_eq!(
        fleet.tokens("model:m"),
        40,
        "tokens of an end are totals for the task's model"
    );
    let usage = fleet.stored("x").task.usage.clone();
    assert_eq!(usage.iter().map(|entry| entry.tokens.counted()).sum::<u64>(), 43);
}

#[test]
fn the_model_of_an_end_is_its_own_then_the_tasks_then_the_last_reported() {
    type Case = (
        Option<&'static str>,
        Option<&'static str>,
        Option<&'static str>,
        &'static str,
    );
    let table: [Case; 4] = [
        (Some("own"), Some("task"), Some("reported"), "model:own"),
        (None, Some("task"), Some("reported"), "model:task"),
        (None, None, Some("reported"), "model:reported"),
        (None, None, None, "model:only"),
    ];
    for (own, asked, reported, scope) in table {
        let mut fleet = Fleet::new();
        if asked.is_none() {
            fleet.join(agent("a").models(["only"]));
        } else {
            fleet.join(agent("a"));
        }
        fleet
            .submit(asked.iter().fold(task("x"), |draft, model| draft.model(model)))
            .unwrap();
        if let Some(model) = reported {
            fleet.report(spent("a", "x", 1, 0).model(model)).unwrap();
        }
        let before = fleet.tokens(scope);
        let end = own
            .iter()
            .fold(done("x").tokens(100, 0), |end, model| end.model(model));
        fleet.complete(end).unwrap();
        assert_eq!(fleet.tokens(scope) - before, 100 - before, "{scope}");
    }
}

#[test]
fn cached_tokens_cost_money_and_count_for_no_limit_on_tokens() {
    let mut fleet = Fleet::new();
    let prices = Prices {
        input: cents(300.0),
        output: cents(1_500.0),
        cached: cents(30.0),
    };
    fleet.model(
        "m",
        ModelQuota {
            prices,
            ..ModelQuota::default()
        },
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").model("m")).unwrap();
    fleet
        .report(spent("a", "x", 1_000, 1_000).cached(10_000))
        .unwrap();
    let counter = fleet.counter("model:m");
    assert_eq!(
        (counter.day.tokens, counter.day.cost),
        (2_000, cents(0.3 + 1.5 + 0.3))
    );
}

#[test]
fn a_cost_that_is_told_goes_before_prices() {
    let mut fleet = Fleet::new();
    let prices = Prices {
        input: cents(300.0),
        ..Prices::default()
    };
    fleet.model(
        "m",
        ModelQuota {
            prices,
            ..ModelQuota::default()
        },
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").model("m")).unwrap();
    fleet
        .report(spent("a", "x", 1_000, 0).cost(cents(7.0)).total())
        .unwrap();
    fleet
        .report(spent("a", "x", 2_000, 0).cost(cents(8.0)).total())
        .unwrap();
    assert_eq!(fleet.counter("fleet").day.cost, cents(8.0));
}

#[test]
fn a_task_without_a_model_counts_for_its_agents_only_one() {
    let mut fleet = Fleet::new();
    fleet.model(
        "m",
        ModelQuota {
            hourly_rate_limit: 1,
            ..ModelQuota::default()
        },
    );
    fleet.join(agent("a").models(["m"]).load(2));
    fleet.join(agent("b").models(["m", "n"]).load(1));
    fleet.submit(task("x").labels([])).unwrap();
    assert_eq!(
        (fleet.holder("x").as_deref(), fleet.counter("model:m").active),
        (Some("a"), 1)
    );
    fleet.submit(task("y")).unwrap();
    assert_eq!(
        fleet.holder("y").as_deref(),
        Some("b"),
        "the hour of m is used up"
    );
    assert_eq!(fleet.counter("model:m").active, 1);
}

#[test]
fn the_first_report_of_a_model_that_was_not_asked_for_counts_one_request() {
    let mut fleet = running(task("x").model("m"));
    for _ in 0..2 {
        fleet.report(spent("a", "x", 10, 0).model("other")).unwrap();
    }
    let other = fleet.counter("model:other");
    assert_eq!((other.hour.jobs, other.active), (1, 0));
    assert_eq!(
        (fleet.jobs("model:m"), fleet.jobs("agent:a"), fleet.jobs("fleet")),
        (1, 1, 1)
    );
}

#[test]
fn a_model_that_was_not_asked_for_is_checked_with_its_first_report() {
    let table: [(&str, bool, Act); 4] = [
        ("nothing is set", false, |_| ()),
        ("allowlist", true, |f| {
            f.allow(
                "a",
                Allowance {
                    model_allowlist: vec!["m".into()],
                    ..Allowance::default()
                },
            );
        }),
        ("rate", true, |f| f.exhaust("model:other")),
        ("tokens", true, |f| f.limit("model:other", [tokens(daily(), 10)])),
    ];
    for (name, stopped, prepare) in table {
        let mut fleet = Fleet::new();
        prepare(&mut fleet);
        fleet.join(agent("a"));
        fleet.submit(task("x").model("m")).unwrap();
        fleet.take("a");
        let wait = fleet.wait(roll("a").running([("x", 1)]));
        fleet.report(spent("a", "x", 10, 0).model("other")).unwrap();
        let heard = fleet.heard(wait).map(|answer| stops(&answer));
        let expected = stopped.then(|| vec![("x".into(), 1, StopReason::Limit)]);
        assert_eq!(heard, expected, "{name}");
    }
}

#[test]
fn usage_is_told_as_an_event_each_time_something_is_booked() {
    let mut fleet = running(task("x"));
    fleet.report(spent("a", "x", 10, 0).total()).unwrap();
    fleet.report(spent("a", "x", 10, 0).total()).unwrap();
    fleet.complete(done("x").tokens(11, 0)).unwrap();
    assert_eq!(
        (fleet.count("usage_recorded"), fleet.status("x")),
        (2, Status::Completed)
    );
}
