//! Late word: ends and usage of attempts that are over.

use adjutant_core::rejection::Slug;
use adjutant_core::task::{Produces, Status};

use crate::harness::*;

use Status::{Blocked, Completed, Failed, InProgress, Pending};

/// `x` was lost by agent `a`, which is silent.
fn lost(draft: Draft) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(draft).unwrap();
    fleet.take("a");
    fleet.silence("a");
    fleet.advance(minutes(1) + seconds(30));
    assert_eq!(fleet.doing("a"), "offline");
    fleet
}

#[test]
fn a_lost_attempt_may_succeed_late_while_its_task_waits() {
    let table: [(u32, Act, Status); 4] = [
        (3, |_| (), Pending),
        (3, |fleet| drop(fleet.hold("x").unwrap()), Blocked),
        (1, |_| (), Failed),
        (1, |fleet| drop(fleet.retry("x").unwrap()), Pending),
    ];
    for (retries, between, before) in table {
        let mut fleet = lost(task("x").retries(retries));
        between(&mut fleet);
        assert_eq!(fleet.status("x"), before);
        fleet.complete(done("x").attempt(1).agent("a")).unwrap();
        let task = fleet.stored("x").task;
        assert_eq!(
            (task.status, task.attempt, task.claimed_by.clone()),
            (Completed, 1, Some("a".into()))
        );
    }
}

#[test]
fn a_late_success_lets_dependents_go() {
    // I7
    let mut fleet = lost(task("x").retries(1));
    fleet.submit(task("y").after(["x"])).unwrap();
    assert_eq!(fleet.why("y").0, "dependency_failed");
    fleet.complete(done("x").attempt(1)).unwrap();
    assert_eq!(fleet.status("y"), Pending);
}

#[test]
fn a_timed_out_attempt_may_succeed_late_and_gives_up_its_place() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").timeout(60)).unwrap();
    fleet.take("a");
    fleet.advance(seconds(61));
    fleet.submit(task("next")).unwrap();
    fleet.sync(roll("a").done([done("x").attempt(1)]));
    assert_eq!((fleet.status("x"), fleet.status("next")), (Completed, InProgress));
}

#[test]
fn a_late_success_is_refused_once_a_newer_attempt_started() {
    // I8
    let mut fleet = lost(task("x"));
    fleet.join(agent("b"));
    fleet.advance(seconds(6));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
    assert_eq!(
        fleet.complete(done("x").attempt(1)).unwrap_err().slug,
        Slug::StaleAttempt
    );
    assert_eq!(fleet.attempt("x"), 2);
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn what_was_released_cancelled_or_reported_failed_cannot_succeed_late() {
    let ends: [(&str, Act); 3] = [
        ("released", |fleet| {
            fleet.drain("a");
            fleet.release("x").unwrap();
        }),
        ("cancelled", |fleet| drop(fleet.cancel("x").unwrap())),
        ("failed", |fleet| fleet.fail("x")),
    ];
    for (name, end) in ends {
        let mut fleet = Fleet::new();
        fleet.join(agent("a"));
        fleet.submit(task("x")).unwrap();
        fleet.take("a");
        end(&mut fleet);
        let before = fleet.stored("x").task;
        assert_eq!(
            fleet.complete(done("x").attempt(1)).unwrap_err().slug.code(),
            409,
            "{name}"
        );
        assert_eq!(fleet.stored("x").task, before, "{name}");
    }
}

#[test]
fn a_late_failure_is_refused() {
    let mut fleet = lost(task("x"));
    let before = fleet.stored("x").task;
    assert_eq!(
        fleet.complete(failed("x").attempt(1)).unwrap_err().slug,
        Slug::StaleAttempt
    );
    assert_eq!(fleet.stored("x").task, before);
}

#[test]
fn the_refund_of_a_loss_stays_when_it_succeeds_late() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 1)).unwrap();
    fleet.sync(roll("a"));
    assert_eq!(
        fleet.tokens("agent:a"),
        51,
        "half of 101, rounded down, came back"
    );
    fleet.complete(done("x").attempt(1)).unwrap();
    assert_eq!(fleet.tokens("agent:a"), 51);
}

#[test]
fn a_late_success_counts_what_it_made() {
    let mut fleet = lost(task("x").repo("o/r").produces(Produces::PullRequest));
    fleet.complete(done("x").attempt(1)).unwrap();
    assert_eq!(fleet.counter("repo:o/r").total.pull_requests, 1);
}

#[test]
fn tokens_of_a_refused_stale_completion_are_booked_to_who_ran_it() {
    // I8: nothing but the ledger.
    let mut fleet = lost(task("x"));
    fleet.join(agent("b"));
    fleet.advance(seconds(6));
    fleet.complete(done("x").attempt(1).tokens(30, 12)).unwrap_err();
    assert_eq!((fleet.tokens("agent:a"), fleet.tokens("agent:b")), (42, 0));
    fleet.complete(done("x").attempt(1).tokens(30, 12)).unwrap_err();
    assert_eq!(
        fleet.tokens("agent:a"),
        42,
        "totals, so that a repeat counts once"
    );
}

#[test]
fn tokens_of_a_refused_stale_completion_are_booked_whoever_calls() {
    let mut fleet = lost(task("x"));
    fleet.join(agent("b"));
    fleet.advance(seconds(6));
    let refusal = fleet
        .complete(done("x").attempt(1).agent("b").tokens(30, 12))
        .unwrap_err();
    assert_eq!(refusal.slug.code(), 409);
    assert_eq!((fleet.tokens("agent:a"), fleet.tokens("agent:b")), (42, 0));
}

#[test]
fn late_usage_is_booked_for_a_day() {
    let mut fleet = lost(task("x").retries(1));
    fleet.report(spent("a", "x", 5, 0).attempt(1)).unwrap();
    fleet.advance(minutes(24 * 60 - 2));
    fleet.report(spent("a", "x", 6, 0).attempt(1)).unwrap();
    fleet.advance(minutes(3));
    assert_eq!(
        fleet.report(spent("a", "x", 7, 0).attempt(1)).unwrap_err().slug,
        Slug::StaleAttempt
    );
    assert_eq!(fleet.counter("agent:a").total.tokens, 11);
}

#[test]
fn late_usage_is_booked_only_by_who_ran_the_attempt() {
    let mut fleet = lost(task("x"));
    assert_eq!(
        fleet.report(spent("b", "x", 5, 0).attempt(1)).unwrap_err().slug,
        Slug::NotHolder
    );
}
