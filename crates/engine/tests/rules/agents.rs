//! Agents: liveness, drains, quarantines, pauses for rate limits.

use adjutant_core::agent::AgentStatus::{Available, Draining, Offline};
use adjutant_core::command::{Answer, Command};
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;
use adjutant_core::time::Span;

use crate::harness::*;

use Status::{InProgress, Pending};

fn busy() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet
}

// ---- liveness ----------------------------------------------------------------------------------------------------

#[test]
fn a_silent_agent_is_reaped_after_a_ttl_and_its_attempts_run_elsewhere() {
    let mut fleet = busy();
    fleet.join(agent("b"));
    fleet.sync(heartbeat("a"));
    fleet.silence("a");
    fleet.advance(short_of(seconds(60)));
    assert_eq!((fleet.doing("a"), fleet.status("x")), ("busy", InProgress));
    fleet.advance(A_MOMENT);
    assert_eq!(fleet.doing("a"), "offline");
    assert_eq!(
        fleet.stored("x").details.fail_reason.as_deref(),
        Some("agent lost")
    );
    fleet.advance(seconds(6));
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
}

#[test]
fn heartbeats_keep_an_agent_alive() {
    let mut fleet = busy();
    fleet.advance(minutes(30));
    assert_eq!((fleet.doing("a"), fleet.status("x")), ("busy", InProgress));
}

#[test]
fn a_heartbeat_makes_an_offline_agent_available() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.silence("a");
    fleet.advance(minutes(2));
    fleet.submit(task("x")).unwrap();
    assert_eq!((fleet.doing("a"), fleet.why("x").0), ("offline", "no_agents"));
    fleet.sync(heartbeat("a"));
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn a_lease_is_its_agents_liveness() {
    let mut fleet = busy();
    let expires = fleet.view("x").lease_expires_at;
    assert_eq!(expires, Some(fleet.now + seconds(60)));
    fleet.jump(seconds(10));
    fleet.sync(heartbeat("a"));
    assert_eq!(fleet.view("x").lease_expires_at, Some(fleet.now + seconds(60)));
}

#[test]
fn silence_counts_only_while_the_server_watched() {
    let gaps: [(&str, Act); 2] = [
        ("sleep", |fleet| fleet.jump(minutes(10))),
        ("a restart", |fleet| {
            fleet.jump(minutes(10));
            fleet.restart();
        }),
    ];
    for (name, gap) in gaps {
        let mut fleet = busy();
        fleet.silence("a");
        gap(&mut fleet);
        fleet.tick();
        assert_eq!(fleet.doing("a"), "busy", "{name}: a full ttl again");
        fleet.advance(seconds(59));
        assert_eq!(fleet.status("x"), InProgress, "{name}");
        fleet.advance(seconds(2));
        assert_eq!(
            (fleet.doing("a"), fleet.status("x")),
            ("offline", Pending),
            "{name}"
        );
    }
}

#[test]
fn a_gap_of_a_quarter_ttl_is_no_gap() {
    let mut fleet = busy();
    fleet.sync(heartbeat("a"));
    fleet.silence("a");
    for _ in 0..4 {
        fleet.jump(seconds(15));
        fleet.tick();
    }
    assert_eq!(fleet.doing("a"), "offline");
}

#[test]
fn a_gap_delays_the_end_of_offers_too() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.jump(minutes(10));
    fleet.tick();
    assert_eq!(fleet.status("x"), InProgress, "the agent could not fetch it");
    fleet.advance(seconds(30));
    assert_eq!(fleet.status("x"), Pending);
}

// ---- drain and discovery -----------------------------------------------------------------------------------------

#[test]
fn a_draining_agent_finishes_and_takes_nothing_new() {
    let mut fleet = busy();
    fleet.drain("a");
    fleet.submit(task("y")).unwrap();
    fleet.finish("x");
    assert_eq!((fleet.doing("a"), fleet.status("y")), ("draining", Pending));
    fleet.restart();
    fleet.advance(minutes(1));
    assert_eq!((fleet.doing("a"), fleet.status("y")), ("draining", Pending));
    fleet.undrain("a");
    assert_eq!(fleet.status("y"), InProgress);
}

#[test]
fn agents_are_found_by_state_and_by_all_capabilities() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").with(["go", "sql"]));
    fleet.join(agent("b").with(["go"]));
    fleet.drain("b");
    let mut list = |status, labels: &[&str]| {
        let capabilities = labels.iter().map(|label| (*label).into()).collect();
        match fleet.call(Command::ListAgents { status, capabilities }) {
            Ok(Answer::Agents(agents)) => agents
                .iter()
                .map(|agent| agent.id.to_string())
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(None, &[]), ["a", "b"]);
    assert_eq!(list(None, &["sql", "go"]), ["a"]);
    assert_eq!(list(Some(Available), &["go"]), ["a"]);
    assert_eq!(list(Some(Draining), &[]), ["b"]);
    assert!(list(Some(Offline), &[]).is_empty());
}

// ---- quarantine --------------------------------------------------------------------------------------------------

/// Agent `a` fails this many new tasks, each `after` it took it.
fn fail_tasks<const N: usize>(fleet: &mut Fleet, ids: [&str; N], after: Span) {
    for id in ids {
        fleet.submit(task(id).retries(1)).unwrap();
        fleet.take("a");
        fleet.advance(after);
        fleet.fail(id);
    }
}

