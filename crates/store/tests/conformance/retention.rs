//! Retention: what is over and not kept goes whole, in batches; what is live or needed stays.

use std::sync::Arc;

use adjutant_core::attempt::{Attempt, AttemptKey, AttemptState, Outcome};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::Scope;
use adjutant_core::retention::{LEAST_FINISHED, Retention};
use adjutant_core::set::rows::{Ending, NewEvent};
use adjutant_core::task::{Class, DependencyState, Fanout, Note, Status, Task, TaskKey, TaskResult};
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::{Forgotten, MAX_FORGOTTEN_EVENTS, MAX_FORGOTTEN_TASKS};

use crate::rows::{at, attempt, attempt_key, event, key, task};
use crate::subject::Subject;
use crate::write::{Write, write};

for_every_store![
    what_ended_longer_ago_than_it_is_kept_goes_whole,
    with_nothing_set_everything_is_kept,
    of_too_many_the_oldest_go_and_none_that_is_young,
    what_is_live_or_still_to_be_told_stays,
    a_task_stays_while_an_attempt_of_it_is_needed,
    a_task_stays_while_something_that_is_not_over_needs_it,
    a_failed_dependency_stays_as_long_as_its_dependent,
    a_task_that_very_many_needed_goes_in_the_end,
    jobs_from_elsewhere_go_a_day_after_their_end,
    an_id_is_free_again,
    more_than_a_batch_goes_in_several,
    events_go_from_the_first_on_and_the_last_one_stays,
    events_that_are_kept_keep_their_numbers,
];

const MONTH: Retention = Retention {
    finished_age: Some(Span::from_secs(30 * 86_400)),
    finished_count: None,
    event_age: None,
    event_count: None,
};

fn keep(count: u64) -> Retention {
    Retention {
        finished_count: Some(count),
        ..Retention::default()
    }
}

/// So many days after the tasks of the test.
fn days(days: i64) -> Timestamp {
    at(0) + Span::DAY.times(days)
}

fn over(number: i64, class: &Arc<Class>, ended: Timestamp) -> Task {
    Task {
        status: Status::Completed,
        attempt: 1,
        notes: 1,
        has_result: true,
        updated_at: ended,
        ..task(number, class)
    }
}

fn ended(key: AttemptKey, at: Timestamp) -> Attempt {
    Attempt {
        state: AttemptState::Ended(Outcome::Completed),
        ended_at: Some(at),
        ..attempt(key)
    }
}

fn account(key: AttemptKey, hour: Timestamp) -> Account {
    let mut line = Line::new(Scope::Fleet, hour.hour(), 0, None);
    line.jobs = 1;
    Account {
        attempt: key,
        lines: vec![line],
    }
}

/// A task that is over, with a row of every kind that a task can have.
fn whole(write: Write, task: &Task) -> Write {
    let key = AttemptKey {
        task: task.key,
        number: 1,
    };
    write
        .task(task)
        .attempt(&ended(key, task.updated_at))
        .account(None, &account(key, task.updated_at))
        .output(task.key, "a line")
        .note(
            task.key,
            Note {
                at: task.updated_at,
                author: "admin".into(),
                text: "a note".into(),
            },
        )
        .ending(Ending {
            task: task.key,
            result: Some(TaskResult::default()),
            fail_reason: None,
        })
}

/// Forgets one batch.
fn batch(store: &mut dyn Subject, retention: &Retention, now: Timestamp) -> Forgotten {
    let forgotten = store.store().forget(retention, now).expect("it is forgotten");
    store.pass_on();
    assert_eq!(forgotten.by_status.iter().sum::<u64>(), forgotten.tasks);
    forgotten
}

/// Forgets until there is no more; gives the number of tasks.
fn forget(store: &mut dyn Subject, retention: &Retention, now: Timestamp) -> u64 {
    let mut tasks = 0;
    for _ in 0..1_000 {
        let forgotten = batch(store, retention, now);
        tasks += forgotten.tasks;
        if !forgotten.more {
            return tasks;
        }
    }
    panic!("there is always more");
}

/// Which of the first tasks are there, now and after a crash.
fn there(store: &mut dyn Subject, expected: &[i64]) {
    store.now_and_after_a_crash(|store| {
        let found: Vec<i64> = (0..20)
            .filter(|number| store.task(key(*number)).is_some())
            .collect();
        assert_eq!(found, expected);
    });
}

