//! Waiting: why a task does not run, in the order in which reasons apply, and what each agent lacks.

use adjutant_core::command::WaitingReason;
use adjutant_core::limit::{Allowance, ModelQuota};

use crate::harness::*;

/// Each reason in its words, and what takes it away.
fn steps() -> [(WaitingReason, &'static str, Act); 11] {
    [
        (WaitingReason::Held, "held by an operator", |f| {
            drop(f.unhold("x").unwrap());
        }),
        (
            WaitingReason::DependencyFailed,
            "1 of 2 dependencies failed or were cancelled",
            |f| {
                f.limit("fleet", []);
                f.retry("bad").unwrap();
                f.claim("bad", "stranger").unwrap();
                f.finish("bad");
                f.limit("fleet", [tokens(daily(), 10)]);
            },
        ),
        (
            WaitingReason::Dependency,
            "1 of 2 dependencies are not completed",
            |f| f.finish("slow"),
        ),
        (
            WaitingReason::NotBefore,
            "not before 2026-11-24T10:15:00.000000Z",
            |f| f.advance(minutes(5)),
        ),
        (
            WaitingReason::Locked,
            "lock `main` is held by task `locker`",
            |f| f.finish("locker"),
        ),
        (WaitingReason::RepoLimit, "repo:o/r day jobs limit reached", |f| {
            f.limit("repo:o/r", []);
        }),
        (WaitingReason::NoAgents, "no agent is registered", |f| {
            drop(f.join(agent("a")));
        }),
        (
            WaitingReason::NoCapableAgent,
            "no agent has labels go and model m",
            |f| {
                f.join(agent("a").with(["go"]));
            },
        ),
        (
            WaitingReason::ModelQuota,
            "model hourly rate limit reached for: m",
            |f| {
                f.model("m", ModelQuota::default());
            },
        ),
        (WaitingReason::Quota, "fleet day tokens limit reached", |f| {
            f.drain("a");
            f.limit("fleet", []);
        }),
        (
            WaitingReason::AllBusy,
            "every capable agent is full, paused, draining or quarantined",
            |f| {
                f.undrain("a");
            },
        ),
    ]
}

#[test]
fn each_reason_is_the_first_that_applies() {
    // Everything stands in the way at first; step by step one thing goes.
    let mut fleet = Fleet::new();
    let time = fleet.now + minutes(5);
    fleet.exhaust("repo:o/r");
    fleet.model(
        "m",
        ModelQuota {
            hourly_rate_limit: 1,
            ..ModelQuota::default()
        },
    );
    fleet.limit("fleet", [tokens(daily(), 10)]);
    fleet.submit(task("bad").retries(1)).unwrap();
    fleet.submit(task("slow")).unwrap();
    fleet.submit(task("locker").locks(["main"])).unwrap();
    fleet.claim("locker", "stranger").unwrap();
    fleet
        .report(spent("stranger", "locker", 20, 0).model("m"))
        .unwrap();
    fleet.claim("bad", "stranger").unwrap_err();
    fleet.limit("fleet", [tokens(daily(), 30)]);
    fleet.claim("bad", "stranger").unwrap();
    fleet.fail("bad");
    fleet.claim("slow", "stranger").unwrap();
    fleet.limit("fleet", [tokens(daily(), 10)]);
    let draft = task("x")
        .after(["bad", "slow"])
        .not_before(time)
        .locks(["main"])
        .repo("o/r")
        .model("m");
    fleet.submit(draft.labels(["go"])).unwrap();
    fleet.hold("x").unwrap();
    let steps = steps();
    assert_eq!(steps.len(), WaitingReason::ALL.len());
    for (reason, words, step) in steps {
        assert_eq!(fleet.why("x"), (reason.name(), words.into()));
        step(&mut fleet);
    }
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
    assert!(fleet.view("x").waiting.is_none());
}

#[test]
fn every_busy_state_of_a_capable_agent_is_all_busy() {
    let table: [(&str, Act); 4] = [
        ("full", |f| {
            f.submit(task("y")).unwrap();
            f.take("a");
        }),
        ("draining", |f| f.drain("a")),
        ("paused", |f| {
            f.submit(task("y")).unwrap();
            let until = f.now + minutes(5);
            f.complete(failed("y").rate_limited(until)).unwrap();
        }),
        ("quarantined", |f| {
            for id in ["1", "2", "3"] {
                f.submit(task(id).retries(1)).unwrap();
                f.fail(id);
            }
        }),
    ];
    for (name, prepare) in table {
        let mut fleet = Fleet::new();
        fleet.join(agent("a"));
        prepare(&mut fleet);
        fleet.submit(task("x")).unwrap();
        assert_eq!(fleet.why("x").0, "all_busy", "{name}");
    }
}

#[test]
fn an_offline_fleet_is_no_fleet() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.silence("a");
    fleet.advance(minutes(2));
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.why("x"), ("no_agents", "all 1 agents are offline".into()));
    fleet.join(agent("b").models(["n"]));
    fleet.submit(task("y").model("m")).unwrap();
    assert_eq!(
        fleet.why("y").0,
        "no_capable_agent",
        "who is offline is not capable"
    );
}

