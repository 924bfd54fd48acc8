//! Attempts, the jobs that were dispatched elsewhere, and which of them a census brings.

use adjutant_core::attempt::{Attempt, AttemptKey, AttemptState, Hold, Outcome, StopReason};
use adjutant_core::money::Money;
use adjutant_core::task::{Produces, Status, Task, TaskKey};
use adjutant_core::time::Span;

use crate::rows::{at, attempt, attempt_key, full_attempt, key, task, usage};
use crate::subject::Subject;
use crate::write::{Write, write};

for_every_store![
    every_field_of_an_attempt_survives,
    every_state_product_and_reason_survives,
    a_changed_attempt_keeps_every_field_that_was_changed,
    attempts_that_do_not_exist_are_not_given,
    a_census_brings_open_attempts_and_their_tasks,
    what_is_not_stored_of_an_attempt_counts_anew_after_a_crash,
    jobs_from_elsewhere_are_found_by_their_ids,
    the_newest_key_is_that_of_a_task_or_of_a_job,
];

fn given(store: &mut dyn Subject, key: AttemptKey) -> Option<Attempt> {
    let rows = store.load(|wanted| {
        wanted.attempts.insert(key);
    });
    assert!(rows.attempts.len() <= 1, "one attempt was asked for");
    rows.attempts.first().map(|attempt| (**attempt).clone())
}

fn survive(store: &mut dyn Subject, attempts: &[Attempt]) {
    store.now_and_after_a_crash(|store| {
        for attempt in attempts {
            assert_eq!(given(store, attempt.key).as_ref(), Some(attempt));
        }
        let rows =
            store.load(|wanted| wanted.attempts = attempts.iter().map(|attempt| attempt.key).collect());
        assert_eq!(rows.attempts.len(), attempts.len());
        let mut open: Vec<Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.is_live() || attempt.occupies)
            .cloned()
            .collect();
        open.sort_by_key(|attempt| attempt.key);
        let mut counted: Vec<Attempt> = store
            .census()
            .attempts
            .iter()
            .map(|row| (**row).clone())
            .collect();
        counted.sort_by_key(|attempt| attempt.key);
        assert_eq!(counted, open);
    });
}

fn every_field_of_an_attempt_survives(store: &mut dyn Subject) {
    let bare = attempt(attempt_key(1, 1));
    let full = full_attempt(AttemptKey {
        task: TaskKey(i64::MAX),
        number: u32::MAX,
    });
    write().attempt(&bare).attempt(&full).commit(store);
    survive(store, &[bare, full]);
}

fn every_state_product_and_reason_survives(store: &mut dyn Subject) {
    let states = [
        AttemptState::Offered,
        AttemptState::Taken,
        AttemptState::Ended(Outcome::Completed),
        AttemptState::Ended(Outcome::Failed),
        AttemptState::Ended(Outcome::Lost),
        AttemptState::Ended(Outcome::TimedOut),
        AttemptState::Ended(Outcome::Cancelled),
        AttemptState::Ended(Outcome::Released),
    ];
    let stops = [
        None,
        Some(StopReason::Cancelled),
        Some(StopReason::Timeout),
        Some(StopReason::Limit),
        Some(StopReason::Released),
        Some(StopReason::Lost),
        Some(StopReason::Ended),
        Some(StopReason::Unknown),
    ];
    let mut attempts = Vec::new();
    for state in states {
        for stop in stops {
            for produces in [None, Some(Produces::PullRequest), Some(Produces::Issue)] {
                let number = u32::try_from(attempts.len()).expect("they are few");
                attempts.push(Attempt {
                    state,
                    stop,
                    produces,
                    occupies: number.is_multiple_of(2),
                    ..attempt(attempt_key(1, number))
                });
            }
        }
    }
    attempts.iter().fold(write(), Write::attempt).commit(store);
    survive(store, &attempts);
}

