//! Tasks: states, holds, retries, changes, idempotency.

use adjutant_core::command::{Answer, Command};
use adjutant_core::rejection::Slug;
use adjutant_core::task::{Priority, Status};
use adjutant_core::time::Span;

use crate::harness::*;

use Status::{Blocked, Cancelled, Completed, Failed, InProgress, Pending};

/// A fleet with a task in each state, named by the state, and agent `a` that holds `in_progress`.
fn one_of_each() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(1));
    for id in ["completed", "failed", "cancelled", "in_progress"] {
        fleet.submit(task(id).retries(1)).unwrap();
        match id {
            "completed" => fleet.finish(id),
            "failed" => fleet.fail(id),
            "cancelled" => drop(fleet.cancel(id).unwrap()),
            _ => drop(fleet.take("a")),
        }
    }
    fleet.submit(task("pending")).unwrap();
    fleet.submit(task("blocked").after(["pending"])).unwrap();
    fleet
}

#[test]
fn each_state_allows_what_the_machine_says_and_nothing_else() {
    type Act = fn(&mut Fleet, &str) -> Option<Status>;
    let acts: [(&str, Act); 7] = [
        ("complete", |fleet, id| {
            Some(fleet.complete(done(id)).ok()?.task.status)
        }),
        ("fail", |fleet, id| {
            Some(fleet.complete(failed(id)).ok()?.task.status)
        }),
        ("release", |fleet, id| Some(fleet.release(id).ok()?.task.status)),
        ("cancel", |fleet, id| Some(fleet.cancel(id).ok()?.task.status)),
        ("retry", |fleet, id| Some(fleet.retry(id).ok()?.task.status)),
        ("hold", |fleet, id| Some(fleet.hold(id).ok()?.task.status)),
        ("claim", |fleet, id| {
            Some(fleet.claim(id, "stranger").ok()?.task.status)
        }),
    ];
    let table: [(&str, [Option<Status>; 7]); 6] = [
        (
            "pending",
            [
                None,
                None,
                None,
                Some(Cancelled),
                Some(Pending),
                Some(Blocked),
                Some(InProgress),
            ],
        ),
        (
            "blocked",
            [None, None, None, Some(Cancelled), None, Some(Blocked), None],
        ),
        (
            "in_progress",
            [
                Some(Completed),
                Some(Failed),
                Some(Pending),
                Some(Cancelled),
                None,
                None,
                None,
            ],
        ),
        // The same end again is answered, and changes nothing.
        ("completed", [Some(Completed), None, None, None, None, None, None]),
        (
            "failed",
            [None, Some(Failed), None, None, Some(Pending), None, None],
        ),
        (
            "cancelled",
            [None, None, None, Some(Cancelled), Some(Pending), None, None],
        ),
    ];
    for (state, row) in table {
        for ((name, act), expected) in acts.iter().zip(row) {
            let mut fleet = one_of_each();
            let before = fleet.stored(state).task;
            assert_eq!(before.status.name(), state);
            let after = act(&mut fleet, state);
            assert_eq!(after, expected, "{name} of a task that is {state}");
            if expected.is_none() {
                assert_eq!(
                    fleet.stored(state).task,
                    before,
                    "a refused {name} changes nothing"
                );
            }
        }
    }
}

#[test]
fn refusals_of_a_state_are_conflicts() {
    let mut fleet = one_of_each();
    for slug in [
        fleet.complete(done("pending")).unwrap_err().slug,
        fleet.release("completed").unwrap_err().slug,
        fleet.cancel("completed").unwrap_err().slug,
        fleet.retry("in_progress").unwrap_err().slug,
        fleet.hold("in_progress").unwrap_err().slug,
        fleet.claim("blocked", "stranger").unwrap_err().slug,
        fleet.claim("in_progress", "stranger").unwrap_err().slug,
    ] {
        assert_eq!(slug.code(), 409, "{slug:?}");
    }
    assert_eq!(
        fleet.claim("in_progress", "stranger").unwrap_err().message,
        "task already claimed"
    );
    assert_eq!(fleet.cancel("nothing").unwrap_err().slug, Slug::TaskNotFound);
}

#[test]
fn a_task_id_is_taken_once() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.submit(task("x")).unwrap_err().slug, Slug::TaskExists);
}

#[test]
fn tasks_arrive_in_strict_order_in_the_same_microsecond() {
    let mut fleet = Fleet::new();
    let keys = ["a", "b", "c"].map(|id| fleet.submit(task(id)).unwrap().task.key);
    assert!(keys.is_sorted_by(|one, other| one < other));
}

