//! Queues: ready tasks in order of dispatch, a stretch at a time.

use std::sync::Arc;

use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::Rows;
use adjutant_core::task::{Class, DispatchOrder, Gate, Priority, Queue, Status, Task};

use crate::rows::{NAME, at, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    a_queue_comes_in_order_of_dispatch_in_stretches,
    a_stretch_that_ends_with_the_queue_is_complete,
    a_stretch_begins_behind_any_place,
    tasks_come_along_with_their_stretch,
    queues_of_other_classes_and_gates_stay_apart,
    only_ready_tasks_are_in_a_queue,
    a_task_leaves_its_queue_when_it_changes,
    a_task_moves_in_its_queue_when_its_priority_changes,
    the_lengths_of_all_queues_are_known,
];

fn queue(class: &Arc<Class>, gate: Option<Gate>) -> Queue {
    Queue {
        class: class.id,
        gate,
    }
}

/// The stretch of one queue behind `after`, and whether that is all of it.
fn stretch(
    store: &mut dyn Subject,
    queue: &Queue,
    after: Option<DispatchOrder>,
) -> (Vec<DispatchOrder>, bool) {
    window(store, queue, after).0
}

fn window(
    store: &mut dyn Subject,
    queue: &Queue,
    after: Option<DispatchOrder>,
) -> ((Vec<DispatchOrder>, bool), Rows) {
    let mut rows = store.load(|wanted| {
        wanted.windows.insert(queue.clone(), after);
    });
    assert!(!rows.skipped, "nothing is locked");
    assert_eq!(rows.windows.len(), 1, "one queue was asked for");
    let (given, orders, complete) = rows.windows.remove(0);
    assert_eq!(given, *queue);
    ((orders, complete), rows)
}

/// A queue from its front to its end.
fn whole(store: &mut dyn Subject, queue: &Queue) -> Vec<DispatchOrder> {
    let mut all = Vec::new();
    loop {
        let (orders, complete) = stretch(store, queue, all.last().copied());
        assert!(orders.len() <= WINDOW_STRETCH);
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

/// Tasks of mixed priorities, in order of arrival.
fn mixed(count: i64, class: &Arc<Class>) -> Vec<Task> {
    (1..=count)
        .map(|number| Task {
            priority: Priority::ALL[usize::try_from(number * 7 % 4).expect("it is small")],
            ..task(number, class)
        })
        .collect()
}

fn orders(tasks: &[Task]) -> Vec<DispatchOrder> {
    let mut orders: Vec<DispatchOrder> = tasks.iter().map(Task::order).collect();
    orders.sort();
    orders
}

fn a_queue_comes_in_order_of_dispatch_in_stretches(store: &mut dyn Subject) {
    let class = store.class(&["rust"]);
    let tasks = mixed(200, &class);
    write().tasks(tasks.iter().rev()).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(whole(store, &queue(&class, None)), orders(&tasks));
    });
}

fn a_stretch_that_ends_with_the_queue_is_complete(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let queue = queue(&class, None);
    assert_eq!(stretch(store, &queue, None), (Vec::new(), true));
    let stretch_len = i64::try_from(WINDOW_STRETCH).expect("it is small");
    let tasks = mixed(stretch_len, &class);
    write().tasks(&tasks).commit(store);
    assert_eq!(stretch(store, &queue, None), (orders(&tasks), true));
    let last = orders(&tasks).last().copied();
    assert_eq!(stretch(store, &queue, last), (Vec::new(), true));
    let more = Task {
        priority: Priority::Low,
        ..task(stretch_len + 1, &class)
    };
    write().task(&more).commit(store);
    assert_eq!(stretch(store, &queue, None), (orders(&tasks), false));
    assert_eq!(stretch(store, &queue, last), (vec![more.order()], true));
}

fn a_stretch_begins_behind_any_place(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let queue = queue(&class, None);
    let tasks = mixed(12, &class);
    write().tasks(&tasks).commit(store);
    for priority in Priority::ALL {
        for number in 0..=13 {
            // Also behind places at which there is no task, or none of this priority.
            let after = DispatchOrder {
                priority,
                key: key(number),
            };
            let mut behind = orders(&tasks);
            behind.retain(|order| *order > after);
            assert_eq!(stretch(store, &queue, Some(after)), (behind, true), "{after:?}");
        }
    }
}

fn tasks_come_along_with_their_stretch(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let tasks = mixed(80, &class);
    write().tasks(&tasks).commit(store);
    let ((orders, _), rows) = window(store, &queue(&class, None), None);
    for order in orders {
        let given: Vec<_> = rows.tasks.iter().filter(|task| task.key == order.key).collect();
        assert_eq!(given.len(), 1, "each task is given once");
        assert_eq!(given[0].order(), order);
    }
}

fn gates() -> [Option<Gate>; 8] {
    [
        None,
        Some(Gate::Fleet),
        Some(Gate::Estimate),
        Some(Gate::Lock("a".into())),
        Some(Gate::Lock(NAME.into())),
        Some(Gate::Project("a".into())),
        Some(Gate::Repo("a".into())),
        Some(Gate::Repo("A".into())),
    ]
}