fn a_changed_attempt_keeps_every_field_that_was_changed(store: &mut dyn Subject) {
    let bare = attempt(attempt_key(1, 1));
    let full = Attempt {
        registered: true,
        state: AttemptState::Ended(Outcome::Released),
        occupies: true,
        ended_at: Some(at(5)),
        hold: Hold {
            tokens: 7,
            cost: Money::from_nanos(8),
        },
        usage: usage(),
        stop: Some(StopReason::Unknown),
        lingers_until: Some(at(6)),
        ..bare.clone()
    };
    write().attempt(&bare).commit(store);
    write().changed_attempt(&bare, &full).commit(store);
    survive(store, std::slice::from_ref(&full));
    write().changed_attempt(&full, &bare).commit(store);
    survive(store, std::slice::from_ref(&bare));
    #[rustfmt::skip]
    let variants = [
        Attempt { registered: true, ..bare.clone() },
        Attempt { state: AttemptState::Taken, ..bare.clone() },
        Attempt { occupies: true, ..bare.clone() },
        Attempt { ended_at: Some(at(1)), ..bare.clone() },
        Attempt { hold: Hold { tokens: 1, cost: Money::ZERO }, ..bare.clone() },
        Attempt { hold: Hold { tokens: 0, cost: Money::from_nanos(1) }, ..bare.clone() },
        Attempt { usage: usage(), ..bare.clone() },
        Attempt { stop: Some(StopReason::Cancelled), ..bare.clone() },
        Attempt { lingers_until: Some(at(1)), ..bare.clone() },
    ];
    for variant in &variants {
        write().changed_attempt(&bare, variant).commit(store);
        assert_eq!(given(store, bare.key).as_ref(), Some(variant));
        write().changed_attempt(variant, &bare).commit(store);
        assert_eq!(given(store, bare.key).as_ref(), Some(&bare));
    }
}

fn attempts_that_do_not_exist_are_not_given(store: &mut dyn Subject) {
    write().attempt(&attempt(attempt_key(1, 1))).commit(store);
    for absent in [attempt_key(1, 0), attempt_key(1, 2), attempt_key(2, 1)] {
        assert_eq!(given(store, absent), None);
    }
}

fn a_census_brings_open_attempts_and_their_tasks(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let running = |number| Task {
        status: Status::InProgress,
        attempt: 1,
        ..task(number, &class)
    };
    let offered = attempt(attempt_key(1, 1));
    let taken = Attempt {
        state: AttemptState::Taken,
        occupies: true,
        ..attempt(attempt_key(2, 1))
    };
    let occupying = Attempt {
        state: AttemptState::Ended(Outcome::Cancelled),
        occupies: true,
        ..attempt(attempt_key(3, 1))
    };
    let ended = Attempt {
        state: AttemptState::Ended(Outcome::Completed),
        ..attempt(attempt_key(4, 1))
    };
    let elsewhere = Attempt {
        state: AttemptState::Taken,
        external: true,
        ..attempt(attempt_key(5, 1))
    };
    let (first, second) = (running(1), running(2));
    let third = Task {
        status: Status::Cancelled,
        ..task(3, &class)
    };
    let attempts = [offered, taken, occupying, ended, elsewhere];
    let tasks = [first, second, third, task(4, &class)];
    attempts
        .iter()
        .fold(write().tasks(&tasks), Write::attempt)
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let census = store.census();
        let mut open: Vec<i64> = census.attempts.iter().map(|row| row.key.task.0).collect();
        open.sort_unstable();
        assert_eq!(open, [1, 2, 3, 5].map(|number| key(number).0));
        for task in &tasks[..2] {
            assert!(census.tasks.iter().any(|given| **given == *task), "{}", task.id);
        }
    });
}

/// Where servers share a store they have to see it: see [`crate::sharing`].
fn what_is_not_stored_of_an_attempt_counts_anew_after_a_crash(store: &mut dyn Subject) {
    if store.store().is_shared() {
        return;
    }
    let stored = Attempt {
        stop: Some(StopReason::Limit),
        timeout: Some(Span::HOUR),
        ..attempt(attempt_key(1, 1))
    };
    let told = Attempt {
        delivered_at: Some(at(1)),
        stop_told: true,
        ..stored.clone()
    };
    write().attempt(&told).commit(store);
    store.reopen();
    assert_eq!(given(store, stored.key).as_ref(), Some(&stored));
    assert_eq!(*store.census().attempts[0], stored);
}

fn jobs_from_elsewhere_are_found_by_their_ids(store: &mut dyn Subject) {
    let (first, second) = (attempt_key(1, 1), attempt_key(2, u32::MAX));
    write().job("job-1", first).job("Job-1", second).commit(store);
    store.now_and_after_a_crash(|store| {
        let mut rows =
            store.load(|wanted| wanted.jobs = ["job-1".into(), "Job-1".into(), "job-2".into()].into());
        rows.jobs.sort();
        assert_eq!(rows.jobs, [("Job-1".into(), second), ("job-1".into(), first)]);
    });
}

fn the_newest_key_is_that_of_a_task_or_of_a_job(store: &mut dyn Subject) {
    let class = store.class(&[]);
    assert_eq!(store.census().newest, Some(TaskKey(0)));
    write()
        .task(&task(2, &class))
        .task(&task(1, &class))
        .commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(store.census().newest, Some(key(2))));
    let job = Attempt {
        external: true,
        state: AttemptState::Ended(Outcome::Completed),
        ..attempt(attempt_key(3, 1))
    };
    write().attempt(&job).commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(store.census().newest, Some(key(3))));
    write().task(&task(4, &class)).commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(store.census().newest, Some(key(4))));
}
