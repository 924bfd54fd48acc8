//! Jobs that were dispatched elsewhere: only their account is kept here.

use adjutant_core::command::UsageEvent;
use adjutant_core::limit::Allowance;
use adjutant_core::rejection::Slug;
use adjutant_core::time::Span;

use crate::harness::*;

use UsageEvent::{JobCancelled, JobCompleted, JobFailed, JobStarted};

#[test]
fn a_job_takes_a_slot_and_gives_it_back() {
    let table = [(JobCompleted, 101), (JobFailed, 51), (JobCancelled, 0)];
    for (end, tokens) in table {
        let mut fleet = Fleet::new();
        fleet
            .report(spent("a", "job", 0, 0).model("m").event(JobStarted))
            .unwrap();
        fleet
            .report(spent("a", "job", 0, 0).model("m").event(JobStarted))
            .unwrap();
        let counter = fleet.counter("agent:a");
        assert_eq!((counter.active, counter.day.jobs), (1, 1), "started once");
        fleet.report(spent("a", "job", 100, 1).model("m")).unwrap();
        fleet.report(spent("a", "job", 0, 0).event(end)).unwrap();
        fleet.report(spent("a", "job", 0, 0).event(end)).unwrap();
        let counter = fleet.counter("agent:a");
        assert_eq!(
            (counter.active, counter.day.tokens, counter.day.jobs),
            (0, tokens, 1),
            "{end:?}"
        );
        assert_eq!(fleet.tokens("model:m"), tokens, "{end:?}");
    }
}

#[test]
fn the_slot_of_a_job_ends_by_itself() {
    for (allowance, span) in [
        (Allowance::default(), Span::DAY),
        (
            Allowance {
                max_job_duration: Span::HOUR,
                ..Allowance::default()
            },
            Span::HOUR,
        ),
    ] {
        let mut fleet = Fleet::new();
        fleet.allow("a", allowance);
        fleet.report(spent("a", "job", 0, 0).event(JobStarted)).unwrap();
        fleet.restart();
        fleet.advance(short_of(span));
        assert_eq!(fleet.counter("agent:a").active, 1);
        fleet.advance(A_MOMENT);
        assert_eq!(fleet.counter("agent:a").active, 0, "after {span}");
    }
}

#[test]
fn the_slot_of_a_job_ends_though_the_server_slept() {
    let mut fleet = Fleet::new();
    fleet.join(agent("b"));
    fleet.report(spent("a", "job", 0, 0).event(JobStarted)).unwrap();
    fleet.jump(Span::DAY);
    fleet.sync(heartbeat("b"));
    fleet.tick();
    assert_eq!(fleet.counter("agent:a").active, 0);
}

#[test]
fn a_job_counts_for_the_limits_of_its_agent() {
    let mut fleet = Fleet::new();
    fleet.limit("agent:a", [concurrent(daily(), 1)]);
    fleet.join(agent("a").load(5));
    fleet.report(spent("a", "job", 0, 0).event(JobStarted)).unwrap();
    fleet.submit(task("x")).unwrap();
    assert_eq!(fleet.why("x").0, "quota");
    fleet.report(spent("a", "job", 0, 0).event(JobCompleted)).unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("a"));
}

#[test]
fn usage_of_a_job_that_never_started_is_booked_without_a_slot() {
    let mut fleet = Fleet::new();
    fleet.report(spent("a", "job", 10, 5)).unwrap();
    fleet.report(spent("a", "job", 10, 5)).unwrap();
    let counter = fleet.counter("agent:a");
    assert_eq!((counter.active, counter.day.jobs, counter.day.tokens), (0, 0, 30));
}

#[test]
fn a_job_that_starts_again_is_a_new_account() {
    let mut fleet = Fleet::new();
    for _ in 0..2 {
        fleet.report(spent("a", "job", 0, 0).event(JobStarted)).unwrap();
        fleet.report(spent("a", "job", 10, 0).event(JobFailed)).unwrap();
    }
    assert_eq!((fleet.jobs("agent:a"), fleet.tokens("agent:a")), (2, 10));
}

#[test]
fn tasks_keep_their_account_themselves() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    for event in [JobStarted, JobCompleted, JobFailed, JobCancelled] {
        let refusal = fleet.report(spent("a", "x", 1, 1).event(event)).unwrap_err();
        assert_eq!((refusal.slug, refusal.slug.code()), (Slug::JobIsTask, 409));
    }
    assert_eq!(fleet.tokens("agent:a"), 0);
}

#[test]
fn the_end_of_an_unknown_job_and_a_word_by_another_agent_are_refused() {
    let mut fleet = Fleet::new();
    assert!(fleet.report(spent("a", "job", 0, 0).event(JobFailed)).is_err());
    fleet.report(spent("a", "job", 0, 0).event(JobStarted)).unwrap();
    assert_eq!(
        fleet
            .report(spent("b", "job", 0, 0).event(JobFailed))
            .unwrap_err()
            .slug,
        Slug::NotHolder
    );
}

#[test]
fn what_was_forgotten_is_not_booked_again() {
    // I9: what was spent is in the archive; a report of totals that comes late would book it once more.
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    fleet.report(spent("a", "elsewhere", 100, 0).total()).unwrap();
    fleet.jump(Span::DAY.times(3));
    fleet.tick();
    assert_eq!(fleet.forget().jobs, 1);
    let late = fleet.report(spent("a", "elsewhere", 150, 0).total());
    assert_eq!(late.unwrap_err().slug, Slug::StaleAttempt);
    // An attempt has a number, a job from elsewhere has none: this one is of a task that was forgotten.
    let late = fleet.report(spent("a", "gone", 20, 0).attempt(1).total());
    assert_eq!(late.unwrap_err().slug, Slug::TaskNotFound);
    assert_eq!(fleet.tokens("agent:a"), 0);
}
