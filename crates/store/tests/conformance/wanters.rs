//! Parked tasks that want a lock, in order of dispatch.

use std::sync::Arc;

use adjutant_core::counter::Counter;
use adjutant_core::limit::Scope;
use adjutant_core::name::LockName;
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::task::{Class, DispatchOrder, Gate, Priority, Status, Task};

use crate::rows::{NAME, at, attempt_key, key, long_name, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    those_who_want_a_lock_come_in_order_of_dispatch_in_stretches,
    a_stretch_of_wanters_begins_behind_any_place,
    a_parked_task_wants_all_of_its_locks,
    only_tasks_that_wait_for_a_lock_want_one,
    a_task_stops_wanting_when_it_changes,
    a_wanter_moves_when_its_priority_changes,
    the_longest_names_are_kept,
];

/// A task that is parked because the first of its locks is taken.
fn parked(number: i64, class: &Arc<Class>, locks: &[&str]) -> Task {
    Task {
        locks: locks.iter().map(|lock| LockName::from(*lock)).collect(),
        gate: locks.first().map(|lock| Gate::Lock((*lock).into())),
        priority: Priority::ALL[usize::try_from(number * 3 % 4).expect("it is small")],
        ..task(number, class)
    }
}

fn stretch(store: &mut dyn Subject, lock: &str, after: Option<DispatchOrder>) -> (Vec<DispatchOrder>, bool) {
    let mut rows = store.load(|wanted| {
        wanted.wanters.insert(lock.into(), after);
    });
    assert_eq!(rows.wanters.len(), 1, "one lock was asked for");
    let (name, orders, complete) = rows.wanters.remove(0);
    assert_eq!(name.as_str(), lock);
    assert!(orders.len() <= WINDOW_STRETCH);
    (orders, complete)
}

fn all(store: &mut dyn Subject, lock: &str) -> Vec<DispatchOrder> {
    let mut all = Vec::new();
    loop {
        let (orders, complete) = stretch(store, lock, all.last().copied());
        all.extend(orders);
        if complete {
            return all;
        }
        assert!(
            !all.is_empty(),
            "a stretch that is not complete has something in it"
        );
    }
}

fn counts(store: &mut dyn Subject) -> Vec<(LockName, u64)> {
    let mut wants = store.census().wants;
    wants.sort();
    wants
}

fn orders<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<DispatchOrder> {
    let mut orders: Vec<DispatchOrder> = tasks.into_iter().map(Task::order).collect();
    orders.sort();
    orders
}

fn those_who_want_a_lock_come_in_order_of_dispatch_in_stretches(store: &mut dyn Subject) {
    // Of several classes: a lock does not care.
    let classes = [store.class(&["a"]), store.class(&["b"])];
    let tasks: Vec<Task> = (1..=150)
        .map(|number| parked(number, &classes[usize::from(number % 3 == 0)], &[NAME]))
        .collect();
    write().tasks(&tasks).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(all(store, NAME), orders(&tasks));
        assert_eq!(all(store, "other"), []);
        assert_eq!(counts(store), [(NAME.into(), 150)]);
    });
}

fn a_stretch_of_wanters_begins_behind_any_place(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let count = i64::try_from(WINDOW_STRETCH).expect("it is small");
    let tasks: Vec<Task> = (1..=count).map(|number| parked(number, &class, &["a"])).collect();
    write().tasks(&tasks).commit(store);
    assert_eq!(stretch(store, "a", None), (orders(&tasks), true));
    for priority in Priority::ALL {
        for number in [0, 1, 2, 33, count, count + 1] {
            let after = DispatchOrder {
                priority,
                key: key(number),
            };
            let mut behind = orders(&tasks);
            behind.retain(|order| *order > after);
            assert_eq!(stretch(store, "a", Some(after)), (behind, true), "{after:?}");
        }
    }
    let more = Task {
        priority: Priority::Low,
        ..parked(count + 1, &class, &["a"])
    };
    write().task(&more).commit(store);
    assert_eq!(stretch(store, "a", None), (orders(&tasks), false));
}

fn a_parked_task_wants_all_of_its_locks(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let both = parked(1, &class, &["a", "b"]);
    let one = parked(2, &class, &["b"]);
    write().task(&both).task(&one).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(all(store, "a"), [both.order()]);
        assert_eq!(all(store, "b"), orders([&both, &one]));
        assert_eq!(counts(store), [("a".into(), 1), ("b".into(), 2)]);
    });
    // Which of them it waits for does not matter.
    let turned = Task {
        gate: Some(Gate::Lock("b".into())),
        ..both.clone()
    };
    write().changed_task(&both, &turned).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(all(store, "a"), [both.order()]);
        assert_eq!(all(store, "b"), orders([&both, &one]));
    });
}

