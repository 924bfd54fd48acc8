//! Tasks whose time has come.

use adjutant_core::set::rows::{Due, MAX_DUE};
use adjutant_core::task::{Fanout, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;

use crate::rows::{at, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    due_tasks_come_in_order_of_their_time,
    the_time_of_the_first_task_that_is_not_due_is_told,
    no_more_than_a_turn_deals_with_are_due_at_once,
    every_kind_of_task_wakes_at_its_own_time,
    a_task_is_due_when_its_last_change_says_so,
    nothing_is_said_of_time_unless_it_is_asked_for,
];

fn due(store: &mut dyn Subject, until: Timestamp) -> Due {
    let rows = store.load(|wanted| wanted.due = Some(until));
    rows.due.expect("what is due was asked for")
}

/// What is due until then, and when the next is.
fn brought(store: &mut dyn Subject, until: i64) -> (Vec<TaskKey>, Option<Timestamp>) {
    let due = due(store, at(until));
    assert!(due.silent.is_empty() && due.lingering.is_empty());
    (due.tasks, due.next)
}

fn delayed(number: i64, until: i64, store: &mut dyn Subject) -> Task {
    Task {
        delayed_until: Some(at(until)),
        ..task(number, &store.class(&[]))
    }
}

fn due_tasks_come_in_order_of_their_time(store: &mut dyn Subject) {
    let times = [50, 20, 40, 10, 30];
    let tasks: Vec<Task> = (1..)
        .zip(times)
        .map(|(number, time)| delayed(number, time, store))
        .collect();
    write().tasks(&tasks).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(brought(store, 100), ([4, 2, 5, 3, 1].map(key).into(), None));
        assert_eq!(brought(store, 35), ([4, 2, 5].map(key).into(), Some(at(40))));
    });
}

fn the_time_of_the_first_task_that_is_not_due_is_told(store: &mut dyn Subject) {
    assert_eq!(brought(store, 0), (Vec::new(), None));
    let tasks = [delayed(1, 10, store), delayed(2, 11, store)];
    write().tasks(&tasks).commit(store);
    assert_eq!(brought(store, 9), (Vec::new(), Some(at(10))));
    assert_eq!(brought(store, 10), (vec![key(1)], Some(at(11))));
    assert_eq!(brought(store, 11), (vec![key(1), key(2)], None));
    assert_eq!(due(store, Timestamp::EPOCH).next, Some(at(10)));
    assert_eq!(due(store, Timestamp::NEVER).tasks.len(), 2);
}

fn no_more_than_a_turn_deals_with_are_due_at_once(store: &mut dyn Subject) {
    let bound = i64::try_from(MAX_DUE).expect("it is small");
    let tasks: Vec<Task> = (1..=bound).map(|number| delayed(number, number, store)).collect();
    write().tasks(&tasks).commit(store);
    let expected: Vec<TaskKey> = (1..=bound).map(key).collect();
    assert_eq!(brought(store, bound + 9), (expected.clone(), None));
    let more = [
        delayed(bound + 1, bound + 1, store),
        delayed(bound + 2, bound + 2, store),
    ];
    write().tasks(&more).commit(store);
    // The next one is due as well, and is told as the next.
    assert_eq!(brought(store, bound + 9), (expected, Some(at(bound + 1))));
    tasks
        .iter()
        .fold(write(), |write, task| {
            let now = Task {
                delayed_until: None,
                ..task.clone()
            };
            write.changed_task(task, &now)
        })
        .commit(store);
    assert_eq!(
        brought(store, bound + 9),
        (vec![key(bound + 1), key(bound + 2)], None)
    );
}

/// Tasks of all kinds that wake, or do not.
fn kinds(store: &mut dyn Subject) -> Vec<Task> {
    let class = store.class(&[]);
    let fanout = Some(Fanout {
        after: key(1),
        cascade: true,
    });
    let base = |number| task(number, &class);
    #[rustfmt::skip]
    let kinds = vec![
        Task { delayed_until: Some(at(10)), ..base(1) },
        Task { status: Status::InProgress, deadline: Some(at(20)), ..base(2) },
        Task { status: Status::InProgress, lease_expires_at: Some(at(30)), ..base(3) },
        Task { status: Status::InProgress, deadline: Some(at(99)), lease_expires_at: Some(at(40)), ..base(4) },
        Task { status: Status::InProgress, deadline: Some(at(50)), lease_expires_at: Some(at(99)), ..base(5) },
        Task { status: Status::Completed, fanout, ..base(6) },
        Task { status: Status::Failed, deadline: Some(at(1)), ..base(7) },
        Task { status: Status::Blocked, delayed_until: Some(at(1)), ..base(8) },
        Task { status: Status::InProgress, delayed_until: Some(at(1)), ..base(9) },
        Task { status: Status::Pending, deadline: Some(at(1)), not_before: Some(at(1)), ..base(10) },
    ];
    kinds
}

fn every_kind_of_task_wakes_at_its_own_time(store: &mut dyn Subject) {
    let kinds = kinds(store);
    write().tasks(&kinds).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(brought(store, 100), ([6, 1, 2, 3, 4, 5].map(key).into(), None));
        assert_eq!(due(store, Timestamp::EPOCH).tasks, [key(6)]);
    });
}

fn a_task_is_due_when_its_last_change_says_so(store: &mut dyn Subject) {
    let kinds = kinds(store);
    let mut last = task(1, &store.class(&[]));
    write().task(&last).commit(store);
    for (number, kind) in kinds.iter().enumerate() {
        let now = Task {
            key: last.key,
            id: last.id.clone(),
            ..kind.clone()
        };
        write().changed_task(&last, &now).commit(store);
        let expected: Vec<TaskKey> = now.wakes_at().map(|_| now.key).into_iter().collect();
        assert_eq!(brought(store, 100), (expected, None), "kind {number}");
        last = now;
    }
    // The time alone moves.
    for time in [30, 10, 20] {
        let now = Task {
            status: Status::Pending,
            delayed_until: Some(at(time)),
            ..last.clone()
        };
        write().changed_task(&last, &now).commit(store);
        assert_eq!(brought(store, time - 1), (Vec::new(), Some(at(time))));
        assert_eq!(brought(store, time), (vec![key(1)], None));
        last = now;
    }
}

fn nothing_is_said_of_time_unless_it_is_asked_for(store: &mut dyn Subject) {
    let task = delayed(1, 1, store);
    write().task(&task).commit(store);
    let rows = store.load(|wanted| {
        wanted.tasks.insert(key(1));
    });
    assert!(rows.due.is_none());
}
