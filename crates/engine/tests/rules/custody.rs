//! Custody: offers, taking, losing, releasing, timeouts. An attempt's number proves whose lease is current.

use adjutant_core::attempt::StopReason;
use adjutant_core::command::Command;
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;

use crate::harness::*;

use Status::{Cancelled, Completed, InProgress, Pending};

fn crew() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet
}

#[test]
fn an_attempt_is_offered_until_its_agent_lists_it() {
    let mut fleet = crew();
    for _ in 0..3 {
        assert_eq!(
            starts(&fleet.sync(roll("a"))),
            [("x".into(), 1)],
            "a lost answer loses nothing"
        );
    }
    let taken = fleet.sync(roll("a").running([("x", 1)]));
    assert!(taken.start.is_empty() && taken.stop.is_empty());
    assert!(
        fleet.sync(roll("a").running([("x", 1)])).start.is_empty(),
        "a taken one is not sent again"
    );
    assert_eq!(fleet.attempt("x"), 1);
}

#[test]
fn a_taken_attempt_that_is_not_listed_is_lost() {
    let mut fleet = crew();
    fleet.take("a");
    fleet.sync(roll("a"));
    let task = fleet.stored("x");
    assert_eq!((task.task.status, task.task.retry_count), (Pending, 1));
    assert_eq!(fleet.count("lease_expired"), 1);
}

#[test]
fn a_heartbeat_leaves_attempts_as_they_are() {
    let mut fleet = crew();
    fleet.sync(heartbeat("a"));
    assert_eq!(starts(&fleet.sync(roll("a"))), [("x".into(), 1)]);
    fleet.take("a");
    let answer = fleet.sync(heartbeat("a"));
    assert!(answer.start.is_empty() && answer.stop.is_empty());
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn an_offered_attempt_may_be_completed_without_having_been_listed() {
    let mut fleet = crew();
    let answer = fleet.sync(roll("a").done([done("x").attempt(1).output("good")]));
    assert_eq!(answer.done[0].as_ref().unwrap().task.status, Completed);
    assert_eq!(fleet.result("x").unwrap().output, "good");
}

#[test]
fn progress_usage_and_output_show_that_an_offered_attempt_was_taken() {
    let acts: [Act; 3] = [
        |fleet| drop(fleet.patch("x", change().attempt(1).progress(5)).unwrap()),
        |fleet| fleet.report(spent("a", "x", 5, 5).attempt(1)).unwrap(),
        |fleet| {
            let (id, attempt, agent) = ("x".into(), Some(1), Some("a".into()));
            drop(
                fleet
                    .call(Command::Output {
                        id,
                        attempt,
                        agent,
                        text: "hello".into(),
                    })
                    .unwrap(),
            );
        },
    ];
    for act in acts {
        let mut fleet = crew();
        act(&mut fleet);
        assert!(fleet.sync(roll("a").running([("x", 1)])).start.is_empty());
        fleet.sync(roll("a"));
        assert_eq!(
            fleet.status("x"),
            Pending,
            "a taken attempt that is no longer listed is lost"
        );
    }
}

#[test]
fn a_claimed_attempt_is_taken_at_once() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").with(["go"]));
    fleet.drain("a");
    fleet.submit(task("x").labels(["go"])).unwrap();
    assert_eq!(fleet.claim("x", "a").unwrap_err().slug, Slug::AgentDraining);
    fleet.hold("x").unwrap();
    fleet.undrain("a");
    fleet.join(agent("b").with(["go"]));
    fleet.drain("b");
    fleet.drain("a");
    fleet.unhold("x").unwrap();
    fleet.claim("x", "stranger").unwrap();
    assert_eq!(fleet.status("x"), InProgress);
    assert_eq!(fleet.release("x").unwrap().task.status, Pending);
}

