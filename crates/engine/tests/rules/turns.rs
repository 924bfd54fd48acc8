//! Turns: what arrives together is decided one after the other, and each command happens whole or not at all.

use adjutant_core::command::{Answer, Command};
use adjutant_core::rejection::Slug;
use adjutant_core::task::{Priority, Status};

use crate::harness::*;

use Status::{Cancelled, Completed, Failed, InProgress, Pending};

fn claim(id: &str, agent: &str) -> Command {
    Command::Claim {
        id: id.into(),
        agent: Some(agent.into()),
    }
}

#[test]
fn a_refused_command_leaves_its_neighbours_alone() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    let [one, twice, unknown, two] = fleet.together([
        task("one").into(),
        task("one").into(),
        task("x").after(["nothing"]).into(),
        task("two").after(["one"]).into(),
    ]);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(twice.unwrap_err().slug, Slug::TaskExists);
    assert_eq!(unknown.unwrap_err().slug, Slug::UnknownDependency);
    assert_eq!(fleet.statuses(["one", "two"]), [InProgress, Status::Blocked]);
}

#[test]
fn of_two_claims_in_one_turn_one_wins() {
    // I1
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    let [first, second] = fleet.together([claim("x", "a"), claim("x", "b")]);
    assert!(first.is_ok());
    assert_eq!(second.unwrap_err().slug, Slug::TaskAlreadyClaimed);
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn what_arrives_together_is_dispatched_by_priority() {
    // I6
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    let answers = fleet.together([
        task("low").priority(Priority::Low).into(),
        task("high").priority(Priority::High).into(),
        task("critical")
            .priority(Priority::Critical)
            .labels(["nobody"])
            .into(),
    ]);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(
        fleet.statuses(["low", "high", "critical"]),
        [Pending, InProgress, Pending]
    );
}

#[test]
fn an_answer_to_a_submission_tells_what_became_of_it_in_its_turn() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    let views = fleet
        .together([task("x").into(), task("y").into()])
        .map(|verdict| match verdict {
            Ok(Answer::Task(view)) => (
                view.task.status,
                view.waiting.map(|waiting| waiting.reason.name()),
            ),
            other => panic!("{other:?}"),
        });
    assert_eq!(views, [(InProgress, None), (Pending, Some("all_busy"))]);
}

#[test]
fn a_life_in_one_turn_is_a_life() {
    let mut fleet = Fleet::new();
    let answers = fleet.together([
        task("x").into(),
        task("y").after(["x"]).into(),
        claim("x", "a"),
        done("x").into(),
    ]);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(fleet.statuses(["x", "y"]), [Completed, Pending]);
    let story = ["task_created", "task_claimed", "task_completed"];
    assert_eq!(fleet.story("x"), story);
}

#[test]
fn the_same_end_twice_in_one_turn_counts_once() {
    // I10
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    let end = || done("x").attempt(1).tokens(5, 5);
    let [first, second, other] = fleet.together([end().into(), end().into(), failed("x").attempt(1).into()]);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(other.unwrap_err().slug, Slug::StaleAttempt);
    assert_eq!((fleet.status("x"), fleet.tokens("agent:a")), (Completed, 10));
}

#[test]
fn a_cancellation_goes_before_an_end_that_comes_after_it() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    let cancel = Command::Cancel {
        id: "x".into(),
        cascade: false,
    };
    let [cancelled, end] = fleet.together([cancel, done("x").attempt(1).tokens(5, 5).into()]);
    assert!(cancelled.is_ok());
    assert_eq!(end.unwrap_err().slug, Slug::StaleAttempt);
    assert_eq!(
        (fleet.status("x"), fleet.tokens("agent:a")),
        (Cancelled, 10),
        "spent tokens are spent"
    );
}

#[test]
fn a_batch_of_ends_takes_each_for_itself() {
    let mut fleet = Fleet::new();
    for id in ["x", "y", "z"] {
        fleet.submit(task(id).retries(1)).unwrap();
        fleet.claim(id, "a").unwrap();
    }
    let items = match fleet.call(ends([
        done("x"),
        done("nothing"),
        failed("y"),
        done("z").attempt(7),
    ])) {
        Ok(Answer::Batch(items)) => items,
        other => panic!("{other:?}"),
    };
    let statuses: Vec<_> = items
        .iter()
        .map(|item| {
            item.as_ref()
                .map(|view| view.task.status)
                .map_err(|refusal| refusal.slug)
        })
        .collect();
    let expected = [
        Ok(Completed),
        Err(Slug::TaskNotFound),
        Ok(Failed),
        Err(Slug::StaleAttempt),
    ];
    assert_eq!(statuses, expected);
    assert_eq!(fleet.status("z"), InProgress);
}

#[test]
fn a_batch_under_a_key_is_answered_again_item_by_item() {
    let mut fleet = Fleet::new();
    for id in ["x", "y"] {
        fleet.submit(task(id)).unwrap();
        fleet.claim(id, "a").unwrap();
    }
    let batch = || ends([done("x"), done("nothing"), failed("y")]);
    let outcome = |verdict| match verdict {
        Ok(Answer::Batch(items)) => items
            .into_iter()
            .map(|item| item.map(|view| view.task.id.clone()))
            .collect(),
        other => panic!("{other:?}"),
    };
    let first: Vec<_> = outcome(fleet.call_once("key", 1, batch()));
    let again: Vec<_> = outcome(fleet.call_once("key", 1, batch()));
    assert_eq!(first, again);
    assert_eq!(fleet.stored("y").task.retry_count, 1);
}

#[test]
fn a_sync_and_a_submission_in_one_turn_meet() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    let [answer, _] = fleet.together([Command::Sync(roll("a").into()), task("x").into()]);
    match answer {
        Ok(Answer::Sync(answer)) => assert_eq!(starts(&answer), [("x".into(), 1)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_whose_items_need_different_rows_is_decided() {
    let mut fleet = Fleet::new();
    fleet.submit(task("ended")).unwrap();
    fleet.cancel("ended").unwrap();
    // What ended is in memory no more: one item waits for its row while the others are accepted, round after round.
    let items = fleet.submit_all([
        task("one"),
        task("two").after(["ended"]),
        task("three").labels(["new"]),
    ]);
    assert!(items.iter().all(Result::is_ok));
    assert_eq!(
        fleet.statuses(["one", "two", "three"]),
        [Pending, Status::Blocked, Pending]
    );
}

#[test]
fn a_dependency_that_is_unknown_is_refused_whatever_else_must_be_loaded() {
    let mut fleet = Fleet::new();
    for id in ["ended", "other"] {
        fleet.submit(task(id)).unwrap();
        fleet.cancel(id).unwrap();
    }
    fleet.restart();
    let refused = fleet.submit(task("x").after(["ended", "nothing", "other"]));
    assert_eq!(refused.unwrap_err().slug, Slug::UnknownDependency);
}
