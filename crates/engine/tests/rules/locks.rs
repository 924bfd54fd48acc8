//! Locks: two tasks that share one are never in progress at the same time, and nobody starves.

use adjutant_core::rejection::Slug;
use adjutant_core::task::{Priority, Status};

use crate::harness::*;

use Status::{InProgress, Pending};

fn crew() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(0));
    fleet
}

#[test]
fn tasks_that_share_a_lock_run_one_after_the_other() {
    // I1
    let mut fleet = crew();
    for id in ["x", "y", "z"] {
        fleet.submit(task(id).locks(["main"])).unwrap();
    }
    fleet.submit(task("other").locks(["side"])).unwrap();
    assert_eq!(
        fleet.statuses(["x", "y", "z", "other"]),
        [InProgress, Pending, Pending, InProgress]
    );
    fleet.restart();
    fleet.finish("x");
    assert_eq!(fleet.statuses(["y", "z"]), [InProgress, Pending]);
    fleet.fail("y");
    assert_eq!(fleet.status("z"), InProgress, "a task in backoff holds no lock");
}

#[test]
fn a_claim_cannot_take_a_lock_that_is_held() {
    let mut fleet = crew();
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.submit(task("y").locks(["main"])).unwrap();
    let refusal = fleet.claim("y", "stranger").unwrap_err();
    assert_eq!(refusal.slug, Slug::TaskNotClaimable);
    assert_eq!(
        fleet.why("y"),
        ("locked", "lock `main` is held by task `x`".into())
    );
}

#[test]
fn every_end_of_an_attempt_lets_go_of_its_locks() {
    let ends: [(&str, Act); 5] = [
        ("done", |f| f.finish("x")),
        ("failed", |f| f.fail("x")),
        ("released", |f| {
            f.release("x").unwrap();
        }),
        ("lost", |f| drop(f.sync(roll("a")))),
        ("deregistered", |f| f.deregister("a")),
    ];
    for (name, end) in ends {
        let mut fleet = crew();
        fleet.submit(task("x").locks(["main", "side"])).unwrap();
        fleet.submit(task("y").locks(["side"]).labels(["b"])).unwrap();
        fleet.take("a");
        fleet.hold("y").unwrap();
        fleet.join(agent("b").with(["b"]));
        fleet.unhold("y").unwrap();
        fleet.drain("a");
        fleet.patch("y", change().priority(Priority::Critical)).unwrap();
        assert_eq!(fleet.why("y").0, "locked", "{name}");
        end(&mut fleet);
        assert_eq!(fleet.holder("y").as_deref(), Some("b"), "{name}");
    }
}

#[test]
fn a_task_that_wants_two_locks_does_not_starve() {
    let mut fleet = crew();
    fleet.submit(task("one").locks(["left"])).unwrap();
    fleet.submit(task("both").locks(["left", "right"])).unwrap();
    fleet.submit(task("two").locks(["right"])).unwrap();
    assert_eq!(fleet.statuses(["both", "two"]), [Pending, Pending]);
    assert_eq!(
        fleet.why("two"),
        (
            "locked",
            "lock `right` is wanted by the earlier task `both`".into()
        )
    );
    let refusal = fleet.claim("two", "stranger").unwrap_err();
    assert_eq!(refusal.slug, Slug::TaskNotClaimable);
    fleet.finish("one");
    assert_eq!(fleet.statuses(["both", "two"]), [InProgress, Pending]);
    fleet.finish("both");
    assert_eq!(fleet.status("two"), InProgress);
}

#[test]
fn an_earlier_task_that_lacks_more_than_locks_stands_in_nobodys_way() {
    type Prepare = fn(&mut Fleet) -> Draft;
    let table: [(&str, Prepare); 3] = [
        ("an agent", |_| task("both").labels(["nobody"])),
        ("a limit", |f| {
            f.exhaust("repo:o/r");
            task("both").repo("o/r")
        }),
        ("its time", |f| {
            let time = f.now + minutes(5);
            task("both").not_before(time)
        }),
    ];
    for (name, prepare) in table {
        let mut fleet = crew();
        fleet.submit(task("one").locks(["left"])).unwrap();
        let both = prepare(&mut fleet);
        fleet.submit(both.locks(["left", "right"])).unwrap();
        fleet.submit(task("two").locks(["right"])).unwrap();
        assert_eq!(fleet.statuses(["both", "two"]), [Pending, InProgress], "{name}");
    }
}

#[test]
fn a_later_task_goes_on_when_the_earlier_one_steps_back() {
    let steps: [(&str, Act); 3] = [
        ("cancelled", |f| drop(f.cancel("both").unwrap())),
        ("held", |f| drop(f.hold("both").unwrap())),
        ("made lower", |f| {
            drop(f.patch("both", change().priority(Priority::Low)).unwrap());
        }),
    ];
    for (name, step) in steps {
        let mut fleet = crew();
        fleet.submit(task("one").locks(["left"])).unwrap();
        fleet.submit(task("both").locks(["left", "right"])).unwrap();
        fleet.submit(task("two").locks(["right"])).unwrap();
        step(&mut fleet);
        assert_eq!(fleet.status("two"), InProgress, "{name}");
    }
}

#[test]
fn a_later_task_goes_on_when_the_earlier_one_loses_its_agent() {
    // I11
    let mut fleet = crew();
    fleet.join(agent("b").with(["b"]));
    fleet.submit(task("one").locks(["left"])).unwrap();
    fleet
        .submit(task("both").locks(["left", "right"]).labels(["b"]))
        .unwrap();
    fleet.submit(task("two").locks(["right"])).unwrap();
    assert_eq!(fleet.status("two"), Pending);
    fleet.drain("b");
    fleet.advance(seconds(10));
    assert_eq!(fleet.statuses(["both", "two"]), [Pending, InProgress]);
}

#[test]
fn a_lock_goes_to_the_most_urgent_who_wants_it() {
    // I6
    let mut fleet = crew();
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.submit(task("later").locks(["main"])).unwrap();
    fleet
        .submit(task("urgent").locks(["main"]).priority(Priority::Critical))
        .unwrap();
    fleet.finish("x");
    assert_eq!(fleet.statuses(["later", "urgent"]), [Pending, InProgress]);
}

#[test]
fn a_retry_of_a_cancelled_task_waits_for_its_own_old_attempt() {
    let mut fleet = crew();
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.take("a");
    fleet.cancel("x").unwrap();
    fleet.retry("x").unwrap();
    assert_eq!(fleet.status("x"), Pending);
    fleet.sync(roll("a"));
    assert_eq!((fleet.status("x"), fleet.attempt("x")), (InProgress, 2));
}

#[test]
fn a_task_that_wants_a_lock_twice_wants_it_once() {
    let mut fleet = crew();
    fleet.submit(task("x").locks(["main", "side"])).unwrap();
    fleet.finish("x");
    fleet.submit(task("y").locks(["side", "main"])).unwrap();
    assert_eq!(fleet.status("y"), InProgress);
}

#[test]
fn a_long_line_for_one_lock_is_worked_off_in_order() {
    // I1, I6; longer than what is held in memory of one queue.
    let mut fleet = crew();
    let names: [String; 600] = std::array::from_fn(|index| format!("x{index}"));
    for item in fleet.submit_all(names.each_ref().map(|name| task(name).locks(["main"]))) {
        item.unwrap();
    }
    for (index, name) in names.iter().enumerate() {
        if index == 300 {
            fleet.restart();
        }
        assert_eq!(fleet.holder(name).as_deref(), Some("a"), "{name}");
        fleet.finish(name);
    }
}