#[test]
fn completing_again_with_the_same_attempt_and_outcome_changes_nothing() {
    // I10
    let mut fleet = crew();
    fleet.take("a");
    let end = || done("x").attempt(1).agent("a").tokens(10, 20);
    fleet.complete(end()).unwrap();
    let (task, events) = (fleet.stored("x").task, fleet.events().len());
    assert_eq!(fleet.complete(end()).unwrap().task, task);
    assert_eq!((fleet.stored("x").task, fleet.events().len()), (task, events));
    assert_eq!(
        fleet.complete(failed("x").attempt(1)).unwrap_err().slug,
        Slug::StaleAttempt
    );
    assert_eq!(fleet.status("x"), Completed);
}

#[test]
fn failing_again_with_the_same_attempt_is_answered_while_no_newer_one_started() {
    let mut fleet = crew();
    fleet.complete(failed("x").attempt(1)).unwrap();
    assert_eq!(
        fleet.complete(failed("x").attempt(1)).unwrap().task.retry_count,
        1
    );
}

#[test]
fn a_stale_attempt_changes_nothing() {
    // I8
    let mut fleet = crew();
    fleet.take("a");
    fleet.fail("x");
    fleet.advance(seconds(6));
    fleet.take("a");
    let before = fleet.stored("x").task;
    assert_eq!(before.attempt, 2);
    let stale = [
        fleet.complete(done("x").attempt(1)).unwrap_err(),
        fleet.patch("x", change().attempt(1).progress(99)).unwrap_err(),
        fleet
            .patch("x", change().attempt(1).status(Completed))
            .unwrap_err(),
        fleet.patch("x", change().attempt(1).status(Pending)).unwrap_err(),
        fleet.complete(done("x").attempt(3)).unwrap_err(),
    ];
    for refusal in stale {
        assert_eq!(refusal.slug, Slug::StaleAttempt);
    }
    assert_eq!(fleet.stored("x").task, before);
}

#[test]
fn only_the_holder_speaks_for_an_attempt() {
    let mut fleet = crew();
    fleet.take("a");
    assert_eq!(
        fleet.complete(done("x").agent("b")).unwrap_err().slug,
        Slug::NotHolder
    );
    assert_eq!(
        fleet.report(spent("b", "x", 1, 1)).unwrap_err().slug,
        Slug::NotHolder
    );
    assert_eq!(fleet.status("x"), InProgress);
    fleet.complete(done("x").agent("a")).unwrap();
}

#[test]
fn a_release_counts_no_failure_and_waits_no_backoff() {
    let mut fleet = crew();
    fleet.join(agent("b"));
    fleet.take("a");
    fleet.drain("a");
    fleet.release("x").unwrap();
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count, task.attempt), (InProgress, 0, 2));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
}

#[test]
fn an_agent_hears_that_what_it_runs_was_released() {
    let mut fleet = crew();
    fleet.take("a");
    fleet.drain("a");
    fleet.release("x").unwrap();
    let answer = fleet.sync(roll("a").running([("x", 1)]));
    assert_eq!(stops(&answer), [("x".into(), 1, StopReason::Released)]);
}

#[test]
fn deregistration_gives_back_without_a_failure() {
    let mut fleet = crew();
    fleet.take("a");
    fleet.deregister("a");
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count), (Pending, 0));
    assert_eq!(fleet.try_sync(roll("a")).unwrap_err().slug, Slug::AgentNotFound);
}

// ---- timeouts ----------------------------------------------------------------------------------------------------

#[test]
fn an_attempt_runs_out_of_time_from_when_it_was_taken() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").timeout(100)).unwrap();
    fleet.advance(seconds(20));
    fleet.take("a");
    fleet.advance(short_of(seconds(100)));
    assert_eq!(fleet.status("x"), InProgress);
    fleet.advance(A_MOMENT);
    let task = fleet.stored("x");
    assert_eq!((task.task.status, task.task.retry_count), (Pending, 1));
    let answer = fleet.sync(roll("a").running([("x", 1)]));
    assert_eq!(stops(&answer), [("x".into(), 1, StopReason::Timeout)]);
}

