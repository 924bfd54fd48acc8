//! Lists of tasks: every filter alone and with others, in order, a page at a time.

use std::sync::Arc;

use adjutant_core::name::Label;
use adjutant_core::task::{Class, Priority, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_store::{Page, TaskFilter};

use crate::rows::{NAME, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    each_filter_gives_the_tasks_that_it_says,
    filters_are_combined,
    pages_cover_everything_exactly_once,
    a_page_that_ends_with_the_list_has_no_next,
    pages_go_on_where_they_ended_whatever_came_or_went,
    a_limit_as_large_as_can_be_gives_all,
    tasks_of_a_list_come_with_their_details,
    tasks_are_counted_by_state,
    the_longest_ready_of_each_priority_is_found,
];

fn labels() -> [&'static [&'static str]; 4] {
    [&[], &["rust"], &["rust", NAME], &["go"]]
}

/// Tasks in which every value of every filter meets every other, more or less.
fn many(store: &mut dyn Subject) -> Vec<Task> {
    let classes: Vec<Arc<Class>> = labels().map(|labels| store.class(labels)).into();
    let pick = |number: usize, of: usize| number / 7 * 5 % of;
    let tasks: Vec<Task> = (1..=120_usize)
        .map(|number| Task {
            status: Status::ALL[number % 6],
            priority: Priority::ALL[number * 3 % 4],
            class: Arc::clone(&classes[pick(number, 4)]),
            project: [None, Some(NAME.into()), Some("project".into())][number % 3].clone(),
            claimed_by: [None, Some("agent-1".into()), Some("Agent-1".into())][pick(number, 3)].clone(),
            ..task(i64::try_from(number).expect("it is small"), &classes[0])
        })
        .collect();
    write().tasks(&tasks).commit(store);
    tasks
}

/// What a list has to give, in order: the filter in the plainest words.
fn expected(tasks: &[Task], filter: &TaskFilter) -> Vec<TaskKey> {
    let mut kept: Vec<&Task> = tasks
        .iter()
        .filter(|task| filter.status.is_none_or(|status| status == task.status))
        .filter(|task| filter.priority.is_none_or(|priority| priority == task.priority))
        .filter(|task| filter.project.is_none() || filter.project == task.project)
        .filter(|task| filter.claimed_by.is_none() || filter.claimed_by == task.claimed_by)
        .filter(|task| {
            filter
                .labels
                .iter()
                .all(|label| task.class.demand.labels.contains(label))
        })
        .collect();
    kept.sort_by_key(|task| std::cmp::Reverse(task.key));
    if filter.status == Some(Status::Pending) {
        kept.sort_by_key(|task| (task.priority, task.key));
    }
    kept.iter().map(|task| task.key).collect()
}

fn page(store: &mut dyn Subject, filter: &TaskFilter) -> Page {
    store.reader().tasks(filter).expect("tasks are read")
}

fn keys(page: &Page) -> Vec<TaskKey> {
    page.tasks.iter().map(|stored| stored.task.key).collect()
}