#[test]
fn a_batch_arrives_in_the_order_given() {
    let mut fleet = Fleet::new();
    let items = fleet.submit_all([task("later").after(["first"]), task("first")]);
    let keys = items.map(|item| item.unwrap().task.key);
    assert!(keys[0] < keys[1], "created_at rises in the order of the batch");
}

// ---- holds -------------------------------------------------------------------------------------------------------

#[test]
fn a_held_task_waits_until_it_is_let_go() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.hold("x").unwrap().task.status, Blocked);
    fleet.join(agent("a"));
    fleet.advance(minutes(1));
    assert_eq!(fleet.why("x").0, "held");
    fleet.unhold("x").unwrap();
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn a_hold_outlasts_the_end_of_the_dependencies() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two").after(["one"])).unwrap();
    fleet.hold("two").unwrap();
    fleet.finish("one");
    assert_eq!(fleet.status("two"), Blocked);
    fleet.unhold("two").unwrap();
    assert_eq!(fleet.status("two"), InProgress);
}

// ---- retries -----------------------------------------------------------------------------------------------------

#[test]
fn a_failed_attempt_waits_twice_as_long_each_time_and_then_is_a_dead_letter() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    // Another task between the failures keeps the agent out of quarantine.
    fleet.submit(task("x").retries(4)).unwrap();
    let mut base = 5;
    for retry in 1..4 {
        fleet.take("a");
        fleet.fail("x");
        let task = fleet.stored("x").task;
        assert_eq!(
            (task.status, task.retry_count, task.attempt),
            (Pending, retry, retry)
        );
        assert_eq!((task.claimed_by.clone(), fleet.why("x").0), (None, "not_before"));
        let wait = task.delayed_until.unwrap().since(fleet.now);
        assert!(
            wait >= seconds(base) && wait <= seconds(base) + Span::from_millis(100 * base),
            "{wait:?}"
        );
        fleet.advance(short_of(seconds(base)));
        assert_eq!(fleet.status("x"), Pending);
        fleet.advance(Span::from_millis(100 * base) + A_MOMENT);
        assert_eq!(fleet.holder("x").as_deref(), Some("a"));
        base *= 2;
    }
    fleet.fail("x");
    let task = fleet.stored("x");
    assert_eq!(
        (task.task.status, task.task.claimed_by.clone()),
        (Failed, Some("a".into()))
    );
    assert_eq!(task.details.fail_reason.as_deref(), Some("it broke"));
    fleet.advance(minutes(5));
    assert_eq!(fleet.status("x"), Failed);
}

#[test]
fn the_number_of_attempts_is_three_unless_the_client_says() {
    for (retries, attempts) in [(0, 3), (1, 1), (2, 2)] {
        let mut fleet = Fleet::new();
        fleet.join(agent("a"));
        fleet.submit(task("x").retries(retries)).unwrap();
        while fleet.status("x") != Failed {
            fleet.fail("x");
            fleet.advance(seconds(25));
        }
        assert_eq!(fleet.attempt("x"), attempts, "max_retries {retries}");
    }
}

#[test]
fn an_operators_retry_starts_afresh_and_does_not_wait() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").retries(2)).unwrap();
    fleet.fail("x");
    fleet.retry("x").unwrap();
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count, task.attempt), (InProgress, 0, 2));
    fleet.fail("x");
    assert_eq!(
        fleet.status("x"),
        Pending,
        "two attempts are left after a fresh start"
    );
}

#[test]
fn waiting_for_an_agent_uses_up_no_retries() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.advance(minutes(90));
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count, task.attempt), (Pending, 0, 0));
}

#[test]
fn a_task_is_not_dispatched_before_its_time() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    let time = fleet.now + minutes(10);
    fleet.submit(task("x").not_before(time)).unwrap();
    assert_eq!(fleet.why("x").0, "not_before");
    assert_eq!(
        fleet.claim("x", "stranger").unwrap_err().slug,
        Slug::TaskNotClaimable
    );
    fleet.advance(short_of(minutes(10)));
    assert_eq!(fleet.status("x"), Pending);
    fleet.advance(A_MOMENT);
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn a_dependent_whose_time_has_not_come_waits_for_it() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(2));
    let time = fleet.now + minutes(10);
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two").after(["one"]).not_before(time)).unwrap();
    fleet.finish("one");
    assert_eq!((fleet.status("two"), fleet.why("two").0), (Pending, "not_before"));
    fleet.restart();
    fleet.advance(minutes(10));
    assert_eq!(fleet.status("two"), InProgress);
}

