//! Plain clients: claims by ids, registered or not, and the leases of those that are not.

use adjutant_core::limit::Allowance;
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;
use adjutant_core::time::Span;

use crate::harness::*;

use Status::{Completed, InProgress, Pending};

#[test]
fn anybody_may_claim_and_complete() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x").labels(["go"])).unwrap();
    let claimed = fleet.claim("x", "stranger").unwrap();
    assert_eq!((claimed.task.status, claimed.task.attempt), (InProgress, 1));
    assert_eq!(claimed.task.claimed_by, Some("stranger".into()));
    assert_eq!(
        fleet.claim("x", "other").unwrap_err().slug,
        Slug::TaskAlreadyClaimed
    );
    assert_eq!(
        fleet.claim("x", "stranger").unwrap_err().slug,
        Slug::TaskAlreadyClaimed
    );
    fleet.complete(done("x").agent("stranger")).unwrap();
    assert_eq!(fleet.status("x"), Completed);
}

#[test]
fn a_claim_holds_a_lease_of_a_day() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    let claimed = fleet.claim("x", "stranger").unwrap();
    assert_eq!(claimed.lease_expires_at, Some(fleet.now + Span::DAY));
    fleet.restart();
    fleet.advance(short_of(Span::DAY));
    assert_eq!(fleet.status("x"), InProgress);
    fleet.advance(A_MOMENT);
    let task = fleet.stored("x").task;
    assert_eq!((task.status, task.retry_count), (Pending, 1));
    fleet.complete(done("x").attempt(1)).unwrap();
    assert_eq!(fleet.status("x"), Completed, "accepted late");
}

#[test]
fn a_patch_renews_the_lease_of_a_claim() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "stranger").unwrap();
    fleet.advance(Span::HOUR);
    let renewed = fleet.patch("x", change().progress(10)).unwrap();
    assert_eq!(renewed.lease_expires_at, Some(fleet.now + Span::DAY));
}

#[test]
fn a_claim_of_a_task_with_a_timeout_holds_no_longer_than_that() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x").timeout(600)).unwrap();
    let claimed = fleet.claim("x", "stranger").unwrap();
    assert_eq!(claimed.lease_expires_at, Some(fleet.now + minutes(10)));
    fleet.advance(minutes(10));
    assert_eq!(fleet.status("x"), Pending);
}

#[test]
fn a_cancelled_claim_keeps_its_locks_until_its_lease_ends() {
    // I1
    let mut fleet = Fleet::new();
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.claim("x", "stranger").unwrap();
    fleet.cancel("x").unwrap();
    fleet.join(agent("a"));
    fleet.submit(task("y").locks(["main"])).unwrap();
    fleet.restart();
    fleet.advance(short_of(Span::DAY));
    assert_eq!(fleet.why("y").0, "locked");
    fleet.advance(A_MOMENT);
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
}

#[test]
fn the_locks_of_a_cancelled_claim_end_though_the_server_slept() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x").locks(["main"])).unwrap();
    fleet.claim("x", "stranger").unwrap();
    fleet.cancel("x").unwrap();
    fleet.join(agent("a"));
    fleet.submit(task("y").locks(["main"])).unwrap();
    fleet.jump(Span::DAY);
    // Somebody asks before the server has looked at its clock.
    fleet.sync(heartbeat("a"));
    fleet.tick();
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
}

#[test]
fn a_claim_passes_the_checks_of_a_dispatch() {
    let table: [(&str, Act, Slug); 8] = [
        (
            "label",
            |fleet| drop(fleet.join(agent("a"))),
            Slug::MissingCapability,
        ),
        (
            "model",
            |fleet| drop(fleet.join(agent("a").with(["go"]).models(["other"]))),
            Slug::MissingCapability,
        ),
        (
            "room",
            |fleet| {
                fleet.join(agent("a").with(["go"]));
                fleet.submit(task("y")).unwrap();
            },
            Slug::AgentFull,
        ),
        (
            "offline",
            |fleet| {
                fleet.join(agent("a").with(["go"]));
                fleet.silence("a");
                fleet.advance(minutes(2));
            },
            Slug::AgentOffline,
        ),
        (
            "draining",
            |fleet| {
                fleet.join(agent("a").with(["go"]));
                fleet.drain("a");
            },
            Slug::AgentDraining,
        ),
        (
            "allowlist",
            |fleet| {
                fleet.allow(
                    "a",
                    Allowance {
                        model_allowlist: vec!["other".into()],
                        ..Allowance::default()
                    },
                );
            },
            Slug::ExceedsAllowance,
        ),
        (
            "limit of an id that is not registered",
            |fleet| fleet.exhaust("agent:a"),
            Slug::QuotaExceeded,
        ),
        (
            "limit that is used",
            |fleet| {
                fleet.limit("agent:a", [jobs(daily(), 1)]);
                fleet.submit(task("y")).unwrap();
                fleet.claim("y", "a").unwrap();
            },
            Slug::QuotaExceeded,
        ),
    ];
    for (name, prepare, slug) in table {
        let mut fleet = Fleet::new();
        fleet.submit(task("x").labels(["go"]).model("big")).unwrap();
        fleet.hold("x").unwrap();
        prepare(&mut fleet);
        fleet.unhold("x").unwrap();
        assert_eq!(fleet.claim("x", "a").unwrap_err().slug, slug, "{name}");
        assert_eq!(fleet.status("x"), Pending, "{name}");
    }
}

#[test]
fn what_an_id_claimed_before_it_registered_counts_in_its_load() {
    // I2
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    fleet.join(agent("a"));
    fleet.submit(task("y")).unwrap();
    assert_eq!((fleet.agent("a").load(), fleet.status("y")), (1, Pending));
    fleet.sync(roll("a").running([("x", 1)]));
    fleet.finish("x");
    assert_eq!(fleet.holder("y").as_deref(), Some("a"));
}

#[test]
fn a_refused_claim_says_when_waiting_helps() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [jobs(daily(), 1)]);
    for id in ["x", "y"] {
        fleet.submit(task(id)).unwrap();
    }
    fleet.claim("x", "a").unwrap();
    let refusal = fleet.claim("y", "a").unwrap_err();
    assert_eq!(
        (refusal.slug.code(), refusal.message.as_str()),
        (429, "daily job limit exceeded")
    );
    assert_eq!(refusal.retry_after, Some(fleet.midnight().since(fleet.now)));
}

#[test]
fn a_claim_that_is_larger_than_the_whole_limit_is_refused_for_good() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [tokens(daily(), 100)]);
    fleet.submit(task("x").estimate(101)).unwrap();
    let refusal = fleet.claim("x", "a").unwrap_err();
    assert_eq!((refusal.slug, refusal.slug.code()), (Slug::ExceedsAllowance, 422));
    assert_eq!(refusal.retry_after, None);
}