/// All that a task can be instead of parked.
fn otherwise(parked: &Task) -> Vec<Task> {
    #[rustfmt::skip]
    let others = vec![
        Task { gate: None, ..parked.clone() },
        Task { gate: Some(Gate::Fleet), ..parked.clone() },
        Task { delayed_until: Some(at(1)), ..parked.clone() },
        Task { status: Status::InProgress, gate: None, ..parked.clone() },
        Task { status: Status::Blocked, ..parked.clone() },
        Task { status: Status::Cancelled, ..parked.clone() },
        Task { status: Status::Failed, gate: None, ..parked.clone() },
    ];
    others
}

fn only_tasks_that_wait_for_a_lock_want_one(store: &mut dyn Subject) {
    let class = store.class(&[]);
    for (number, other) in (1..).zip(otherwise(&parked(1, &class, &["a"]))) {
        let row = task(number, &class);
        let other = Task {
            key: row.key,
            id: row.id,
            ..other
        };
        write().task(&other).commit(store);
    }
    store.now_and_after_a_crash(|store| {
        assert_eq!(all(store, "a"), []);
        assert_eq!(counts(store), []);
    });
}

fn a_task_stops_wanting_when_it_changes(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let wants = parked(1, &class, &["a", "b"]);
    write().task(&wants).commit(store);
    for other in otherwise(&wants) {
        write().changed_task(&wants, &other).commit(store);
        for lock in ["a", "b"] {
            assert_eq!(all(store, lock), [], "{other:?}");
        }
        assert_eq!(counts(store), []);
        write().changed_task(&other, &wants).commit(store);
        for lock in ["a", "b"] {
            assert_eq!(all(store, lock), [wants.order()], "{other:?}");
        }
    }
}

fn a_wanter_moves_when_its_priority_changes(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut tasks: Vec<Task> = (1..=6)
        .map(|number| parked(number, &class, &["a", "b"]))
        .collect();
    write().tasks(&tasks).commit(store);
    for index in 0..tasks.len() {
        for priority in Priority::ALL {
            let now = Task {
                priority,
                ..tasks[index].clone()
            };
            write().changed_task(&tasks[index], &now).commit(store);
            tasks[index] = now;
            assert_eq!(all(store, "a"), orders(&tasks));
            assert_eq!(all(store, "b"), orders(&tasks));
        }
    }
    // It changes in priority and stops wanting at once.
    let gone = Task {
        priority: Priority::Critical,
        gate: None,
        ..tasks[0].clone()
    };
    let low = Task {
        priority: Priority::Low,
        ..tasks[0].clone()
    };
    write().changed_task(&tasks[0], &low).commit(store);
    write().changed_task(&low, &gone).commit(store);
    assert_eq!(all(store, "a"), orders(&tasks[1..]));
    assert_eq!(counts(store), [("a".into(), 5), ("b".into(), 5)]);
}

/// A name of each kind that rows are found by.
fn the_longest_names_are_kept(store: &mut dyn Subject) {
    let class = store.class(&["rust"]);
    let (lock, project) = (long_name(1), long_name(2));
    let wants = Task {
        project: Some(project.as_str().into()),
        ..parked(1, &class, &[&lock])
    };
    let gated = Task {
        project: Some(project.as_str().into()),
        gate: Some(Gate::Project(project.as_str().into())),
        ..task(2, &class)
    };
    let scopes = [
        Scope::Project(project.as_str().into()),
        Scope::Repo(long_name(3).as_str().into()),
        Scope::Model(long_name(4).as_str().into()),
    ];
    let first = write()
        .task(&wants)
        .task(&gated)
        .lock(&lock, None, Some(attempt_key(3, 1)));
    scopes
        .iter()
        .fold(first, |write, scope| {
            write.counter(None, &Counter::new(scope.clone()))
        })
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(counts(store), [(LockName::from(lock.as_str()), 1)]);
        assert_eq!(store.task(wants.key).as_deref(), Some(&wants));
        assert_eq!(store.task(gated.key).as_deref(), Some(&gated));
        let rows = store.census();
        assert_eq!(rows.counters.len(), scopes.len());
        assert_eq!(rows.locks.len(), 1);
    });
}