#[test]
fn quota_says_what_refuses_the_agent_with_room() {
    let table: [(&str, Act); 3] = [
        ("daily job limit exceeded", |f| f.exhaust("agent:a")),
        ("daily token limit exceeded", |f| {
            f.limit("agent:a", [tokens(daily(), 10)]);
        }),
        ("model not in allowlist: m", |f| {
            f.allow(
                "a",
                Allowance {
                    model_allowlist: vec!["n".into()],
                    ..Allowance::default()
                },
            );
        }),
    ];
    for (words, prepare) in table {
        let mut fleet = Fleet::new();
        fleet.join(agent("a"));
        prepare(&mut fleet);
        fleet.submit(task("x").model("m").estimate(20)).unwrap();
        let (reason, detail) = fleet.why("x");
        assert_eq!(reason, "quota");
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn a_task_waits_since_it_became_ready() {
    let mut fleet = Fleet::new();
    let start = fleet.now;
    fleet.submit(task("x")).unwrap();
    fleet.submit(task("y").after(["x"])).unwrap();
    fleet.advance(minutes(3));
    assert_eq!(fleet.waiting("x").since, start);
    fleet.claim("x", "stranger").unwrap();
    fleet.finish("x");
    assert_eq!(fleet.waiting("y").since, fleet.now);
    let time = fleet.now + minutes(1);
    fleet.submit(task("z").not_before(time)).unwrap();
    fleet.advance(minutes(2));
    assert_eq!(fleet.waiting("z").since, time);
}

#[test]
fn an_explanation_groups_agents_by_what_they_lack() {
    let mut fleet = Fleet::new();
    for id in ["a", "b"] {
        fleet.join(agent(id));
    }
    fleet.join(agent("c").with(["go"]).models(["n"]));
    fleet.join(agent("d").with(["go"]));
    fleet.exhaust("agent:d");
    fleet.submit(task("x").labels(["go"]).model("m")).unwrap();
    let explanation = fleet.explain("x");
    let groups: Vec<_> = explanation
        .groups
        .iter()
        .map(|group| (group.reason.as_str(), group.count, group.agents.len()))
        .collect();
    let expected = [
        ("lacks go", 2, 2),
        ("daily job limit exceeded", 1, 1),
        ("lacks model m", 1, 1),
    ];
    assert_eq!(groups, expected);
    assert_eq!(explanation.considered, 4);
    assert_eq!(explanation.waiting.unwrap().reason, WaitingReason::Quota);
}

#[test]
fn an_explanation_names_the_first_hundred_agents_and_counts_all() {
    let mut fleet = Fleet::new();
    for index in 0..105 {
        fleet.join(agent(&format!("a{index:03}")));
    }
    fleet.submit(task("x").labels(["go"])).unwrap();
    let explanation = fleet.explain("x");
    assert_eq!(
        (explanation.groups[0].count, explanation.groups[0].agents.len()),
        (105, 100)
    );
    assert_eq!(explanation.groups[0].agents[99].as_str(), "a099");
}