fn what_ended_longer_ago_than_it_is_kept_goes_whole(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let (old, young) = (over(1, &class, days(1)), over(2, &class, days(10)));
    whole(whole(write(), &old), &young).commit(store);
    assert_eq!(forget(store, &MONTH, days(30)), 0);
    assert_eq!(forget(store, &MONTH, days(32)), 1);
    there(store, &[2]);
    store.now_and_after_a_crash(|store| {
        assert!(store.read(&old.id).is_none());
        let mut reader = store.reader();
        assert_eq!(reader.output(old.key).expect("it is read"), "");
        assert_eq!(reader.counts().expect("they are counted"), [0, 0, 0, 1, 0, 0]);
        let gone = attempt_key(1, 1);
        let rows = store.load(|wanted| {
            wanted.attempts = [gone].into();
            wanted.accounts = [gone].into();
        });
        assert!(rows.attempts.is_empty());
        assert!(rows.accounts.iter().all(|account| account.lines.is_empty()));
        // The other one is untouched.
        let stored = store.read(&young.id).expect("it is there");
        assert_eq!((*stored.task).clone(), young);
        assert_eq!(stored.details.notes.len(), 1);
        assert!(stored.details.result.is_some());
    });
}

fn with_nothing_set_everything_is_kept(store: &mut dyn Subject) {
    let class = store.class(&[]);
    whole(write(), &over(1, &class, days(0)))
        .event(event(1))
        .event(event(2))
        .commit(store);
    let forgotten = batch(store, &Retention::default(), days(9_999));
    assert_eq!(forgotten, Forgotten::default());
    there(store, &[1]);
}

fn of_too_many_the_oldest_go_and_none_that_is_young(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let tasks: Vec<Task> = (1..=6).map(|number| over(number, &class, days(1))).collect();
    let young = over(7, &class, days(9));
    let pending = task(8, &class);
    tasks
        .iter()
        .chain([&young])
        .fold(write(), whole)
        .task(&pending)
        .commit(store);
    assert_eq!(forget(store, &keep(7), days(10)), 0);
    assert_eq!(forget(store, &keep(4), days(10)), 3);
    there(store, &[4, 5, 6, 7, 8]);
    // One more ends, and one is started afresh: the number follows.
    let done = Task {
        status: Status::Cancelled,
        updated_at: days(9),
        ..pending.clone()
    };
    write().changed_task(&pending, &done).commit(store);
    assert_eq!(forget(store, &keep(4), days(10)), 1);
    let afresh = Task {
        status: Status::Pending,
        ..done.clone()
    };
    write().changed_task(&done, &afresh).commit(store);
    assert_eq!(forget(store, &keep(3), days(10)), 0);
    there(store, &[5, 6, 7, 8]);
    // What is young stays, however few are to be kept.
    assert_eq!(forget(store, &keep(1), days(9) + LEAST_FINISHED), 2);
    there(store, &[7, 8]);
}

fn what_is_live_or_still_to_be_told_stays(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let of = |number, status| Task {
        status,
        ..over(number, &class, days(0))
    };
    let untold = Task {
        fanout: Some(Fanout {
            after: TaskKey(0),
            cascade: false,
        }),
        ..over(4, &class, days(0))
    };
    let live = [
        of(1, Status::Pending),
        of(2, Status::Blocked),
        of(3, Status::InProgress),
        untold,
    ];
    let over = [
        of(5, Status::Completed),
        of(6, Status::Failed),
        of(7, Status::Cancelled),
    ];
    live.iter().chain(&over).fold(write(), whole).commit(store);
    assert_eq!(forget(store, &MONTH, days(99)), 3);
    assert_eq!(forget(store, &keep(1), days(99)), 0);
    there(store, &[1, 2, 3, 4]);
}

