//! Roll-call: sessions, sync numbers, syncs that wait, offers that nobody fetches.

use adjutant_core::attempt::StopReason;
use adjutant_core::command::Command;
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;
use adjutant_core::time::Span;

use crate::harness::*;

use Status::{InProgress, Pending};

fn crew() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet
}

fn busy() -> Fleet {
    let mut fleet = crew();
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet
}

// ---- sessions ----------------------------------------------------------------------------------------------------

#[test]
fn a_new_session_ends_the_attempts_of_the_old_one() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").session("old"));
    fleet.submit(task("x")).unwrap();
    fleet.sync(roll("a").session("old"));
    fleet.sync(roll("a").session("old").running([("x", 1)]));
    fleet.join(agent("a").session("new"));
    assert_eq!(
        (fleet.status("x"), fleet.stored("x").task.retry_count),
        (Pending, 1)
    );
    for refused in [roll("a").session("old"), heartbeat("a").session("old")] {
        assert_eq!(fleet.try_sync(refused).unwrap_err().slug, Slug::Superseded);
    }
    fleet.sync(roll("a").session("new"));
}

#[test]
fn a_late_word_of_an_old_session_does_not_bring_it_back() {
    let mut fleet = Fleet::new();
    for session in ["one", "two", "three"] {
        fleet.join(agent("a").session(session));
    }
    fleet.sync(roll("a").session("three").n(7));
    for former in ["one", "two"] {
        let late = fleet.call(agent("a").session(former).with(["old"]).command());
        assert_eq!(late.unwrap_err().slug, Slug::Superseded);
        assert_eq!(
            fleet.try_sync(roll("a").session(former)).unwrap_err().slug,
            Slug::Superseded
        );
    }
    assert!(fleet.agent("a").capabilities.is_empty());
    fleet.restart();
    let late = fleet.call(agent("a").session("two").command());
    assert_eq!(late.unwrap_err().slug, Slug::Superseded, "it is remembered");
    fleet.sync(roll("a").session("three").n(8));
}

#[test]
fn a_superseded_call_changes_nothing() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").session("old"));
    fleet.join(agent("a").session("new"));
    fleet.submit(task("x")).unwrap();
    fleet.sync(roll("a").session("new"));
    fleet.sync(roll("a").session("new").running([("x", 1)]));
    let end = done("x").attempt(1);
    assert_eq!(
        fleet
            .try_sync(roll("a").session("old").done([end]))
            .unwrap_err()
            .slug,
        Slug::Superseded
    );
    assert_eq!(fleet.status("x"), InProgress);
    fleet.restart();
    assert_eq!(
        fleet.try_sync(roll("a").session("old")).unwrap_err().slug,
        Slug::Superseded
    );
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn registering_again_with_the_same_session_keeps_what_runs() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").session("s"));
    fleet.submit(task("x").labels(["go"])).unwrap();
    fleet.join(agent("a").session("s").with(["go"]).load(2));
    assert_eq!(
        fleet.holder("x").as_deref(),
        Some("a"),
        "what it learned counts at once"
    );
    fleet.take("a");
    fleet.join(agent("a").session("s").with(["go"]).load(2));
    assert_eq!(fleet.status("x"), InProgress);
    assert_eq!(fleet.count("agent_registered"), 1);
}

#[test]
fn a_call_without_a_session_neither_checks_nor_changes_it() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").session("s"));
    fleet.sync(roll("a").session("s").n(7));
    fleet.sync(roll("a").n(1));
    fleet.sync(roll("a"));
    assert_eq!(
        fleet.try_sync(roll("a").session("s").n(6)).unwrap_err().slug,
        Slug::StaleSync
    );
    fleet.sync(roll("a").session("s").n(8));
}

