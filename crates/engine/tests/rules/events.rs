//! Events: the story of a task and of an agent, in order and without gaps.

use crate::harness::*;

#[test]
fn a_task_that_succeeds_has_its_story() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.patch("x", change().attempt(1).progress(50)).unwrap();
    fleet.report(spent("a", "x", 1, 1)).unwrap();
    fleet.finish("x");
    let story = [
        "task_created",
        "task_dispatched",
        "task_progress",
        "usage_recorded",
        "task_completed",
    ];
    assert_eq!(fleet.story("x"), story);
}

#[test]
fn a_task_that_fails_has_its_story() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").retries(2)).unwrap();
    fleet.fail("x");
    fleet.advance(seconds(6));
    fleet.take("a");
    fleet.sync(roll("a"));
    fleet.retry("x").unwrap();
    fleet.cancel("x").unwrap();
    let story = [
        "task_created",
        "task_dispatched",
        "task_attempt_failed",
        "task_retried",
        "task_dispatched",
        "lease_expired",
        "task_attempt_failed",
        "task_dead_lettered",
        "task_retried",
        "task_dispatched",
        "task_cancelled",
    ];
    assert_eq!(fleet.story("x"), story);
}

#[test]
fn a_claim_and_a_release_have_their_story() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "stranger").unwrap();
    fleet.release("x").unwrap();
    let story = [
        "task_created",
        "dispatch_failed_no_agent",
        "task_claimed",
        "task_released",
    ];
    assert_eq!(fleet.story("x"), story);
}

#[test]
fn an_agent_has_its_story() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.drain("a");
    fleet.undrain("a");
    fleet.silence("a");
    fleet.advance(minutes(2));
    fleet.sync(heartbeat("a"));
    fleet.submit(task("x")).unwrap();
    let until = fleet.now + minutes(1);
    fleet.complete(failed("x").rate_limited(until)).unwrap();
    fleet.deregister("a");
    let story: Vec<_> = fleet
        .events()
        .iter()
        .map(|event| event.kind.name())
        .filter(|name| name.starts_with("agent_"))
        .collect();
    let expected = [
        "agent_registered",
        "agent_draining",
        "agent_online",
        "agent_offline",
        "agent_online",
        "agent_paused",
        "agent_deregistered",
    ];
    assert_eq!(story, expected);
}

#[test]
fn the_first_try_that_finds_nobody_is_told_once() {
    let table: [(&str, Act); 4] = [
        ("dispatch_failed_no_agent", |_| ()),
        ("dispatch_failed_no_agent", |f| drop(f.join(agent("b")))),
        ("dispatch_failed_quota", |f| {
            f.join(agent("a").with(["go"]));
            f.exhaust("agent:a");
        }),
        ("dispatch_failed_quota", |f| {
            f.join(agent("a").with(["go"]));
            f.exhaust("fleet");
        }),
    ];
    for (name, prepare) in table {
        let mut fleet = Fleet::new();
        prepare(&mut fleet);
        fleet.submit(task("x").labels(["go"])).unwrap();
        fleet.restart();
        fleet.join(agent("c"));
        fleet.advance(minutes(70));
        assert_eq!(fleet.story("x"), ["task_created", name]);
    }
}

#[test]
fn a_task_that_was_not_ready_is_told_when_it_is() {
    let mut fleet = Fleet::new();
    let time = fleet.now + minutes(5);
    fleet.submit(task("x").not_before(time)).unwrap();
    assert_eq!(fleet.story("x"), ["task_created"]);
    fleet.advance(minutes(5));
    assert_eq!(fleet.story("x"), ["task_created", "dispatch_failed_no_agent"]);
}

#[test]
fn times_and_numbers_of_events_rise_together() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").load(0));
    for id in ["x", "y", "z"] {
        fleet.submit(task(id)).unwrap();
        fleet.advance(seconds(1));
        fleet.finish(id);
    }
    fleet.restart();
    fleet.submit(task("last")).unwrap();
    let events = fleet.events();
    assert!(events.is_sorted_by_key(|event| event.at));
    assert_eq!(events.len() as u64, fleet.reader().last_seq().unwrap());
}

#[test]
fn what_is_refused_tells_nothing() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    let before = fleet.events().len();
    fleet.submit(task("x")).unwrap_err();
    fleet.complete(done("x")).unwrap_err();
    fleet.try_sync(roll("nobody")).unwrap_err();
    fleet.report(spent("a", "x", 1, 1)).unwrap_err();
    assert_eq!(fleet.events().len(), before);
}