fn a_task_stays_while_an_attempt_of_it_is_needed(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let tasks: Vec<Task> = (1..=4)
        .map(|number| Task {
            status: Status::Cancelled,
            ..over(number, &class, days(0))
        })
        .collect();
    // It may still run; it can be reported on; what it used counts today.
    let occupies = Attempt {
        occupies: true,
        ..ended(attempt_key(1, 1), days(0))
    };
    tasks
        .iter()
        .fold(write(), Write::task)
        .attempt(&occupies)
        .attempt(&ended(attempt_key(2, 1), days(98)))
        .attempt(&ended(attempt_key(3, 1), days(0)))
        .account(None, &account(attempt_key(3, 1), days(99)))
        .attempt(&ended(attempt_key(4, 1), days(0)))
        .account(None, &account(attempt_key(4, 1), days(98)))
        .commit(store);
    assert_eq!(forget(store, &MONTH, days(99)), 1);
    there(store, &[1, 2, 3]);
    assert_eq!(forget(store, &MONTH, days(199)), 2);
    there(store, &[1]);
}

fn a_task_stays_while_something_that_is_not_over_needs_it(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let depended = |number| Task {
        dependents: 1,
        ..over(number, &class, days(0))
    };
    let waits = |number, status| Task {
        status,
        dependencies: 1,
        ..task(number, &class)
    };
    write()
        .tasks(&[depended(1), depended(2), depended(3)])
        .tasks(&[
            waits(11, Status::InProgress),
            waits(12, Status::Blocked),
            waits(13, Status::Completed),
        ])
        .edge((key(1), key(11)), None, DependencyState::Met)
        .edge((key(2), key(12)), None, DependencyState::Met)
        .edge((key(3), key(13)), None, DependencyState::Met)
        .commit(store);
    // The dependent of the third is over, though it is too young to go itself.
    let after = Task {
        updated_at: days(98),
        ..waits(13, Status::Completed)
    };
    write()
        .changed_task(&waits(13, Status::Completed), &after)
        .commit(store);
    assert_eq!(forget(store, &MONTH, days(99)), 1);
    there(store, &[1, 2, 11, 12, 13]);
    store.now_and_after_a_crash(|store| {
        let rows = store.load(|wanted| {
            wanted.dependents = [1, 2, 3].map(|number| (key(number), TaskKey(0))).into();
        });
        let edges: Vec<usize> = rows.dependents.iter().map(|page| page.list.len()).collect();
        assert_eq!(edges, [1, 1, 0]);
    });
}

fn a_failed_dependency_stays_as_long_as_its_dependent(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let failed = Task {
        status: Status::Failed,
        dependents: 1,
        ..over(1, &class, days(0))
    };
    let cancelled = |ended| Task {
        status: Status::Cancelled,
        dependencies: 1,
        unmet: 1,
        failed_dependencies: 1,
        updated_at: ended,
        ..task(2, &class)
    };
    let body = adjutant_core::task::Body {
        dependencies: vec![failed.id.clone()],
        ..Default::default()
    };
    write()
        .task(&failed)
        .task_with(&cancelled(days(90)), body)
        .edge((key(1), key(2)), None, DependencyState::Failed)
        .commit(store);
    // A retry of the dependent waits for it.
    assert_eq!(forget(store, &MONTH, days(99)), 0);
    // When the dependent goes, it goes as well.
    assert_eq!(forget(store, &MONTH, days(121)), 2);
    there(store, &[]);
    let rows = store.load(|wanted| wanted.dependents = [(key(1), TaskKey(0))].into());
    assert!(rows.dependents.iter().all(|page| page.list.is_empty()));
}

fn a_task_that_very_many_needed_goes_in_the_end(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let root = Task {
        dependents: 900,
        ..over(1, &class, days(0))
    };
    let mut all = write().task(&root);
    for number in 100..1_000 {
        let leaf = Task {
            dependencies: 1,
            ..over(number, &class, days(98))
        };
        all = all
            .task(&leaf)
            .edge((key(1), key(number)), None, DependencyState::Met);
    }
    all.commit(store);
    assert_eq!(forget(store, &MONTH, days(99)), 1);
    there(store, &[]);
}

