//! Periods: UTC hours and days, midnight, resets.

use adjutant_core::limit::{ModelQuota, RepoLimits, Window};
use adjutant_core::task::{Produces, Status};
use adjutant_core::time::Span;

use crate::harness::*;

use Status::{InProgress, Pending};

#[test]
fn midnight_wakes_what_waits_for_the_day() {
    let table: [(&str, Act); 5] = [
        ("agent", |f| f.limit("agent:a", [jobs(daily(), 1)])),
        ("model", |f| {
            f.model(
                "m",
                ModelQuota {
                    daily_token_budget: 10,
                    ..ModelQuota::default()
                },
            );
        }),
        ("repo", |f| {
            f.repo(
                "o/r",
                RepoLimits {
                    max_daily_prs: 1,
                    ..RepoLimits::default()
                },
            );
        }),
        ("project", |f| f.limit("project:p", [tokens(daily(), 10)])),
        ("fleet", |f| f.limit("fleet", [jobs(daily(), 1)])),
    ];
    for (name, prepare) in table {
        let mut fleet = Fleet::new();
        prepare(&mut fleet);
        fleet.join(agent("a"));
        let draft = |id| {
            task(id)
                .model("m")
                .repo("o/r")
                .project("p")
                .produces(Produces::PullRequest)
        };
        fleet.submit(draft("x")).unwrap();
        fleet.complete(done("x").tokens(10, 0)).unwrap();
        fleet.submit(draft("y")).unwrap();
        fleet.restart();
        fleet.advance_to(fleet.midnight() - A_MOMENT);
        assert_eq!(fleet.status("y"), Pending, "{name}");
        fleet.advance(A_MOMENT);
        assert_eq!(fleet.status("y"), InProgress, "{name}");
    }
}

#[test]
fn the_hour_wakes_what_waits_for_it() {
    // I3
    let mut fleet = Fleet::new();
    fleet.model(
        "m",
        ModelQuota {
            hourly_rate_limit: 1,
            ..ModelQuota::default()
        },
    );
    fleet.join(agent("a"));
    for id in ["x", "y", "z"] {
        fleet.submit(task(id).model("m")).unwrap();
    }
    fleet.finish("x");
    assert_eq!(
        fleet.why("y"),
        ("model_quota", "model hourly rate limit reached for: m".into())
    );
    fleet.advance_to(fleet.next_hour());
    assert_eq!(fleet.statuses(["y", "z"]), [InProgress, Pending]);
    fleet.finish("y");
    fleet.advance_to(fleet.next_hour());
    assert_eq!(fleet.status("z"), InProgress);
}

#[test]
fn a_server_that_slept_through_midnight_wakes_what_waits() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [jobs(daily(), 1)]);
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.finish("x");
    fleet.submit(task("y")).unwrap();
    fleet.jump(Span::DAY);
    fleet.sync(heartbeat("a"));
    fleet.tick();
    assert_eq!(fleet.status("y"), InProgress);
}

#[test]
fn a_refund_goes_to_the_period_of_its_charge() {
    // I9
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x").retries(1)).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    fleet.advance_to(fleet.next_hour());
    fleet.report(spent("a", "x", 10, 0)).unwrap();
    fleet.fail("x");
    let (counter, now) = (fleet.counter("agent:a"), fleet.now);
    let tokens = Window::ALL.map(|window| counter.window(window, now).tokens);
    assert_eq!(tokens, [5, 55, 55]);
}

#[test]
fn a_refund_after_midnight_changes_only_the_total() {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    fleet.advance_to(fleet.midnight());
    assert_eq!(fleet.tokens("agent:a"), 0);
    fleet.report(spent("a", "x", 8, 0)).unwrap();
    fleet.cancel("x").unwrap();
    let (counter, now) = (fleet.counter("agent:a"), fleet.now);
    assert_eq!(
        Window::ALL.map(|window| counter.window(window, now).tokens),
        [0, 0, 0]
    );
    assert_eq!(fleet.jobs("agent:a"), 0, "it started yesterday");
    assert_eq!(counter.total.jobs, 1);
}

#[test]
fn holds_and_slots_belong_to_no_period() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [concurrent(daily(), 1)]);
    fleet.join(agent("a").load(2));
    fleet.submit(task("x").estimate(50)).unwrap();
    fleet.take("a");
    fleet.submit(task("y")).unwrap();
    fleet.advance_to(fleet.midnight());
    let counter = fleet.counter("agent:a");
    assert_eq!(
        (counter.held_tokens, counter.active, fleet.status("y")),
        (50, 1, Pending)
    );
    fleet.reset("agent:a");
    let counter = fleet.counter("agent:a");
    assert_eq!(
        (counter.held_tokens, counter.active, fleet.status("y")),
        (50, 1, Pending)
    );
}

#[test]
fn a_reset_starts_anew_and_wakes_what_waits() {
    for (scope, draft) in [
        ("agent:a", task("y")),
        ("fleet", task("y")),
        ("project:p", task("y").project("p")),
    ] {
        let mut fleet = Fleet::new();
        fleet.limit(scope, [tokens(ever(), 100)]);
        fleet.join(agent("a"));
        fleet.submit(task("x").project("p")).unwrap();
        fleet.complete(done("x").tokens(100, 0)).unwrap();
        fleet.submit(draft).unwrap();
        assert_eq!(fleet.status("y"), Pending, "{scope}");
        fleet.reset(scope);
        assert_eq!(
            (fleet.status("y"), fleet.tokens(scope)),
            (InProgress, 0),
            "{scope}"
        );
    }
}

#[test]
fn a_refund_of_a_charge_before_a_reset_gives_nothing_to_the_new_period() {
    // I9
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.submit(task("x")).unwrap();
    fleet.take("a");
    fleet.report(spent("a", "x", 100, 0)).unwrap();
    fleet.reset("agent:a");
    fleet.report(spent("a", "x", 10, 0)).unwrap();
    fleet.cancel("x").unwrap();
    assert_eq!((fleet.tokens("agent:a"), fleet.tokens("fleet")), (0, 0));
    assert_eq!(fleet.count("quota_reset"), 1);
}

#[test]
fn a_reset_ends_a_cooldown() {
    let mut fleet = Fleet::new();
    fleet.repo(
        "o/r",
        RepoLimits {
            cooldown_after_failure: minutes(10),
            ..RepoLimits::default()
        },
    );
    fleet.join(agent("a"));
    fleet.submit(task("x").repo("o/r").retries(1)).unwrap();
    fleet.fail("x");
    fleet.submit(task("y").repo("o/r")).unwrap();
    fleet.reset("repo:o/r");
    assert_eq!(fleet.status("y"), InProgress);
}

#[test]
fn a_clock_that_was_set_back_while_nobody_ran_brings_no_period_twice() {
    // I3, I9
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [jobs(hourly(), 1)]);
    fleet.join(agent("a").load(2));
    let next = fleet.next_hour();
    fleet.advance_to(next);
    fleet.submit(task("first")).unwrap();
    fleet.now = fleet.now - Span::HOUR;
    fleet.restart();
    fleet.submit(task("second")).unwrap();
    assert_eq!(fleet.statuses(["first", "second"]), [InProgress, Pending]);
    assert_eq!(fleet.jobs("agent:a"), 1);
}