#[test]
fn a_lower_number_changes_nothing_and_an_equal_one_is_a_repeat() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").session("s"));
    fleet.submit(task("x")).unwrap();
    let sync = |n| roll("a").session("s").n(n);
    assert_eq!(starts(&fleet.sync(sync(5))), [("x".into(), 1)]);
    assert_eq!(
        starts(&fleet.sync(sync(5))),
        [("x".into(), 1)],
        "a repeat is answered"
    );
    fleet.sync(sync(6).running([("x", 1)]));
    assert_eq!(fleet.try_sync(sync(5)).unwrap_err().slug, Slug::StaleSync);
    assert_eq!(fleet.status("x"), InProgress, "an overtaken sync loses nothing");
    fleet.join(agent("a").session("next"));
    fleet.sync(roll("a").session("next").n(1));
}

// ---- syncs that wait ---------------------------------------------------------------------------------------------

#[test]
fn a_waiting_sync_is_answered_when_there_is_something_to_start() {
    let mut fleet = crew();
    let wait = fleet.wait(roll("a"));
    fleet.submit(task("x")).unwrap();
    assert_eq!(starts(&fleet.heard(wait).unwrap()), [("x".into(), 1)]);
}

#[test]
fn a_waiting_sync_is_answered_when_its_wait_is_over() {
    let mut fleet = crew();
    let wait = fleet.wait(roll("a"));
    fleet.advance(seconds(20));
    assert!(fleet.heard(wait).is_none());
    fleet.wait_over("a", wait);
    let answer = fleet.heard(wait).unwrap();
    assert!(answer.start.is_empty() && answer.stop.is_empty());
}

#[test]
fn a_newer_sync_ends_an_older_one_that_waits() {
    let mut fleet = crew();
    let first = fleet.wait(roll("a"));
    let second = fleet.wait(roll("a"));
    let answer = fleet.heard(first).unwrap();
    assert!(answer.start.is_empty() && answer.stop.is_empty());
    fleet.wait_over("a", first);
    assert!(
        fleet.heard(second).is_none(),
        "the end of the older wait is not that of the newer"
    );
    fleet.submit(task("x")).unwrap();
    assert_eq!(starts(&fleet.heard(second).unwrap()), [("x".into(), 1)]);
}

#[test]
fn a_waiting_sync_hears_every_kind_of_stop() {
    let acts: [(&str, Act); 5] = [
        ("cancel", |fleet| drop(fleet.cancel("x").unwrap())),
        ("timeout", |fleet| fleet.advance(minutes(10))),
        ("limit", |fleet| fleet.report(spent("a", "x", 100, 0)).unwrap()),
        ("release", |fleet| drop(fleet.release("x").unwrap())),
        ("an operator's completion", |fleet| {
            drop(fleet.complete(done("x")).unwrap());
        }),
    ];
    for (name, act) in acts {
        let mut fleet = crew();
        fleet.limit("agent:a", [tokens(daily(), 100)]);
        fleet.submit(task("x").timeout(600)).unwrap();
        fleet.take("a");
        // So that nothing starts at once in its place.
        fleet.drain("a");
        let wait = fleet.wait(roll("a").running([("x", 1)]));
        act(&mut fleet);
        let answer = fleet
            .heard(wait)
            .unwrap_or_else(|| panic!("{name}: there is something to stop"));
        assert_eq!((answer.stop.len(), answer.stop[0].attempt), (1, 1), "{name}");
    }
}

#[test]
fn a_stop_that_was_told_is_repeated_but_ends_no_wait() {
    let mut fleet = busy();
    fleet.cancel("x").unwrap();
    assert_eq!(fleet.sync(roll("a").running([("x", 1)]).wait(20)).stop.len(), 1);
    let wait = fleet.wait(roll("a").running([("x", 1)]));
    fleet.wait_over("a", wait);
    assert_eq!(
        stops(&fleet.heard(wait).unwrap()),
        [("x".into(), 1, StopReason::Cancelled)]
    );
}

#[test]
fn a_told_stop_of_an_attempt_that_is_over_ends_no_wait() {
    let mut fleet = crew();
    fleet.submit(task("x").retries(1)).unwrap();
    fleet.take("a");
    fleet.silence("a");
    fleet.advance(minutes(2));
    let first = fleet.sync(roll("a").running([("x", 1)]).wait(20));
    assert_eq!(stops(&first), [("x".into(), 1, StopReason::Lost)]);
    // Its child takes a while to end; meanwhile the agent must not spin.
    let wait = fleet.wait(roll("a").running([("x", 1)]));
    fleet.wait_over("a", wait);
    assert_eq!(fleet.heard(wait).unwrap().stop.len(), 1);
}

