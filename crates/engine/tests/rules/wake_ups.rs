//! Wake-ups: whatever makes a start possible starts it at once (I11).

use adjutant_core::limit::{Allowance, ModelQuota};
use adjutant_core::task::Status;

use crate::harness::*;

use Status::{InProgress, Pending};

/// Agent `a` is there; something stands in the way of task `x`, and goes.
fn assert_wakes(name: &str, draft: Draft, before: Act, open: Act) {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    before(&mut fleet);
    fleet.submit(draft).unwrap();
    assert_eq!(fleet.status("x"), Pending, "{name}: not yet");
    open(&mut fleet);
    assert_eq!(fleet.status("x"), InProgress, "{name}");
}

#[test]
fn a_change_of_an_agent_or_of_the_task_starts_it_at_once() {
    // I11
    let table: [(&str, Draft, Act, Act); 9] = [
        (
            "an agent joins",
            task("x").labels(["go"]),
            |_| (),
            |f| drop(f.join(agent("b").with(["go"]))),
        ),
        (
            "an agent learns",
            task("x").labels(["go"]),
            |_| (),
            |f| drop(f.join(agent("a").with(["go"]))),
        ),
        (
            "an agent gets a model",
            task("x").model("m"),
            |f| drop(f.join(agent("a").models(["n"]))),
            |f| {
                f.join(agent("a").models(["n", "m"]));
            },
        ),
        ("an agent gets room", task("x"), fill, |f| {
            drop(f.join(agent("a").load(2)));
        }),
        ("an agent finishes", task("x"), fill, |f| f.finish("filler")),
        ("an agent fails", task("x"), fill, |f| f.fail("filler")),
        ("an agent no longer lists", task("x"), fill, |f| {
            drop(f.sync(roll("a")));
        }),
        (
            "an agent undrains",
            task("x"),
            |f| f.drain("a"),
            |f| f.undrain("a"),
        ),
        (
            "a label is dropped",
            task("x").labels(["go"]),
            |_| (),
            |f| drop(f.patch("x", change().labels([]))),
        ),
    ];
    for (name, draft, before, open) in table {
        assert_wakes(name, draft, before, open);
    }
}

#[test]
fn a_limit_that_lets_go_starts_it_at_once() {
    // I11
    let table: [(&str, Draft, Act, Act); 9] = [
        (
            "a limit is raised",
            task("x"),
            |f| f.exhaust("agent:a"),
            |f| f.limit("agent:a", []),
        ),
        (
            "the fleet's limit is raised",
            task("x"),
            |f| f.exhaust("fleet"),
            |f| {
                f.limit("fleet", []);
            },
        ),
        (
            "a model's quota is raised",
            task("x").model("m"),
            |f| f.exhaust("model:m"),
            |f| {
                f.model("m", ModelQuota::default());
                f.limit("model:m", []);
            },
        ),
        (
            "a project's limit is raised",
            task("x").project("p"),
            |f| f.exhaust("project:p"),
            |f| {
                f.limit("project:p", []);
            },
        ),
        (
            "an allowlist is widened",
            task("x").model("m"),
            |f| {
                f.allow(
                    "a",
                    Allowance {
                        model_allowlist: vec!["n".into()],
                        ..Allowance::default()
                    },
                );
            },
            |f| f.allow("a", Allowance::default()),
        ),
        (
            "an estimate is lowered",
            task("x").estimate(50),
            |f| f.limit("agent:a", [tokens(daily(), 40)]),
            |f| {
                f.patch("x", change().estimate(40)).unwrap();
            },
        ),
        (
            "a slot of the fleet is free",
            task("x"),
            |f| {
                f.limit("fleet", [concurrent(ever(), 1)]);
                f.submit(task("other")).unwrap();
                f.join(agent("b"));
            },
            |f| f.finish("other"),
        ),
        (
            "a hold of tokens comes back",
            task("x").project("p").estimate(50),
            |f| {
                f.limit("project:p", [tokens(daily(), 60)]);
                f.submit(task("other").project("p").estimate(50)).unwrap();
                f.take("a");
                f.join(agent("b"));
            },
            |f| f.finish("other"),
        ),
        (
            "a model's slot is free",
            task("x").model("m"),
            |f| {
                f.limit("model:m", [concurrent(ever(), 1)]);
                f.submit(task("other").model("m")).unwrap();
                f.join(agent("b"));
            },
            |f| f.finish("other"),
        ),
    ];
    for (name, draft, before, open) in table {
        assert_wakes(name, draft, before, open);
    }
}

fn fill(fleet: &mut Fleet) {
    fleet.submit(task("filler").retries(1)).unwrap();
    fleet.take("a");
}