fn jobs_from_elsewhere_go_a_day_after_their_end(store: &mut dyn Subject) {
    let job = |number, state, at| Attempt {
        external: true,
        task_id: format!("job_{number}").into(),
        state,
        ..ended(attempt_key(number, 1), at)
    };
    let done = AttemptState::Ended(Outcome::Completed);
    let running = Attempt {
        ended_at: None,
        ..job(3, AttemptState::Taken, days(0))
    };
    write()
        .attempt(&job(1, done, days(1)))
        .account(None, &account(attempt_key(1, 1), days(1)))
        .job("job_1", attempt_key(1, 1))
        .attempt(&job(2, done, days(5)))
        .job("job_2", attempt_key(2, 1))
        .attempt(&running)
        .job("job_3", attempt_key(3, 1))
        .commit(store);
    assert_eq!(batch(store, &MONTH, days(6)).jobs, 0);
    // A number of tasks is no number of jobs: they go as soon as they can.
    assert_eq!(batch(store, &keep(1_000), days(6)).jobs, 1);
    store.now_and_after_a_crash(|store| {
        let rows = store.load(|wanted| {
            wanted.jobs = ["job_1".into(), "job_2".into(), "job_3".into()].into();
            wanted.attempts = [attempt_key(1, 1), attempt_key(2, 1)].into();
        });
        // That there was a job stays known, so that a late report does not open its account anew.
        assert_eq!((rows.jobs.len(), rows.attempts.len()), (3, 1));
    });
    assert_eq!(batch(store, &MONTH, days(99)).jobs, 1);
}

fn an_id_is_free_again(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let old = over(1, &class, days(0));
    whole(write(), &old).commit(store);
    assert_eq!(forget(store, &MONTH, days(40)), 1);
    let again = Task {
        id: old.id.clone(),
        ..task(9, &class)
    };
    write().task(&again).commit(store);
    let stored = store.read(&old.id).expect("it is there");
    assert_eq!(stored.task.key, again.key);
}

fn more_than_a_batch_goes_in_several(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let count = i64::try_from(MAX_FORGOTTEN_TASKS).expect("it is small") + 50;
    (0..count)
        .map(|number| over(number, &class, days(0)))
        .fold(write(), |write, task| whole(write, &task))
        .commit(store);
    let first = batch(store, &MONTH, days(40));
    assert!(first.more && first.tasks > 0 && first.tasks <= MAX_FORGOTTEN_TASKS as u64);
    store.reopen();
    let rest = forget(store, &MONTH, days(40));
    assert_eq!(first.tasks + rest, count.unsigned_abs());
    there(store, &[]);
}

fn told(number: i64, at: Timestamp) -> NewEvent {
    NewEvent { at, ..event(number) }
}

fn seqs(store: &mut dyn Subject) -> Vec<u64> {
    let events = store.reader().events(0, 10_000).expect("they are read");
    events.iter().map(|event| event.seq).collect()
}

fn events_go_from_the_first_on_and_the_last_one_stays(store: &mut dyn Subject) {
    (0..10)
        .fold(write(), |write, day| write.event(told(day, days(day))))
        .commit(store);
    let older_than_a_week = Retention {
        event_age: Some(Span::DAY.times(7)),
        ..Retention::default()
    };
    assert_eq!(batch(store, &older_than_a_week, days(10)).events, 3);
    store.now_and_after_a_crash(|store| {
        assert_eq!(seqs(store), (4..=10).collect::<Vec<_>>());
        // Who asks for what is gone begins at the first that is kept.
        let page = store.reader().events(1, 2).expect("they are read");
        assert_eq!(page.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5]);
    });
    let newest_two = Retention {
        event_count: Some(2),
        ..Retention::default()
    };
    // The last hour stays, whatever their number.
    let soon = days(8) + Span::from_secs(1_800);
    assert_eq!(batch(store, &newest_two, soon).events, 5);
    assert_eq!(seqs(store), [9, 10]);
    assert_eq!(batch(store, &older_than_a_week, days(9_999)).events, 1);
    store.now_and_after_a_crash(|store| assert_eq!(seqs(store), [10]));
}

fn events_that_are_kept_keep_their_numbers(store: &mut dyn Subject) {
    let count = i64::try_from(MAX_FORGOTTEN_EVENTS).expect("it is small") + 20;
    (0..count)
        .fold(write(), |write, number| write.event(event(number)))
        .commit(store);
    let few = Retention {
        event_count: Some(5),
        ..Retention::default()
    };
    let first = batch(store, &few, days(1));
    assert_eq!((first.events, first.more), (MAX_FORGOTTEN_EVENTS as u64, true));
    assert!(!batch(store, &few, days(1)).more);
    let last = count.unsigned_abs();
    store.now_and_after_a_crash(|store| {
        assert_eq!(seqs(store), (last - 4..=last).collect::<Vec<_>>());
        assert_eq!(store.reader().last_seq().expect("it is read"), last);
    });
    assert_eq!(write().event(event(1)).commit(store), last + 1);
}
