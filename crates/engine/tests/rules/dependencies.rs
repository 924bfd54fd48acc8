//! Dependencies: what waits for what, circles, batches, cascades, fan-out.

use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;

use crate::harness::*;

use Status::{Blocked, Cancelled, Failed, InProgress, Pending};

#[test]
fn a_dependent_starts_only_after_all_of_its_dependencies() {
    // I7
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(0));
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two")).unwrap();
    fleet.submit(task("both").after(["one", "two"])).unwrap();
    assert_eq!(fleet.status("both"), Blocked);
    fleet.finish("two");
    assert_eq!(fleet.status("both"), Blocked);
    fleet.finish("one");
    assert_eq!(fleet.status("both"), InProgress);
}

#[test]
fn a_dependency_that_is_done_already_does_not_block() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("one")).unwrap();
    fleet.finish("one");
    assert_eq!(
        fleet.submit(task("two").after(["one"])).unwrap().task.status,
        InProgress
    );
}

#[test]
fn a_dependency_named_twice_counts_once() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two").after(["one", "one"])).unwrap();
    fleet.finish("one");
    assert_eq!(fleet.status("two"), InProgress);
}

#[test]
fn unknown_dependencies_and_circles_are_refused() {
    let mut fleet = Fleet::new();
    assert_eq!(
        fleet.submit(task("x").after(["nothing"])).unwrap_err().slug,
        Slug::UnknownDependency
    );
    assert_eq!(fleet.submit(task("x").after(["x"])).unwrap_err().slug.code(), 422);
    let [a, b, c, hanger, free] = fleet.submit_all([
        task("a").after(["b"]),
        task("b").after(["c"]),
        task("c").after(["a"]),
        task("hanger").after(["a"]),
        task("free"),
    ]);
    for item in [a, b, c] {
        assert_eq!(item.unwrap_err().slug, Slug::DependencyCycle);
    }
    assert_eq!(hanger.unwrap_err().slug.code(), 422);
    assert_eq!(free.unwrap().task.status, Pending);
    assert!(fleet.reader().task(&"a".into()).unwrap().is_none());
}

#[test]
fn a_bad_item_of_a_batch_fails_alone_with_what_depends_on_it() {
    let mut fleet = Fleet::new();
    let [bad, hanger, twice, good] = fleet.submit_all([
        task("bad").after(["nothing"]),
        task("hanger").after(["bad"]),
        task("good"),
        task("good"),
    ]);
    assert_eq!(bad.unwrap_err().slug, Slug::UnknownDependency);
    assert_eq!(hanger.unwrap_err().slug, Slug::UnknownDependency);
    assert!(twice.is_ok(), "the first of two items with the same id stands");
    assert_eq!(good.unwrap_err().slug, Slug::TaskExists);
}

#[test]
fn a_batch_may_name_its_own_items_in_any_order() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    for item in fleet.submit_all([
        task("three").after(["two"]),
        task("two").after(["one"]),
        task("one"),
    ]) {
        item.unwrap();
    }
    for id in ["one", "two", "three"] {
        assert_eq!(fleet.status(id), InProgress);
        fleet.finish(id);
    }
}

#[test]
fn a_failed_dependency_blocks_until_it_is_retried() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("one").retries(1)).unwrap();
    fleet.submit(task("two").after(["one"])).unwrap();
    fleet.fail("one");
    assert_eq!(fleet.statuses(["one", "two"]), [Failed, Blocked]);
    assert_eq!(fleet.why("two").0, "dependency_failed");
    fleet.retry("one").unwrap();
    assert_eq!(fleet.why("two").0, "dependency");
    fleet.finish("one");
    assert_eq!(fleet.status("two"), InProgress);
}

#[test]
fn a_cancelled_dependency_blocks_also_what_is_submitted_later() {
    let mut fleet = Fleet::new();
    fleet.submit(task("one")).unwrap();
    fleet.cancel("one").unwrap();
    fleet.submit(task("two").after(["one"])).unwrap();
    assert_eq!(fleet.why("two").0, "dependency_failed");
    fleet.retry("one").unwrap();
    assert_eq!(fleet.why("two").0, "dependency");
}

#[test]
fn a_cascade_takes_all_dependents_along() {
    let mut fleet = Fleet::new();
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two").after(["one"])).unwrap();
    fleet.submit(task("three").after(["two"])).unwrap();
    fleet.submit(task("other")).unwrap();
    fleet.cancel_all("one").unwrap();
    assert_eq!(
        fleet.statuses(["one", "two", "three", "other"]),
        [Cancelled, Cancelled, Cancelled, Pending]
    );
}

#[test]
fn a_cascade_from_a_task_that_was_cancelled_before_takes_the_dependents_along() {
    let mut fleet = Fleet::new();
    fleet.submit(task("one")).unwrap();
    fleet.submit(task("two").after(["one"])).unwrap();
    fleet.cancel("one").unwrap();
    assert_eq!(fleet.status("two"), Blocked);
    fleet.cancel_all("one").unwrap();
    assert_eq!(fleet.status("two"), Cancelled);
}

#[test]
fn more_dependents_than_one_turn_tells_are_told_in_later_turns() {
    // I7, and a fan-out over the bound of a turn that survives a restart.
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("hub")).unwrap();
    for from in 0..3 {
        let names: Vec<String> = (0..500).map(|index| format!("leaf{from}-{index}")).collect();
        let drafts: [Draft; 500] =
            std::array::from_fn(|index| task(&names[index]).after(["hub"]).labels(["nobody"]));
        for item in fleet.submit_all(drafts) {
            item.unwrap();
        }
    }
    fleet.finish("hub");
    fleet.restart();
    fleet.advance(seconds(1));
    let [pending, blocked, ..] = fleet.reader().counts().unwrap();
    assert_eq!((pending, blocked), (1_500, 0));
}

#[test]
fn a_cascade_over_more_dependents_than_one_turn_tells_goes_on_by_itself() {
    let mut fleet = Fleet::new();
    fleet.submit(task("hub")).unwrap();
    for from in 0..3 {
        let names: [String; 500] = std::array::from_fn(|index| format!("leaf{from}-{index}"));
        for item in fleet.submit_all(names.each_ref().map(|name| task(name).after(["hub"]))) {
            item.unwrap();
        }
    }
    fleet.submit(task("far").after(["leaf2-499"])).unwrap();
    fleet.cancel_all("hub").unwrap();
    fleet.restart();
    fleet.advance(seconds(1));
    let [.., cancelled] = fleet.reader().counts().unwrap();
    assert_eq!(cancelled, 1_502);
}

#[test]
fn a_retry_reaches_more_dependents_than_one_turn_tells() {
    let mut fleet = Fleet::new();
    fleet.submit(task("hub")).unwrap();
    let last = |from: u32| format!("leaf{from}-499");
    for from in 0..3 {
        let names: [String; 500] = std::array::from_fn(|index| format!("leaf{from}-{index}"));
        for item in fleet.submit_all(names.each_ref().map(|name| task(name).after(["hub"]))) {
            item.unwrap();
        }
    }
    fleet.cancel("hub").unwrap();
    // Before everybody has heard of it.
    fleet.retry("hub").unwrap();
    fleet.advance(seconds(1));
    assert_eq!([fleet.why(&last(0)).0, fleet.why(&last(2)).0], ["dependency"; 2]);
    fleet.claim("hub", "stranger").unwrap();
    fleet.finish("hub");
    fleet.advance(seconds(1));
    assert_eq!([fleet.status(&last(0)), fleet.status(&last(2))], [Pending; 2]);
}