#[test]
fn a_drain_is_heard_at_once() {
    let mut fleet = crew();
    let wait = fleet.wait(roll("a"));
    fleet.drain("a");
    assert!(fleet.heard(wait).unwrap().drain);
    assert!(fleet.sync(roll("a")).drain);
    fleet.undrain("a");
    assert!(!fleet.sync(roll("a")).drain);
}

#[test]
fn an_end_in_a_sync_is_answered_at_once_with_what_comes_next() {
    let mut fleet = busy();
    fleet.submit(task("y")).unwrap();
    let answer = fleet.sync(roll("a").done([done("x").attempt(1)]).wait(20));
    assert_eq!(starts(&answer), [("y".into(), 1)]);
    assert_eq!(answer.done.len(), 1);
}

#[test]
fn a_sync_starts_no_more_than_it_asks_for() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(5));
    for id in ["x", "y", "z"] {
        fleet.submit(task(id)).unwrap();
    }
    assert_eq!(starts(&fleet.sync(roll("a").max(1))), [("x".into(), 1)]);
    let next = fleet.sync(roll("a").running([("x", 1)]).max(1));
    assert_eq!(starts(&next), [("y".into(), 1)]);
}

#[test]
fn a_deregistered_agents_waiting_sync_is_answered() {
    let mut fleet = crew();
    let wait = fleet.wait(roll("a"));
    fleet.deregister("a");
    assert!(fleet.heard(wait).is_some());
}

// ---- offers that nobody fetches ----------------------------------------------------------------------------------

#[test]
fn an_offer_that_was_in_no_answer_is_released_after_half_a_minute() {
    let mut fleet = crew();
    fleet.submit(task("x")).unwrap();
    fleet.advance(short_of(seconds(30)));
    assert_eq!(fleet.status("x"), InProgress);
    fleet.advance(A_MOMENT);
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count, task.attempt), (Pending, 0, 1));
    assert_eq!(fleet.jobs("agent:a"), 1, "the job stays counted");
    fleet.advance(minutes(5));
    assert_eq!(fleet.attempt("x"), 1, "nothing more is offered until it syncs");
    fleet.sync(heartbeat("a"));
    assert_eq!(starts(&fleet.sync(roll("a"))), [("x".into(), 2)]);
}

#[test]
fn an_offer_that_is_released_goes_to_another_agent() {
    let mut fleet = crew();
    fleet.join(agent("b"));
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
    fleet.advance(seconds(30));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
}

#[test]
fn an_offer_that_was_answered_and_never_taken_is_lost_after_a_ttl() {
    let mut fleet = crew();
    fleet.submit(task("x")).unwrap();
    fleet.sync(roll("a"));
    fleet.advance(short_of(seconds(60)));
    assert_eq!(fleet.status("x"), InProgress);
    fleet.advance(A_MOMENT);
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count), (Pending, 1));
}

#[test]
fn a_sync_of_an_agent_that_never_registered_is_refused() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.try_sync(roll("a")).unwrap_err().slug, Slug::AgentNotFound);
    assert_eq!(
        fleet.call(Command::Drain("a".into())).unwrap_err().slug,
        Slug::AgentNotFound
    );
}

#[test]
fn an_attempt_that_becomes_the_agents_own_in_the_same_turn_is_not_stopped() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(1));
    fleet.submit(task("x")).unwrap();
    fleet.advance(Span::from_secs(31));
    // The offer was not fetched: nothing is given to the agent until it calls the roll. It claims to run an attempt
    // that this very call brings about, as after a restore, where numbers come again.
    assert_eq!(fleet.status("x"), Pending);
    let next = fleet.attempt("x") + 1;
    let answer = fleet.sync(roll("a").running([("x", next)]));
    assert_eq!(starts(&answer), [("x".to_owned(), next)]);
    assert_eq!(stops(&answer), []);
}