/// Checks a list page by page.
fn is_right(store: &mut dyn Subject, tasks: &[Task], filter: &TaskFilter) {
    let expected = expected(tasks, filter);
    let (mut reader, mut given, mut filter) = (store.reader(), Vec::new(), filter.clone());
    loop {
        let page = reader.tasks(&filter).expect("tasks are read");
        assert!(page.tasks.len() <= filter.limit, "{filter:?}");
        given.extend(keys(&page));
        assert_eq!(given, expected[..given.len().min(expected.len())], "{filter:?}");
        assert_eq!(page.next.is_some(), given.len() < expected.len(), "{filter:?}");
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(given, expected, "{filter:?}");
}

fn base(limit: usize) -> TaskFilter {
    TaskFilter {
        limit,
        ..TaskFilter::default()
    }
}

fn some_labels(labels: &[&str]) -> Vec<Label> {
    labels.iter().map(|label| Label::from(*label)).collect()
}

fn each_filter_gives_the_tasks_that_it_says(store: &mut dyn Subject) {
    let tasks = many(store);
    let mut filters = vec![base(1_000)];
    filters.extend(Status::ALL.map(|status| TaskFilter {
        status: Some(status),
        ..base(1_000)
    }));
    filters.extend(Priority::ALL.map(|priority| TaskFilter {
        priority: Some(priority),
        ..base(1_000)
    }));
    filters.extend([NAME, "project", "Project", "none"].map(|project| TaskFilter {
        project: Some(project.into()),
        ..base(1_000)
    }));
    filters.extend(["agent-1", "Agent-1", "agent-2"].map(|agent| TaskFilter {
        claimed_by: Some(agent.into()),
        ..base(1_000)
    }));
    for labels in [
        &["rust"][..],
        &[NAME],
        &[NAME, "rust"],
        &["go"],
        &["go", "rust"],
        &["Rust"],
        &["rus"],
    ] {
        filters.push(TaskFilter {
            labels: some_labels(labels),
            ..base(1_000)
        });
    }
    store.now_and_after_a_crash(|store| {
        for filter in &filters {
            is_right(store, &tasks, filter);
        }
    });
}

fn filters_are_combined(store: &mut dyn Subject) {
    let tasks = many(store);
    for status in [None].into_iter().chain(Status::ALL.map(Some)) {
        for priority in [None, Some(Priority::Critical), Some(Priority::Low)] {
            for project in [None, Some(NAME.into())] {
                for claimed_by in [None, Some("agent-1".into())] {
                    for labels in [&[][..], &["rust"], &["rust", NAME], &["none"]] {
                        let filter = TaskFilter {
                            status,
                            priority,
                            project: project.clone(),
                            claimed_by: claimed_by.clone(),
                            labels: some_labels(labels),
                            ..base(3)
                        };
                        is_right(store, &tasks, &filter);
                    }
                }
            }
        }
    }
}

fn pages_cover_everything_exactly_once(store: &mut dyn Subject) {
    let tasks = many(store);
    for limit in [1, 2, 7, 19, 20, 21, 119, 120, 121] {
        is_right(store, &tasks, &base(limit));
        for status in [Status::Pending, Status::Completed] {
            let filter = TaskFilter {
                status: Some(status),
                ..base(limit)
            };
            is_right(store, &tasks, &filter);
        }
    }
}

fn a_page_that_ends_with_the_list_has_no_next(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let tasks: Vec<Task> = (1..=10).map(|number| task(number, &class)).collect();
    write().tasks(&tasks).commit(store);
    assert!(page(store, &base(10)).next.is_none());
    assert_eq!(page(store, &base(9)).next, Some((Priority::Medium, key(2))));
    let last = TaskFilter {
        after: Some((Priority::Medium, key(1))),
        ..base(9)
    };
    let empty = page(store, &last);
    assert!(empty.tasks.is_empty() && empty.next.is_none());
}

fn pages_go_on_where_they_ended_whatever_came_or_went(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut tasks: Vec<Task> = (1..=20)
        .map(|number| Task {
            priority: Priority::ALL[usize::try_from(number % 4).expect("it is small")],
            ..task(number * 2, &class)
        })
        .collect();
    write().tasks(&tasks).commit(store);
    for status in [Some(Status::Pending), None] {
        let filter = TaskFilter { status, ..base(7) };
        let first = page(store, &filter);
        // The task at which the page ended is no longer pending, and one comes right behind it.
        let (priority, at) = first.next.expect("there is more");
        let index = tasks
            .iter()
            .position(|task| task.key == at)
            .expect("it is one of them");
        let gone = Task {
            status: Status::Cancelled,
            ..tasks[index].clone()
        };
        let behind = if status.is_some() {
            at.0 >> 8
        } else {
            (at.0 >> 8) - 2
        };
        let new = Task {
            priority,
            ..task(behind - 1_790_000_000_000_000 + 1, &class)
        };
        write()
            .changed_task(&tasks[index], &gone)
            .task(&new)
            .commit(store);
        tasks[index] = gone;
        tasks.push(new.clone());
        let second = page(
            store,
            &TaskFilter {
                after: first.next,
                ..filter.clone()
            },
        );
        assert_eq!(second.tasks[0].task.key, new.key);
        let mut whole = expected(&tasks, &filter);
        whole.retain(|key| !keys(&first).contains(key));
        assert_eq!(keys(&second), whole[..7]);
    }
}

fn a_limit_as_large_as_can_be_gives_all(store: &mut dyn Subject) {
    let tasks = many(store);
    is_right(store, &tasks, &base(usize::MAX));
    is_right(store, &tasks, &base(usize::MAX - 1));
}

fn tasks_of_a_list_come_with_their_details(store: &mut dyn Subject) {
    let tasks = many(store);
    let page = page(store, &base(1_000));
    assert_eq!(page.tasks.len(), tasks.len());
    for (stored, task) in page.tasks.iter().rev().zip(&tasks) {
        assert_eq!(*stored.task, *task);
        assert_eq!(stored.details.body.title, format!("the task {}", task.id));
    }
}

fn tasks_are_counted_by_state(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut number = 0;
    let mut tasks = Vec::new();
    for (count, status) in (1..).zip(Status::ALL) {
        for _ in 0..count {
            number += 1;
            tasks.push(Task {
                status,
                ..task(number, &class)
            });
        }
    }
    write().tasks(&tasks).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(
            store.reader().counts().expect("counts are read"),
            [1, 2, 3, 4, 5, 6]
        );
    });
    let done = Task {
        status: Status::Completed,
        ..tasks[0].clone()
    };
    write().changed_task(&tasks[0], &done).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(
            store.reader().counts().expect("counts are read"),
            [0, 2, 3, 5, 5, 6]
        );
    });
}

fn the_longest_ready_of_each_priority_is_found(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let ready = |number, priority, since| Task {
        priority,
        ready_since: Timestamp::from_micros(since),
        ..task(number, &class)
    };
    let later = Some(Timestamp::from_micros(9_000));
    let tasks = [
        ready(1, Priority::High, 300),
        // Released not long ago, though it came first.
        ready(2, Priority::Medium, 800),
        ready(3, Priority::Medium, 400),
        ready(4, Priority::Medium, 500),
        // Its time has not come.
        Task {
            delayed_until: later,
            not_before: later,
            ..ready(5, Priority::Low, 100)
        },
        Task {
            status: Status::Completed,
            ..ready(6, Priority::Critical, 100)
        },
    ];
    assert_eq!(store.reader().ready_since().expect("it is read"), [None; 4]);
    write().tasks(&tasks).commit(store);
    let at = |micros| Some(Timestamp::from_micros(micros));
    store.now_and_after_a_crash(|store| {
        assert_eq!(
            store.reader().ready_since().expect("it is read"),
            [None, at(300), at(400), None]
        );
    });
}