#[test]
fn the_smaller_of_the_tasks_and_the_agents_bound_holds() {
    use adjutant_core::limit::Allowance;
    for (timeout, duration, expected) in [(100, 50, 50), (50, 100, 50)] {
        let mut fleet = Fleet::new();
        let max_job_duration = seconds(duration);
        fleet.allow(
            "a",
            Allowance {
                max_job_duration,
                ..Allowance::default()
            },
        );
        fleet.join(agent("a"));
        fleet.submit(task("x").timeout(timeout)).unwrap();
        assert_eq!(fleet.sync(roll("a")).start[0].timeout, Some(seconds(expected)));
        fleet.take("a");
        fleet.advance(seconds(expected));
        assert_eq!(fleet.status("x"), Pending);
    }
}

#[test]
fn a_timed_out_attempt_keeps_its_place_until_its_agent_no_longer_lists_it() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").timeout(100)).unwrap();
    fleet.submit(task("next")).unwrap();
    fleet.take("a");
    fleet.advance(seconds(100));
    assert_eq!(fleet.status("next"), Pending);
    assert_eq!(
        (fleet.agent("a").load(), fleet.counter("agent:a").active),
        (1, 0),
        "settled, and in the way"
    );
    fleet.sync(roll("a").running([("x", 1)]));
    assert_eq!(fleet.status("next"), Pending);
    fleet.sync(roll("a"));
    assert_eq!(fleet.status("next"), InProgress);
}

#[test]
fn a_cancelled_attempt_keeps_its_locks_until_it_is_no_longer_listed() {
    // I1
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.join(agent("b"));
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.submit(task("y").locks(["main"])).unwrap();
    fleet.take("a");
    fleet.cancel("x").unwrap();
    assert_eq!((fleet.status("x"), fleet.why("y").0), (Cancelled, "locked"));
    let answer = fleet.sync(roll("a").running([("x", 1)]));
    assert_eq!(stops(&answer), [("x".into(), 1, StopReason::Cancelled)]);
    assert_eq!(fleet.status("y"), Pending);
    fleet.restart();
    assert_eq!(fleet.status("y"), Pending, "a restart does not let go of them");
    fleet.sync(roll("a"));
    assert_eq!(fleet.status("y"), InProgress);
}

#[test]
fn the_places_of_cancelled_attempts_end_with_their_agents_lease() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.take("a");
    fleet.cancel("x").unwrap();
    fleet.join(agent("b"));
    fleet.submit(task("y").locks(["main"])).unwrap();
    fleet.silence("a");
    fleet.advance(seconds(60));
    assert_eq!(fleet.holder("y").as_deref(), Some("b"));
}

#[test]
fn a_cancelled_offer_frees_its_place_at_once() {
    let mut fleet = crew();
    fleet.submit(task("next")).unwrap();
    fleet.cancel("x").unwrap();
    assert_eq!(fleet.holder("next").as_deref(), Some("a"));
}

#[test]
fn what_an_agent_lists_and_never_had_is_to_be_stopped() {
    let mut fleet = crew();
    fleet.join(agent("b"));
    fleet.take("a");
    let answer = fleet.sync(roll("b").running([("x", 1), ("x", 9), ("nothing", 1)]));
    let unknown = |id: &str, attempt| (id.to_owned(), attempt, StopReason::Unknown);
    assert_eq!(
        stops(&answer),
        [unknown("x", 1), unknown("x", 9), unknown("nothing", 1)]
    );
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn a_live_attempt_survives_a_restart() {
    let mut fleet = crew();
    fleet.take("a");
    fleet.restart();
    let answer = fleet.sync(roll("a").running([("x", 1)]));
    assert!(answer.stop.is_empty() && answer.start.is_empty());
    fleet.finish("x");
    assert_eq!(fleet.status("x"), Completed);
}

#[test]
fn a_refused_end_does_not_lose_an_attempt_that_is_listed() {
    let mut fleet = crew();
    fleet.take("a");
    let answer = fleet.sync(
        roll("a")
            .running([("x", 1)])
            .done([done("x").attempt(1).agent("b")]),
    );
    assert_eq!(answer.done[0].as_ref().unwrap_err().slug, Slug::NotHolder);
    assert_eq!(fleet.status("x"), InProgress, "it was listed");
}