/// For each of two classes and each gate as many tasks as its place in the list says.
fn many_queues(store: &mut dyn Subject) -> (Vec<Task>, Vec<Queue>) {
    let (mut tasks, mut queues) = (Vec::new(), Vec::new());
    for class in [store.class(&["a"]), store.class(&["b"])] {
        for gate in gates() {
            queues.push(queue(&class, gate.clone()));
            for _ in 0..queues.len() {
                let number = i64::try_from(tasks.len()).expect("they are few") + 1;
                tasks.push(Task {
                    gate: gate.clone(),
                    ..task(number, &class)
                });
            }
        }
    }
    (tasks, queues)
}

fn queues_of_other_classes_and_gates_stay_apart(store: &mut dyn Subject) {
    let (tasks, queues) = many_queues(store);
    write().tasks(&tasks).commit(store);
    for queue in &queues {
        let own: Vec<Task> = tasks
            .iter()
            .filter(|task| task.queue().as_ref() == Some(queue))
            .cloned()
            .collect();
        assert_eq!(whole(store, queue), orders(&own));
    }
    // All of them in one turn.
    let rows =
        store.load(|wanted| wanted.windows = queues.iter().map(|queue| (queue.clone(), None)).collect());
    assert_eq!(rows.windows.len(), queues.len());
    for (queue, orders, complete) in rows.windows {
        let length = queues
            .iter()
            .position(|other| *other == queue)
            .expect("it was asked for")
            + 1;
        assert_eq!((orders.len(), complete), (length, true));
    }
}

fn only_ready_tasks_are_in_a_queue(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut tasks: Vec<Task> = (1..)
        .zip(Status::ALL)
        .map(|(number, status)| Task {
            status,
            ..task(number, &class)
        })
        .collect();
    tasks.push(Task {
        delayed_until: Some(at(1)),
        ..task(10, &class)
    });
    tasks.push(Task {
        not_before: Some(at(1)),
        ..task(11, &class)
    });
    write().tasks(&tasks).commit(store);
    store.now_and_after_a_crash(|store| {
        let ready = [&tasks[0], &tasks[7]].map(Task::order);
        assert_eq!(whole(store, &queue(&class, None)), ready);
    });
}

fn a_task_leaves_its_queue_when_it_changes(store: &mut dyn Subject) {
    let (class, other) = (store.class(&["a"]), store.class(&["b"]));
    let ready = task(1, &class);
    write().task(&ready).commit(store);
    #[rustfmt::skip]
    let changes = [
        Task { status: Status::InProgress, ..ready.clone() },
        Task { status: Status::Cancelled, ..ready.clone() },
        Task { status: Status::Blocked, held: true, ..ready.clone() },
        Task { delayed_until: Some(at(9)), ..ready.clone() },
        Task { gate: Some(Gate::Fleet), ..ready.clone() },
        Task { gate: Some(Gate::Lock(NAME.into())), ..ready.clone() },
        Task { class: Arc::clone(&other), ..ready.clone() },
    ];
    let all = [
        queue(&class, None),
        queue(&other, None),
        queue(&class, Some(Gate::Fleet)),
        queue(&class, Some(Gate::Lock(NAME.into()))),
    ];
    for changed in &changes {
        for (before, now) in [(&ready, changed), (changed, &ready)] {
            write().changed_task(before, now).commit(store);
            for queue in &all {
                let expected: Vec<_> = (now.queue().as_ref() == Some(queue))
                    .then(|| now.order())
                    .into_iter()
                    .collect();
                assert_eq!(whole(store, queue), expected);
            }
        }
    }
}

fn a_task_moves_in_its_queue_when_its_priority_changes(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut tasks = mixed(8, &class);
    write().tasks(&tasks).commit(store);
    for index in 0..tasks.len() {
        for priority in Priority::ALL {
            let now = Task {
                priority,
                ..tasks[index].clone()
            };
            write().changed_task(&tasks[index], &now).commit(store);
            tasks[index] = now;
            assert_eq!(whole(store, &queue(&class, None)), orders(&tasks));
        }
    }
}

fn the_lengths_of_all_queues_are_known(store: &mut dyn Subject) {
    fn lengths(store: &mut dyn Subject) -> Vec<(Queue, u64)> {
        let mut queues = store.census().queues;
        queues.sort();
        if store.store().is_shared() {
            let mut rows = store.load(|wanted| wanted.queues = true);
            rows.queues.sort();
            assert_eq!(rows.queues, queues, "a turn is given what a census says");
        }
        queues
    }
    assert_eq!(lengths(store), []);
    let (tasks, queues) = many_queues(store);
    let class = store.class(&["c"]);
    let waits = Task {
        delayed_until: Some(at(1)),
        ..task(1_000, &class)
    };
    write().tasks(&tasks).task(&waits).commit(store);
    let mut expected: Vec<(Queue, u64)> = queues.into_iter().zip(1..).collect();
    expected.sort();
    store.now_and_after_a_crash(|store| assert_eq!(lengths(store), expected));
    // A queue in which nothing waits any more is not told.
    let (first, own) = (&tasks[0], tasks[0].queue().expect("it is ready"));
    let taken = Task {
        status: Status::InProgress,
        ..first.clone()
    };
    write().changed_task(first, &taken).commit(store);
    expected.retain(|(queue, _)| *queue != own);
    store.now_and_after_a_crash(|store| assert_eq!(lengths(store), expected));
}