// ---- changes -----------------------------------------------------------------------------------------------------

#[test]
fn a_status_by_patch_is_one_of_the_other_commands() {
    let table = [
        (Completed, Some(Completed)),
        (Failed, Some(Failed)),
        (Pending, Some(Pending)),
        (Cancelled, Some(Cancelled)),
        (InProgress, Some(InProgress)),
        (Blocked, None),
    ];
    for (status, expected) in table {
        let mut fleet = one_of_each();
        let answer = fleet.patch("in_progress", change().status(status));
        match expected {
            Some(expected) => assert_eq!(answer.unwrap().task.status, expected),
            None => assert_eq!(answer.unwrap_err().slug.code(), 409),
        }
    }
    for state in ["pending", "completed", "cancelled", "failed"] {
        let mut fleet = one_of_each();
        assert_eq!(
            fleet
                .patch(state, change().status(InProgress))
                .unwrap_err()
                .slug
                .code(),
            409
        );
        assert_eq!(
            fleet
                .patch(state, change().status(Pending))
                .unwrap_err()
                .slug
                .code(),
            409,
            "{state}"
        );
    }
}

#[test]
fn what_a_task_asks_for_changes_only_while_nobody_works_on_it() {
    let mut fleet = one_of_each();
    let all = || {
        change()
            .priority(Priority::Low)
            .labels(["go"])
            .retries(7)
            .estimate(9)
    };
    assert_eq!(
        fleet.patch("in_progress", all()).unwrap_err().slug,
        Slug::WrongState
    );
    let changed = fleet.patch("pending", all()).unwrap().task;
    assert_eq!(
        (changed.priority, changed.max_retries, changed.estimated_tokens),
        (Priority::Low, 7, 9)
    );
    assert_eq!(changed.class.demand.labels, ["go".into()]);
    assert!(fleet.patch("blocked", all()).is_ok());
}

#[test]
fn a_patch_of_the_earliest_time_is_obeyed() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    let time = fleet.now + minutes(5);
    fleet.patch("x", change().not_before(Some(time))).unwrap();
    fleet.join(agent("a"));
    assert_eq!(fleet.why("x").0, "not_before");
    fleet.patch("x", change().not_before(None)).unwrap();
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn a_patch_of_the_earliest_time_does_not_shorten_a_backoff() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.fail("x");
    fleet.patch("x", change().not_before(None)).unwrap();
    assert_eq!(fleet.why("x").0, "not_before", "retry 1 waits 5 s");
}

#[test]
fn notes_and_progress_are_kept() {
    let mut fleet = one_of_each();
    fleet.patch("pending", change().note("look at this")).unwrap();
    let changed = fleet
        .patch("in_progress", change().attempt(1).progress(40).note("half"))
        .unwrap();
    assert_eq!(changed.task.progress, 40);
    fleet.finish("in_progress");
    let stored = fleet.stored("in_progress");
    assert_eq!((stored.task.progress, stored.details.notes.len()), (100, 1));
    assert_eq!(stored.details.notes[0].text, "half");
    assert_eq!(fleet.stored("pending").details.notes[0].text, "look at this");
}

// ---- idempotency -------------------------------------------------------------------------------------------------

#[test]
fn the_same_key_and_body_is_answered_again_and_done_once() {
    let mut fleet = Fleet::new();
    let submit = |id| Command::from(task(id));
    let first = fleet.call_once("key", 1, submit("one"));
    assert!(matches!(first, Ok(Answer::Task(_))));
    fleet.hold("one").unwrap();
    fleet.restart();
    match fleet.call_once("key", 1, submit("one")) {
        Ok(Answer::Task(view)) => assert_eq!(view.task.status, Blocked, "the task as it is now"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        fleet.call_once("key", 2, submit("two")).unwrap_err().slug,
        Slug::IdempotencyMismatch
    );
    assert_eq!(fleet.count("task_created"), 1);
    fleet.advance(Span::DAY + Span::HOUR);
    assert!(
        fleet.call_once("key", 2, submit("two")).is_ok(),
        "a key is forgotten after a day"
    );
}

#[test]
fn a_retry_under_a_key_is_done_once() {
    let mut fleet = one_of_each();
    fleet
        .call_once("key", 1, Command::Retry("failed".into()))
        .unwrap();
    fleet.cancel("failed").unwrap();
    fleet
        .call_once("key", 1, Command::Retry("failed".into()))
        .unwrap();
    assert_eq!(fleet.status("failed"), Cancelled);
}
