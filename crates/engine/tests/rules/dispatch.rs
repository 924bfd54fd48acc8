//! Dispatch: who gets what, in which order, and what wakes what waits.

use adjutant_core::limit::Allowance;
use adjutant_core::task::{Priority, Produces, Status};

use crate::harness::*;

use Priority::{Critical, High, Low, Medium};
use Status::{InProgress, Pending};

/// Agents with this many places, of which some are taken.
fn loaded<const N: usize>(agents: [(&str, u32, u32); N]) -> Fleet {
    let mut fleet = Fleet::new();
    for (id, max, load) in agents {
        fleet.join(agent(id).with([id, "go"]).load(max));
        for index in 0..load {
            fleet.submit(task(&format!("{id}-{index}")).labels([id])).unwrap();
        }
    }
    fleet
}

// ---- who ---------------------------------------------------------------------------------------------------------

#[test]
fn the_best_agent_is_the_one_with_the_highest_score() {
    type Case<'a> = (&'a str, [(&'a str, u32, u32); 3], Priority, &'a str);
    let table: [Case<'_>; 8] = [
        (
            "the least loaded share",
            [("a", 2, 1), ("b", 10, 4), ("c", 4, 3)],
            Medium,
            "b",
        ),
        (
            "unlimited is a score of one",
            [("a", 2, 1), ("b", 0, 50), ("c", 4, 1)],
            Medium,
            "b",
        ),
        (
            "a tie goes to the lower load",
            [("a", 4, 2), ("b", 2, 1), ("c", 6, 3)],
            Medium,
            "b",
        ),
        (
            "and then to the first id",
            [("b", 2, 1), ("a", 2, 1), ("c", 2, 1)],
            Medium,
            "a",
        ),
        (
            "critical: the lowest absolute load",
            [("a", 2, 1), ("b", 100, 2), ("c", 0, 3)],
            Critical,
            "a",
        ),
        (
            "critical: ties by id",
            [("c", 3, 1), ("b", 100, 1), ("d", 0, 1)],
            Critical,
            "b",
        ),
        (
            "exact fractions",
            [("a", 3, 1), ("b", 300, 100), ("c", 299, 100)],
            Low,
            "a",
        ),
        (
            "a full agent is skipped",
            [("a", 1, 1), ("b", 10, 9), ("c", 1, 1)],
            High,
            "b",
        ),
    ];
    for (name, agents, priority, expected) in table {
        let mut fleet = loaded(agents);
        fleet.submit(task("x").labels(["go"]).priority(priority)).unwrap();
        assert_eq!(fleet.holder("x").as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn preferred_labels_add_a_tenth_each_and_at_most_five() {
    let table: [(u32, [&str; 6], &str); 4] = [
        // `b` has all six labels and half of its places are taken; `a` has none of both.
        (2, ["1", "-", "-", "-", "-", "-"], "a"),
        (2, ["1", "2", "3", "4", "-", "-"], "a"),
        // A tie goes to the lower load.
        (2, ["1", "2", "3", "4", "5", "-"], "a"),
        (2, ["1", "2", "3", "4", "5", "6"], "a"),
    ];
    for (max, prefers, expected) in table {
        let mut fleet = Fleet::new();
        fleet.join(agent("b").with(["1", "2", "3", "4", "5", "6", "b"]).load(max));
        fleet.submit(task("b-0").labels(["b"])).unwrap();
        fleet.join(agent("a").load(max));
        fleet.submit(task("x").prefers(prefers)).unwrap();
        assert_eq!(fleet.holder("x").as_deref(), Some(expected), "{prefers:?}");
    }
    for (prefers, expected) in [
        (["1", "2", "3"], "a"),
        (["1", "2", "4"], "b"),
        (["4", "5", "6"], "b"),
    ] {
        let mut fleet = Fleet::new();
        fleet.join(agent("a").with(["1", "2", "3"]).load(10));
        fleet.join(agent("b").with(["1", "2", "4", "5", "6"]).load(10));
        fleet.submit(task("x").prefers(prefers)).unwrap();
        assert_eq!(fleet.holder("x").as_deref(), Some(expected), "{prefers:?}");
    }
}

#[test]
fn preferences_are_never_required_and_critical_tasks_ignore_them() {
    let mut fleet = loaded([("a", 5, 1), ("b", 5, 0)]);
    fleet
        .submit(task("x").labels(["go"]).prefers(["nobody"]))
        .unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
    fleet.finish("x");
    fleet
        .submit(task("y").labels(["go"]).prefers(["a"]).priority(Critical))
        .unwrap();
    assert_eq!(fleet.holder("y").as_deref(), Some("b"));
}

#[test]
fn labels_and_models_must_all_be_there() {
    let table: [(&str, Draft, Option<&str>); 6] = [
        ("no label", task("x"), Some("a")),
        ("one label", task("x").labels(["sql"]), Some("b")),
        ("two labels", task("x").labels(["go", "sql"]), Some("b")),
        ("one too many", task("x").labels(["go", "rust"]), None),
        ("a model", task("x").model("small"), Some("b")),
        ("a model that one has", task("x").model("other"), Some("c")),
    ];
    for (name, draft, expected) in table {
        let mut fleet = Fleet::new();
        fleet.join(agent("a").with(["go"]).models(["big"]));
        fleet.join(agent("b").with(["go", "sql"]).models(["big", "small"]));
        fleet.join(agent("c"));
        fleet.submit(draft).unwrap();
        assert_eq!(fleet.holder("x").as_deref(), expected, "{name}");
    }
}

#[test]
fn an_allowlist_binds_also_the_model_that_a_task_does_not_name() {
    let allowance = || Allowance {
        model_allowlist: vec!["other".into()],
        ..Allowance::default()
    };
    for (models, expected) in [(["m", "m"], None), (["m", "other"], Some("a"))] {
        let mut fleet = Fleet::new();
        fleet.allow("a", allowance());
        let only = models[0] == models[1];
        fleet.join(if only {
            agent("a").models(["m"])
        } else {
            agent("a").models(models)
        });
        fleet.submit(task("x")).unwrap();
        assert_eq!(fleet.holder("x").as_deref(), expected);
    }
}

#[test]
fn an_exhausted_agent_is_skipped_for_the_next_best() {
    let table: [(&str, Act); 5] = [
        ("jobs", |f| f.exhaust("agent:a")),
        ("estimate", |f| f.limit("agent:a", [tokens(daily(), 49)])),
        ("allowlist", |f| {
            f.allow(
                "a",
                Allowance {
                    model_allowlist: vec!["other".into()],
                    ..Allowance::default()
                },
            );
        }),
        ("draining", |f| f.drain("a")),
        ("full", |f| drop(f.submit(task("filler").labels(["a"])).unwrap())),
    ];
    for (name, prepare) in table {
        let mut fleet = loaded([("a", 1, 0), ("b", 2, 1)]);
        prepare(&mut fleet);
        fleet
            .submit(task("x").labels(["go"]).model("m").estimate(50))
            .unwrap();
        assert_eq!(fleet.holder("x").as_deref(), Some("b"), "{name}");
    }
}

#[test]
fn a_retry_prefers_an_agent_that_has_not_failed_the_task() {
    let mut fleet = loaded([("a", 10, 0), ("b", 2, 1), ("c", 1, 1)]);
    fleet.submit(task("x").labels(["go"]).retries(5)).unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
    fleet.fail("x");
    fleet.advance(seconds(6));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"), "before score");
    fleet.fail("x");
    fleet.advance(seconds(11));
    assert_eq!(fleet.holder("x").as_deref(), Some("a"), "no other has room");
    fleet.retry("x").unwrap_err();
}

#[test]
fn a_lost_attempt_is_retried_elsewhere_too() {
    let mut fleet = loaded([("a", 10, 0), ("b", 2, 1)]);
    fleet.submit(task("x").labels(["go"])).unwrap();
    fleet.take("a");
    fleet.sync(roll("a"));
    fleet.advance(seconds(6));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
}

// ---- in which order ----------------------------------------------------------------------------------------------

#[test]
fn tasks_are_taken_by_priority_and_then_by_arrival() {
    // I6
    let mut fleet = Fleet::new();
    let drafts = [
        ("l1", Low),
        ("m1", Medium),
        ("h1", High),
        ("c1", Critical),
        ("m2", Medium),
        ("c2", Critical),
    ];
    for (id, priority) in drafts {
        // Different classes are one order.
        fleet.submit(task(id).priority(priority).prefers([id])).unwrap();
    }
    fleet.restart();
    fleet.join(agent("a"));
    for id in ["c1", "c2", "h1", "m1", "m2", "l1"] {
        assert_eq!(fleet.holder(id).as_deref(), Some("a"), "{id}");
        fleet.finish(id);
    }
}

#[test]
fn a_changed_priority_changes_the_order() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.submit(task("y")).unwrap();
    fleet.patch("y", change().priority(High)).unwrap();
    fleet.join(agent("a"));
    assert_eq!(fleet.statuses(["x", "y"]), [Pending, InProgress]);
}

#[test]
fn a_higher_task_that_nobody_can_take_does_not_stand_in_the_way() {
    let mut fleet = Fleet::new();
    fleet
        .submit(task("x").priority(Critical).labels(["nobody"]))
        .unwrap();
    fleet.submit(task("y").priority(Low)).unwrap();
    fleet.join(agent("a"));
    assert_eq!(fleet.statuses(["x", "y"]), [Pending, InProgress]);
}

#[test]
fn a_task_that_is_too_large_for_what_is_left_steps_aside() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.join(agent("a").load(3));
    fleet.submit(task("running").estimate(60)).unwrap();
    fleet.submit(task("large").estimate(80)).unwrap();
    fleet.submit(task("small").estimate(40)).unwrap();
    assert_eq!(fleet.statuses(["large", "small"]), [Pending, InProgress]);
    fleet.complete(done("small").tokens(10, 0)).unwrap();
    fleet.complete(done("running").tokens(5, 0)).unwrap();
    assert_eq!(fleet.status("large"), InProgress);
}

#[test]
fn many_tasks_that_are_too_large_do_not_starve_a_small_one() {
    // I11
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.join(agent("a").load(0));
    fleet.submit(task("running").estimate(60)).unwrap();
    for index in 0..70 {
        fleet
            .submit(task(&format!("large-{index}")).estimate(200))
            .unwrap();
    }
    fleet.submit(task("small").estimate(50)).unwrap();
    fleet.take("a");
    fleet.complete(done("running")).unwrap();
    fleet.advance(seconds(30));
    assert_eq!(
        fleet.status("small"),
        InProgress,
        "it fits, and an agent has room"
    );
}

#[test]
fn what_one_task_makes_does_not_stop_its_class() {
    // I11: an agent's own limit on pull requests concerns only tasks that make one.
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [pull_requests(daily(), 1)]);
    fleet.join(agent("a"));
    fleet
        .submit(task("first").repo("o/r").produces(Produces::PullRequest))
        .unwrap();
    fleet
        .submit(task("x").repo("o/r").produces(Produces::PullRequest))
        .unwrap();
    fleet.submit(task("y").repo("o/r")).unwrap();
    fleet.finish("first");
    fleet.advance(seconds(10));
    assert_eq!(fleet.statuses(["x", "y"]), [Pending, InProgress]);
}

#[test]
fn a_large_task_of_higher_priority_goes_first_once_it_fits() {
    // I6
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.join(agent("a").load(0));
    fleet.submit(task("running").estimate(60)).unwrap();
    fleet.submit(task("low").estimate(90)).unwrap();
    fleet.submit(task("high").estimate(80).priority(High)).unwrap();
    fleet.restart();
    fleet.finish("running");
    assert_eq!(fleet.statuses(["low", "high"]), [Pending, InProgress]);
}

#[test]
fn a_repository_at_its_limit_stops_only_its_own_tasks() {
    let mut fleet = Fleet::new();
    fleet.exhaust("repo:o/full");
    fleet.join(agent("a"));
    fleet.submit(task("x").repo("o/full").priority(Critical)).unwrap();
    fleet.submit(task("y").repo("o/free")).unwrap();
    assert_eq!(fleet.statuses(["x", "y"]), [Pending, InProgress]);
}

#[test]
fn a_long_queue_is_worked_off_in_order() {
    // Longer than what is held in memory of one queue.
    let mut fleet = Fleet::new();
    for from in 0..2 {
        let names: Vec<String> = (0..400).map(|index| format!("x{}", from * 400 + index)).collect();
        let drafts: [Draft; 400] = std::array::from_fn(|index| task(&names[index]));
        for item in fleet.submit_all(drafts) {
            item.unwrap();
        }
    }
    fleet.join(agent("a"));
    for index in 0..800 {
        if index == 300 {
            fleet.restart();
        }
        let id = format!("x{index}");
        assert_eq!(fleet.holder(&id).as_deref(), Some("a"), "{id}");
        fleet.finish(&id);
    }
}

// ---- how much -------------------------------------------------------------------------------------------------

#[test]
fn limits_hold_for_all_that_one_turn_starts() {
    // I3, I4
    let table = [
        (jobs(daily(), 3), 0, 3),
        (concurrent(daily(), 2), 0, 2),
        (tokens(daily(), 100), 30, 3),
    ];
    for (limit, estimate, expected) in table {
        for scope in ["agent:a", "fleet", "project:p", "repo:o/r", "model:m"] {
            let mut fleet = Fleet::new();
            fleet.limit(scope, [limit.clone()]);
            let names: [String; 10] = std::array::from_fn(|index| format!("x{index}"));
            let draft = |name: &String| task(name).project("p").repo("o/r").model("m").estimate(estimate);
            for item in fleet.submit_all(names.each_ref().map(draft)) {
                item.unwrap();
            }
            fleet.join(agent("a").load(0));
            let started = names
                .iter()
                .filter(|name| fleet.status(name) == InProgress)
                .count();
            assert_eq!(started, expected, "{scope} {limit:?}");
        }
    }
}

#[test]
fn limits_on_slots_hold_over_agents() {
    // I2
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [concurrent(daily(), 2)]);
    fleet.join(agent("a").load(0));
    for id in ["x", "y", "z"] {
        fleet.submit(task(id)).unwrap();
    }
    assert_eq!(fleet.statuses(["x", "y", "z"]), [InProgress, InProgress, Pending]);
    fleet.finish("x");
    assert_eq!(fleet.status("z"), InProgress);
}

#[test]
fn a_max_load_below_the_load_stops_nothing_and_starts_nothing() {
    let mut fleet = loaded([("a", 3, 3)]);
    fleet.load_was_lowered = true;
    fleet.join(agent("a").with(["a", "go"]).load(1));
    fleet.submit(task("x").labels(["go"])).unwrap();
    fleet.finish("a-0");
    fleet.finish("a-1");
    assert_eq!(fleet.statuses(["a-2", "x"]), [InProgress, Pending]);
    fleet.finish("a-2");
    assert_eq!(fleet.status("x"), InProgress);
}
