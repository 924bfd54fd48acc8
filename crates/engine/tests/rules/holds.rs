//! Holds: what a start sets aside where tokens or cost are limited and the task gives no estimate.

use adjutant_core::limit::ModelQuota;
use adjutant_core::money::Money;
use adjutant_core::task::Status;

use crate::harness::*;

use Status::{InProgress, Pending};

/// An agent that has finished so many tasks, each with this many tokens.
fn experienced(attempts: usize, tokens: u64) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(200));
    for number in 0..attempts {
        let id = format!("past{number}");
        fleet.submit(task(&id)).unwrap();
        fleet.take("a");
        fleet.complete(done(&id).tokens(tokens, 0)).unwrap();
    }
    fleet
}

#[test]
fn nothing_is_held_before_twenty_attempts_have_told_what_such_work_uses() {
    for (attempts, held) in [(19, 0), (20, 100)] {
        let mut fleet = experienced(attempts, 100);
        fleet.limit("agent:a", [tokens(daily(), 1_000_000)]);
        fleet.submit(task("x")).unwrap();
        assert_eq!(fleet.counter("agent:a").held_tokens, held, "{attempts} attempts");
    }
}

#[test]
fn where_nothing_limits_tokens_or_cost_nothing_is_held() {
    let mut fleet = experienced(20, 100);
    fleet.limit("agent:a", [jobs(daily(), 1_000)]);
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.counter("agent:a").held_tokens, 0);
}

#[test]
fn an_estimate_goes_before_experience() {
    let mut fleet = experienced(20, 100);
    fleet.limit("agent:a", [tokens(daily(), 1_000_000)]);
    fleet.submit(task("x").estimate(7)).unwrap();
    assert_eq!(fleet.counter("agent:a").held_tokens, 7);
}

#[test]
fn work_of_other_labels_or_another_model_teaches_nothing() {
    let mut fleet = experienced(20, 100);
    fleet.join(agent("b").with(["go"]).models(["m", "n"]));
    fleet.limit("agent:b", [tokens(daily(), 1_000_000)]);
    fleet.submit(task("x").labels(["go"])).unwrap();
    fleet.submit(task("y").model("m").labels(["go"])).unwrap();
    assert_eq!(fleet.counter("agent:b").held_tokens, 0);
}

#[test]
fn a_learned_hold_is_never_more_than_what_is_left() {
    // I4
    let mut fleet = experienced(20, 100);
    let used = fleet.tokens("agent:a").unsigned_abs();
    fleet.limit("agent:a", [tokens(daily(), used + 250)]);
    for id in ["x", "y", "z", "beyond"] {
        fleet.submit(task(id)).unwrap();
    }
    assert_eq!(fleet.counter("agent:a").held_tokens, 250);
    assert_eq!(
        fleet.statuses(["x", "y", "z", "beyond"]),
        [InProgress, InProgress, InProgress, Pending]
    );
}

#[test]
fn a_ceiling_of_cost_is_held_as_well() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(10).models(["m"]));
    let quota = |ceiling| ModelQuota {
        cost_ceiling: Money::from_nanos(ceiling),
        prices: adjutant_core::limit::Prices {
            output: Money::from_nanos(1_000_000),
            ..Default::default()
        },
        ..ModelQuota::default()
    };
    for number in 0..20 {
        let id = format!("past{number}");
        fleet.submit(task(&id)).unwrap();
        fleet.take("a");
        fleet.complete(done(&id).tokens(0, 100)).unwrap();
    }
    // Without prices that was for nothing; from now on a hundred tokens cost a hundred, and 150 are left.
    fleet.model("m", quota(150));
    for id in ["x", "y", "z"] {
        fleet.submit(task(id)).unwrap();
    }
    assert_eq!(fleet.counter("model:m").held_cost, Money::from_nanos(150));
    assert_eq!(fleet.statuses(["x", "y", "z"]), [InProgress, InProgress, Pending]);
}

#[test]
fn a_hundred_slots_with_a_thousand_tokens_left_do_not_run_away() {
    // I4
    let mut fleet = experienced(20, 100);
    let used = fleet.tokens("fleet").unsigned_abs();
    fleet.limit("fleet", [tokens(daily(), used + 1_000)]);
    let ids: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    for id in &ids {
        fleet.submit(task(id)).unwrap();
    }
    let started = ids.iter().filter(|id| fleet.status(id) == InProgress).count();
    assert_eq!(started, 10);
    // What runs uses what was expected: the limit is reached, not passed.
    fleet.take("a");
    for id in ids.iter().take(started) {
        fleet.complete(done(id).tokens(100, 0)).unwrap();
    }
    assert_eq!(fleet.tokens("fleet").unsigned_abs(), used + 1_000);
    assert!(ids.iter().skip(started).all(|id| fleet.status(id) == Pending));
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut fleet = experienced(20, 100);
    fleet.restart();
    fleet.limit("agent:a", [tokens(daily(), 1_000_000)]);
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.counter("agent:a").held_tokens, 100);
}
