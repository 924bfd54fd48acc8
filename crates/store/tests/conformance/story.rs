//! A story: what a server leaves after some hours, with tasks in every state, attempts that run, dependencies, locks,
//! limits, jobs from elsewhere, tokens and events.

use std::sync::Arc;

use adjutant_core::access::Role;
use adjutant_core::command::{
    AccessToken, Command, DeliveryOutcome, DeliveryReport, IdempotencyKey, NewWebhook, PolicyChange,
    TaskPatch, UsageEvent,
};
use adjutant_core::event::EventKind;
use adjutant_core::limit::{Limit, ModelQuota, Prices, Scope, Window};
use adjutant_core::money::Money;
use adjutant_core::task::Produces;
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::Store;

use crate::play::{Play, after, by, complete, register, submit, sync, usage};

/// When it begins: in the evening, so that a midnight passes.
pub(crate) fn begin() -> Timestamp {
    "2026-11-24T21:40:00Z".parse().expect("it is a time")
}

/// Plays it on a store, and gives the server that stands at its end.
pub(crate) fn play<S: Store>(store: S) -> Play<S> {
    let mut play = Play::on(store, begin());
    settings(&mut play);
    yesterday(&mut play);
    today(&mut play);
    play
}

fn settings<S: Store>(play: &mut Play<S>) {
    let limit = |window, tokens, jobs| Limit {
        tokens: Some(tokens),
        jobs: Some(jobs),
        ..Limit::none(window)
    };
    let limits = vec![
        limit(Window::Hour, 100_000, 100),
        limit(Window::Day, 500_000, 500),
        limit(Window::Total, 9_000_000, 9_000),
    ];
    play.done(Command::SetPolicy(
        Scope::Fleet,
        PolicyChange::Limits(limits.clone()),
    ));
    let of_agent = Limit {
        concurrent: Some(3),
        ..limit(Window::Day, 400_000, 400)
    };
    play.done(Command::SetPolicy(
        Scope::Agent("ada".into()),
        PolicyChange::Limits(vec![of_agent]),
    ));
    play.done(Command::SetPolicy(
        Scope::Model("model".into()),
        PolicyChange::Model(ModelQuota {
            prices: Prices {
                input: Money::from_nanos(3_000_000_000),
                output: Money::from_nanos(15_000_000_000),
                cached: Money::from_nanos(300_000_000),
            },
            ..ModelQuota::default()
        }),
    ));
    play.done(Command::PutToken(AccessToken {
        name: "admin".into(),
        digest: [1; 32],
        roles: [Role::Admin].into(),
        created_at: begin(),
    }));
    webhook(play);
    play.done(register("ada", 2));
    play.done(register("bob", 1));
}

/// A webhook with a delivery that waits.
fn webhook<S: Store>(play: &mut Play<S>) {
    let (name, session): (Arc<str>, Arc<str>) = ("chat".into(), "server".into());
    play.done(Command::AddWebhook(NewWebhook {
        name: Arc::clone(&name),
        url: "https://chat.example/hook".into(),
        kinds: [EventKind::TaskCompleted, EventKind::QuotaExceeded].into(),
        since: 0,
    }));
    play.done(Command::LeaseWebhook {
        name: Arc::clone(&name),
        session: Arc::clone(&session),
        alone: true,
    });
    play.done(Command::SettleDeliveries(DeliveryReport {
        name,
        session,
        cursor: 1,
        missed: 0,
        outcomes: vec![(
            1,
            DeliveryOutcome::Failed {
                error: "it answered 500".into(),
                retry_after: None,
            },
        )],
    }));
}

