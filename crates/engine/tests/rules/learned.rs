//! Learned holds: what a task without an estimate holds where a limit on tokens or cost exists.

use crate::harness::*;

/// `finished` tasks with label `go` used 10, 20, 30 … tokens.
fn experience(finished: u32) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").with(["go", "sql"]).models(["m"]).load(0));
    for index in 1..=finished {
        let id = format!("past-{index}");
        fleet.submit(task(&id).labels(["go"]).model("m")).unwrap();
        fleet
            .complete(done(&id).tokens(u64::from(index) * 10, 0))
            .unwrap();
    }
    fleet
}

#[test]
fn a_hold_is_learned_from_twenty_finished_attempts_of_the_same_kind() {
    for (finished, hold) in [(19, 0), (20, 180)] {
        let mut fleet = experience(finished);
        fleet.limit("fleet", [tokens(ever(), 1_000_000)]);
        fleet.submit(task("x").labels(["go"]).model("m")).unwrap();
        assert_eq!(fleet.counter("fleet").held_tokens, hold, "{finished} samples");
    }
}

#[test]
fn nothing_is_learned_for_other_labels_or_without_a_limit() {
    let mut fleet = experience(20);
    fleet.submit(task("x").labels(["go"]).model("m")).unwrap();
    assert_eq!(fleet.counter("fleet").held_tokens, 0, "no limit exists");
    fleet.limit("fleet", [tokens(ever(), 1_000_000)]);
    fleet.submit(task("y").labels(["sql"]).model("m")).unwrap();
    assert_eq!(fleet.counter("fleet").held_tokens, 0, "other labels");
}

#[test]
fn a_learned_hold_never_refuses_what_would_fit() {
    let mut fleet = experience(20);
    let used = u64::try_from(fleet.counter("fleet").total.tokens).unwrap();
    fleet.limit("fleet", [tokens(ever(), used + 50)]);
    fleet.submit(task("x").labels(["go"]).model("m")).unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
    assert_eq!(
        fleet.counter("fleet").held_tokens,
        50,
        "never more than what is left"
    );
}

#[test]
fn an_estimate_goes_before_what_was_learned() {
    let mut fleet = experience(20);
    fleet.limit("fleet", [tokens(ever(), 1_000_000)]);
    fleet
        .submit(task("x").labels(["go"]).model("m").estimate(7))
        .unwrap();
    assert_eq!(fleet.counter("fleet").held_tokens, 7);
}
