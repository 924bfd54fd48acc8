//! Task rows: what is written is what is given, new and changed.

use std::sync::Arc;

use adjutant_core::attempt::{ModelUsage, Tokens};
use adjutant_core::money::Money;
use adjutant_core::name::TaskId;
use adjutant_core::task::{Class, Demand, Fanout, Gate, Priority, Produces, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;

use crate::rows::{NAME, at, full_task, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    every_field_of_a_task_survives,
    every_state_priority_product_and_gate_survives,
    a_changed_task_keeps_every_field_that_was_changed,
    each_change_of_a_task_survives_on_its_own,
    a_task_is_changed_by_the_last_of_several_turns,
    the_demand_of_a_task_survives,
    tasks_that_do_not_exist_are_not_given,
    ids_differ_by_case_and_by_every_character,
];

/// A task is given the same by its id, by its key and to readers, now and after a crash.
fn survives(store: &mut dyn Subject, task: &Task) {
    store.now_and_after_a_crash(|store| {
        let by_id = store.load(|wanted| {
            wanted.task_ids.insert(task.id.clone());
        });
        assert_eq!(by_id.tasks.as_slice(), [Arc::new(task.clone())]);
        assert_eq!(store.task(task.key).as_deref(), Some(task));
        let read = store.read(&task.id).expect("a task that is written is read");
        assert_eq!(*read.task, *task);
    });
}

fn every_field_of_a_task_survives(store: &mut dyn Subject) {
    let class = store.class(&["rust"]);
    let (bare, full) = (task(1, &class), full_task(2, &class));
    write().task(&bare).task(&full).commit(store);
    survives(store, &bare);
    survives(store, &full);
}

fn every_state_priority_product_and_gate_survives(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let gates = [
        None,
        Some(Gate::Lock(NAME.into())),
        Some(Gate::Lock("fleet".into())),
        Some(Gate::Fleet),
        Some(Gate::Project(NAME.into())),
        Some(Gate::Repo("a:b/c".into())),
        Some(Gate::Estimate),
    ];
    let mut tasks = Vec::new();
    let mut number = 0;
    for status in Status::ALL {
        for priority in Priority::ALL {
            for produces in [None, Some(Produces::PullRequest), Some(Produces::Issue)] {
                for gate in &gates {
                    number += 1;
                    tasks.push(Task {
                        status,
                        priority,
                        produces,
                        gate: gate.clone(),
                        ..task(number, &class)
                    });
                }
            }
        }
    }
    write().tasks(&tasks).commit(store);
    store.now_and_after_a_crash(|store| {
        let rows = store.load(|wanted| wanted.tasks = tasks.iter().map(|task| task.key).collect());
        let mut given: Vec<Task> = rows.tasks.iter().map(|task| (**task).clone()).collect();
        given.sort_by_key(|task| task.key);
        assert_eq!(given, tasks);
    });
}

/// `task` with everything changed that ever changes; what a client says once and for all stays.
fn changed(task: &Task, class: &Arc<Class>) -> Task {
    let full = full_task(0, class);
    Task {
        key: task.key,
        id: task.id.clone(),
        project: task.project.clone(),
        repo: task.repo.clone(),
        produces: task.produces,
        locks: Arc::clone(&task.locks),
        timeout: task.timeout,
        dependencies: task.dependencies,
        ..full
    }
}

fn a_changed_task_keeps_every_field_that_was_changed(store: &mut dyn Subject) {
    let (class, other) = (store.class(&["rust"]), store.class(&["go"]));
    let bare = task(1, &class);
    let full = changed(&bare, &other);
    write().task(&bare).commit(store);
    write().changed_task(&bare, &full).commit(store);
    survives(store, &full);
    write().changed_task(&full, &bare).commit(store);
    survives(store, &bare);
}

fn each_change_of_a_task_survives_on_its_own(store: &mut dyn Subject) {
    let (class, other) = (store.class(&["rust"]), store.class(&["go"]));
    let base = task(1, &class);
    let usage = ModelUsage {
        model: None,
        tokens: Tokens::default(),
        cost: Money::from_nanos(1),
    };
    #[rustfmt::skip]
    let variants = [
        Task { class: other, ..base.clone() },
        Task { priority: Priority::Low, ..base.clone() },
        Task { status: Status::InProgress, ..base.clone() },
        Task { held: true, ..base.clone() },
        Task { estimated_tokens: 1, ..base.clone() },
        Task { not_before: Some(at(1)), ..base.clone() },
        Task { delayed_until: Some(at(1)), ..base.clone() },
        Task { max_retries: 1, ..base.clone() },
        Task { retry_count: 1, ..base.clone() },
        Task { attempt: 1, ..base.clone() },
        Task { unmet: 1, ..base.clone() },
        Task { failed_dependencies: 1, ..base.clone() },
        Task { dependents: 1, ..base.clone() },
        Task { gate: Some(Gate::Estimate), ..base.clone() },
        Task { claimed_by: Some("agent".into()), ..base.clone() },
        Task { claimed_at: Some(at(1)), ..base.clone() },
        Task { lease_expires_at: Some(at(1)), ..base.clone() },
        Task { deadline: Some(at(1)), ..base.clone() },
        Task { last_attempt: Some(at(1)), ..base.clone() },
        Task { failed_on: ["agent".into()].into(), ..base.clone() },
        Task { progress: 1, ..base.clone() },
        Task { notes: 1, ..base.clone() },
        Task { has_result: true, ..base.clone() },
        Task { refusal_told: true, ..base.clone() },
        Task { usage: [usage].into(), ..base.clone() },
        Task { ready_since: at(1), ..base.clone() },
        Task { updated_at: Timestamp::NEVER, ..base.clone() },
        Task { fanout: Some(Fanout { after: key(5), cascade: false }), ..base.clone() },
    ];
    write().task(&base).commit(store);
    for variant in &variants {
        write().changed_task(&base, variant).commit(store);
        assert_eq!(store.task(base.key).as_deref(), Some(variant));
        write().changed_task(variant, &base).commit(store);
        assert_eq!(store.task(base.key).as_deref(), Some(&base));
    }
}

fn a_task_is_changed_by_the_last_of_several_turns(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut last = task(1, &class);
    write().task(&last).commit(store);
    for progress in 1..=20 {
        let now = Task {
            progress,
            ..last.clone()
        };
        write().changed_task(&last, &now).commit(store);
        last = now;
    }
    survives(store, &last);
}

fn the_demand_of_a_task_survives(store: &mut dyn Subject) {
    let demand = Demand {
        labels: vec![NAME.into(), "rust".into()],
        prefers: vec!["fast".into(), NAME.into()],
        model: Some(NAME.into()),
    };
    let class = store.class_of(&demand);
    let task = task(1, &class);
    write().task(&task).commit(store);
    survives(store, &task);
    let read = store.read(&task.id).expect("the task is read");
    assert_eq!(read.task.class.demand, demand);
}

fn tasks_that_do_not_exist_are_not_given(store: &mut dyn Subject) {
    let class = store.class(&[]);
    write().task(&task(1, &class)).commit(store);
    store.now_and_after_a_crash(|store| {
        let rows = store.load(|wanted| {
            wanted.task_ids = ["task_1".into(), "task_2".into(), "".into()].into();
            wanted.tasks = [key(1), key(2), TaskKey(0), TaskKey(i64::MAX)].into();
        });
        let mut given: Vec<&TaskId> = rows.tasks.iter().map(|task| &task.id).collect();
        given.dedup();
        assert_eq!(given, [&TaskId::from("task_1")]);
        assert!(store.read(&"task_2".into()).is_none());
    });
}

fn ids_differ_by_case_and_by_every_character(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let ids = ["a", "A", "a.", "a_", "a-", "a:", "1", "01", "1.0", "%", "_"];
    let tasks: Vec<Task> = (1..)
        .zip(ids)
        .map(|(number, id)| Task {
            id: id.into(),
            ..task(number, &class)
        })
        .collect();
    write().tasks(&tasks).commit(store);
    for task in &tasks {
        let read = store.read(&task.id).expect("the task is read");
        assert_eq!(read.task.key, task.key, "{}", task.id);
    }
}