#[test]
fn three_fast_failures_of_different_tasks_quarantine_an_agent() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fail_tasks(&mut fleet, ["1", "2"], seconds(59));
    assert_eq!(fleet.doing("a"), "available");
    fail_tasks(&mut fleet, ["3"], seconds(59));
    fleet.submit(task("x")).unwrap();
    assert_eq!((fleet.doing("a"), fleet.status("x")), ("quarantined", Pending));
    assert_eq!(fleet.claim("x", "a").unwrap_err().slug, Slug::AgentQuarantined);
    fleet.restart();
    fleet.advance(short_of(seconds(60)));
    assert_eq!(fleet.doing("a"), "quarantined");
    fleet.advance(A_MOMENT);
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn a_quarantine_doubles_up_to_half_an_hour_until_a_success() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    for length in [1, 2, 4, 8, 16, 30, 30] {
        for round in 0..3 {
            let id = format!("{}-{round}", fleet.now.as_micros());
            fail_tasks(&mut fleet, [id.as_str()], seconds(1));
        }
        assert_eq!(fleet.doing("a"), "quarantined");
        fleet.advance(short_of(minutes(length)));
        assert_eq!(fleet.doing("a"), "quarantined", "for {length} minutes");
        fleet.advance(A_MOMENT);
        assert_eq!(fleet.doing("a"), "available", "after {length} minutes");
    }
    fleet.submit(task("good")).unwrap();
    fleet.take("a");
    fleet.finish("good");
    fail_tasks(&mut fleet, ["1", "2", "3"], seconds(1));
    fleet.advance(minutes(1));
    assert_eq!(fleet.doing("a"), "available", "back to normal after a success");
}

#[test]
fn what_breaks_a_row_of_fast_failures() {
    let breaks: [(&str, Act); 2] = [
        ("a success", |fleet| {
            fleet.submit(task("good")).unwrap();
            fleet.finish("good");
        }),
        ("a slow failure", |fleet| fail_tasks(fleet, ["slow"], seconds(60))),
    ];
    for (name, between) in breaks {
        let mut fleet = Fleet::new();
        fleet.join(agent("a"));
        fail_tasks(&mut fleet, ["1", "2"], seconds(1));
        between(&mut fleet);
        fail_tasks(&mut fleet, ["3", "4"], seconds(1));
        assert_eq!(fleet.doing("a"), "available", "{name}");
        fail_tasks(&mut fleet, ["5"], seconds(1));
        assert_eq!(fleet.doing("a"), "quarantined", "{name}");
    }
}

#[test]
fn losses_rate_limits_and_one_task_over_and_over_do_not_quarantine() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    for id in ["1", "2", "3"] {
        fleet.submit(task(id).retries(1)).unwrap();
        fleet.take("a");
        fleet.sync(roll("a"));
        assert_eq!(fleet.status(id), Status::Failed);
    }
    assert_eq!(fleet.doing("a"), "available", "losses");
    fleet.submit(task("same").retries(5)).unwrap();
    for _ in 0..5 {
        fleet.take("a");
        fleet.fail("same");
        fleet.advance(minutes(2));
    }
    assert_eq!(fleet.doing("a"), "available", "one task");
    for id in ["4", "5", "6"] {
        fleet.submit(task(id)).unwrap();
        let until = fleet.now + seconds(5);
        fleet.complete(failed(id).rate_limited(until)).unwrap();
        fleet.cancel(id).unwrap();
        fleet.advance(seconds(5));
    }
    assert_eq!(fleet.doing("a"), "available", "rate limits");
}

#[test]
fn an_operator_can_lift_a_quarantine() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fail_tasks(&mut fleet, ["1", "2", "3"], seconds(1));
    fleet.submit(task("x")).unwrap();
    fleet.lift("a");
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

// ---- rate limits -------------------------------------------------------------------------------------------------

#[test]
fn a_rate_limit_is_no_failure_and_pauses_the_agent() {
    let mut fleet = busy();
    let until = fleet.now + minutes(10);
    fleet
        .complete(failed("x").attempt(1).rate_limited(until))
        .unwrap();
    let task = fleet.stored("x").task;
    assert_eq!(
        (task.status, task.retry_count, fleet.agent("a").paused_until),
        (Pending, 0, Some(until))
    );
    assert_eq!(fleet.claim("x", "a").unwrap_err().slug, Slug::AgentPaused);
    fleet.restart();
    fleet.advance(short_of(minutes(10)));
    assert_eq!(fleet.status("x"), Pending);
    fleet.advance(A_MOMENT);
    assert_eq!(
        (fleet.holder("x").as_deref(), fleet.agent("a").paused_until),
        (Some("a"), None)
    );
}

#[test]
fn a_rate_limited_task_goes_on_with_another_agent_at_once() {
    let mut fleet = busy();
    fleet.join(agent("b"));
    let until = fleet.now + minutes(10);
    fleet.complete(failed("x").rate_limited(until)).unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("b"));
}

#[test]
fn a_rate_limit_of_a_model_pauses_only_what_needs_it() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").models(["big", "small"]));
    fleet.submit(task("x").model("big")).unwrap();
    fleet.take("a");
    let until = fleet.now + minutes(10);
    fleet
        .complete(failed("x").model("big").rate_limited(until))
        .unwrap();
    assert_eq!(fleet.status("x"), Pending);
    fleet.submit(task("y").model("small")).unwrap();
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
    fleet.finish("y");
    fleet.submit(task("z")).unwrap();
    assert_eq!(fleet.holder("z").as_deref(), Some("a"), "no model is asked for");
    fleet.finish("z");
    fleet.advance(minutes(10));
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn a_pause_of_its_only_model_pauses_an_agent_for_tasks_without_one() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a").models(["big"]));
    fleet.submit(task("x")).unwrap();
    let until = fleet.now + minutes(10);
    fleet
        .complete(failed("x").model("big").rate_limited(until))
        .unwrap();
    assert_eq!(fleet.status("x"), Pending);
    fleet.advance(minutes(10));
    assert_eq!(fleet.status("x"), InProgress);
}