fn yesterday<S: Store>(play: &mut Play<S>) {
    for id in ["build", "test"] {
        play.done(submit(id, |task| {
            by(task, "ada");
            task.project = Some("project".into());
            task.repo = Some("owner/name".into());
            task.produces = Some(Produces::PullRequest);
            task.demand.model = Some("model".into());
            task.locks = ["main".into()].into();
            task.estimated_tokens = 1_000;
        }));
        play.done(sync("ada", &[(id, 1)]));
        play.done(usage(id, "ada", UsageEvent::Usage, 800));
        let note = TaskPatch {
            note: Some("half way".into()),
            progress: Some(50),
            ..TaskPatch::default()
        };
        play.done(Command::Patch(id.into(), Box::new(note)));
        play.done(Command::Output {
            id: id.into(),
            attempt: None,
            agent: None,
            text: "a line\n".into(),
        });
        play.done(complete(id, "ada", true));
    }
    // A dead letter: it fails three times, and its tokens come back by half.
    play.done(submit("doomed", |task| {
        by(task, "bob");
        task.max_retries = 3;
    }));
    for _ in 0..3 {
        let agent = holder(play, "doomed");
        play.done(usage("doomed", &agent, UsageEvent::Usage, 500));
        play.done(complete("doomed", &agent, false));
        heartbeats(play, Span::from_secs(300));
    }
    play.done(usage("elsewhere", "ada", UsageEvent::JobStarted, 0));
    play.done(usage("elsewhere", "ada", UsageEvent::Usage, 70));
    play.done(usage("elsewhere", "ada", UsageEvent::JobCompleted, 0));
    play.done(usage("elsewhere-too", "ada", UsageEvent::JobStarted, 10));
    play.done(Command::Reset(Scope::Agent("ada".into())));
    heartbeats(play, Span::from_secs(3 * 3_600));
}

fn today<S: Store>(play: &mut Play<S>) {
    // Depends on what is done, on what failed, on what runs.
    play.done(submit("release", |task| {
        by(task, "ada");
        after(task, &["build", "test"]);
    }));
    play.done(sync("ada", &[("release", 1)]));
    play.done(usage("release", "ada", UsageEvent::Usage, 900));
    play.done(submit("mourns", |task| after(task, &["doomed", "build"])));
    play.done(submit("announce", |task| after(task, &["release"])));
    play.done(submit("celebrate", |task| after(task, &["announce"])));
    play.done(submit("obsolete", |task| {
        by(task, "nobody");
        after(task, &["build"]);
    }));
    play.done(submit("obsolete-too", |task| after(task, &["obsolete"])));
    play.done(Command::Cancel {
        id: "obsolete".into(),
        cascade: true,
    });
    play.done(submit("held", |task| by(task, "nobody")));
    play.done(Command::Hold("held".into()));
    // Two that want one lock, and one that nobody can do.
    play.done(submit("first", |task| {
        by(task, "ada");
        task.locks = ["shared".into()].into();
        task.estimated_tokens = 2_000;
        task.timeout = Some(Span::HOUR);
    }));
    play.done(sync("ada", &[("release", 1), ("first", 1)]));
    play.done(submit("second", |task| {
        task.locks = ["shared".into(), "own".into()].into();
    }));
    play.done(submit("rare", |task| by(task, "nobody")));
    play.done(submit("later", |task| {
        task.not_before = Some(play_time(30));
    }));
    let key = IdempotencyKey {
        token: "admin".into(),
        key: "once".into(),
        digest: [7; 32],
    };
    play.say_with(submit("keyed", |task| by(task, "bob")), Some(key));
    play.done(sync("bob", &[("keyed", 1)]));
    heartbeats(play, Span::from_secs(60));
}

/// A time some hours after the end of the story.
fn play_time(hours: i64) -> Timestamp {
    begin() + Span::HOUR.times(hours)
}

/// Who runs a task.
fn holder<S: Store>(play: &mut Play<S>, id: &str) -> String {
    let mut reader = play.store.reader().expect("a reader is given");
    let task = reader
        .task(&id.into())
        .expect("it is read")
        .expect("it is there")
        .task;
    let agent = task.claimed_by.as_ref().expect("somebody runs it").to_string();
    play.done(sync(&agent, &[(id, task.attempt)]));
    agent
}

/// Time goes by while the agents are heard of and go on with what they run.
pub(crate) fn heartbeats<S: Store>(play: &mut Play<S>, span: Span) {
    let end = play.now + span;
    while play.now < end {
        play.wait(Span::from_secs(20));
        for agent in ["ada", "bob"] {
            let Command::Sync(mut beat) = sync(agent, &[]) else {
                continue;
            };
            beat.running = None;
            play.done(Command::Sync(beat));
        }
    }
}
