//! Dependencies from the side of what is depended on: who is to be told, and who still waits.

use std::sync::Arc;

use adjutant_core::name::TaskId;
use adjutant_core::set::rows::{Dependents, MAX_FANOUT};
use adjutant_core::task::{Class, DependencyState, Status, Task, TaskKey};
use adjutant_store::{Details, MAX_BLOCKERS};

use crate::rows::{key, task};
use crate::subject::Subject;
use crate::write::{Write, write};

for_every_store![
    dependents_come_in_order_with_how_the_dependency_stands,
    dependents_come_in_pages,
    a_page_that_ends_with_the_dependents_says_so,
    a_dependency_changes_in_place,
    a_task_without_dependents_has_an_empty_page,
    blockers_are_only_tasks_that_still_wait,
    the_first_hundred_blockers_are_named_and_all_are_counted,
    those_whom_a_fanout_has_not_reached_still_wait,
];

use DependencyState::{Failed, Met, Waiting};

fn page(store: &mut dyn Subject, of: TaskKey, after: TaskKey) -> Dependents {
    let mut rows = store.load(|wanted| {
        wanted.dependents.insert(of, after);
    });
    assert_eq!(rows.dependents.len(), 1, "one page was asked for");
    let page = rows.dependents.remove(0);
    assert_eq!((page.of, page.after), (of, after));
    page
}

fn none() -> TaskKey {
    TaskKey(0)
}

/// Task 1, on which the tasks from 2 to `count + 1` depend.
fn fan(store: &mut dyn Subject, count: i64) -> (Task, Vec<Task>) {
    let class = store.class(&[]);
    let root = Task {
        dependents: u32::try_from(count).expect("they are few"),
        ..task(1, &class)
    };
    let waiting: Vec<Task> = (2..=count + 1).map(|number| blocked(number, &class)).collect();
    waiting
        .iter()
        .rev()
        .fold(write().task(&root), |write, task| depends(write.task(task), task))
        .commit(store);
    (root, waiting)
}

fn blocked(number: i64, class: &Arc<Class>) -> Task {
    Task {
        status: Status::Blocked,
        dependencies: 1,
        unmet: 1,
        ..task(number, class)
    }
}

fn depends(write: Write, dependent: &Task) -> Write {
    write.edge((key(1), dependent.key), None, Waiting)
}

fn dependents_come_in_order_with_how_the_dependency_stands(store: &mut dyn Subject) {
    let class = store.class(&[]);
    write()
        .tasks(&[task(1, &class), task(2, &class), task(3, &class), task(4, &class)])
        .edge((key(1), key(4)), None, Failed)
        .edge((key(1), key(2)), None, Waiting)
        .edge((key(1), key(3)), None, Met)
        .edge((key(2), key(3)), None, Met)
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let all = page(store, key(1), none());
        assert_eq!(all.list, [(key(2), Waiting), (key(3), Met), (key(4), Failed)]);
        assert!(!all.more);
        assert_eq!(
            page(store, key(1), key(2)).list,
            [(key(3), Met), (key(4), Failed)]
        );
        assert_eq!(page(store, key(2), none()).list, [(key(3), Met)]);
    });
}

fn dependents_come_in_pages(store: &mut dyn Subject) {
    let count = 2 * MAX_FANOUT + 500;
    let (root, waiting) = fan(store, i64::try_from(count).expect("they are few"));
    store.now_and_after_a_crash(|store| {
        let (mut all, mut after, mut sizes) = (Vec::new(), none(), Vec::new());
        loop {
            let page = page(store, root.key, after);
            sizes.push(page.list.len());
            all.extend(page.list);
            after = all.last().expect("there are dependents").0;
            if !page.more {
                break;
            }
        }
        assert_eq!(sizes, [MAX_FANOUT, MAX_FANOUT, 500]);
        let expected: Vec<_> = waiting.iter().map(|task| (task.key, Waiting)).collect();
        assert!(all == expected, "each of them comes once and in order");
    });
}

fn a_page_that_ends_with_the_dependents_says_so(store: &mut dyn Subject) {
    let (root, waiting) = fan(store, i64::try_from(MAX_FANOUT).expect("they are few"));
    let full = page(store, root.key, none());
    assert_eq!((full.list.len(), full.more), (MAX_FANOUT, false));
    let last = waiting.last().expect("there are some").key;
    for after in [last, TaskKey(last.0 + 1), TaskKey(i64::MAX)] {
        let empty = page(store, root.key, after);
        assert_eq!((empty.list.len(), empty.more), (0, false));
    }
}

fn a_dependency_changes_in_place(store: &mut dyn Subject) {
    let (root, waiting) = fan(store, 2);
    let edge = (root.key, waiting[0].key);
    for (before, now) in [(Waiting, Failed), (Failed, Waiting), (Waiting, Met)] {
        write().edge(edge, Some(before), now).commit(store);
        store.now_and_after_a_crash(|store| {
            let list = page(store, root.key, none()).list;
            assert_eq!(list, [(waiting[0].key, now), (waiting[1].key, Waiting)]);
        });
    }
}

fn a_task_without_dependents_has_an_empty_page(store: &mut dyn Subject) {
    let (_, waiting) = fan(store, 1);
    for of in [waiting[0].key, key(77)] {
        let page = page(store, of, none());
        assert!(page.list.is_empty() && !page.more);
    }
}

fn details(store: &mut dyn Subject, task: &Task) -> Details {
    store.read(&task.id).expect("the task is read").details
}

fn blockers_are_only_tasks_that_still_wait(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let root = Task {
        dependents: 20,
        ..task(1, &class)
    };
    let mut all = write().task(&root);
    let mut expected: Vec<TaskId> = Vec::new();
    let mut number = 1;
    for status in Status::ALL {
        for state in [Waiting, Met, Failed] {
            number += 1;
            let dependent = Task {
                status,
                ..blocked(number, &class)
            };
            all = all.task(&dependent).edge((root.key, dependent.key), None, state);
            if status == Status::Blocked && state != Met {
                expected.push(dependent.id);
            }
        }
    }
    // One that waits for another task alone.
    let other = blocked(99, &class);
    all.task(&other)
        .edge((key(2), other.key), None, Waiting)
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let details = details(store, &root);
        assert_eq!(details.blockers, expected);
        assert_eq!(details.blockers_count, 2);
        assert!(self::details(store, &other).blockers.is_empty());
    });
}

fn the_first_hundred_blockers_are_named_and_all_are_counted(store: &mut dyn Subject) {
    let (root, waiting) = fan(store, 150);
    let named: Vec<TaskId> = waiting
        .iter()
        .take(MAX_BLOCKERS)
        .map(|task| task.id.clone())
        .collect();
    store.now_and_after_a_crash(|store| {
        let details = details(store, &root);
        assert_eq!(details.blockers, named);
        assert_eq!(details.blockers_count, 150);
    });
    // One by one they stop waiting: the count follows, also at the bound.
    for (done, left) in waiting.iter().zip((98..150).rev()) {
        let cancelled = Task {
            status: Status::Cancelled,
            ..done.clone()
        };
        write().changed_task(done, &cancelled).commit(store);
        let details = details(store, &root);
        assert_eq!(details.blockers_count, left);
        assert_eq!(details.blockers.len(), MAX_BLOCKERS.min(left as usize));
    }
}

fn those_whom_a_fanout_has_not_reached_still_wait(store: &mut dyn Subject) {
    let (root, waiting) = fan(store, 3);
    let done = Task {
        status: Status::Completed,
        fanout: Some(adjutant_core::task::Fanout {
            after: waiting[0].key,
            cascade: false,
        }),
        ..root.clone()
    };
    let told = Task {
        status: Status::Pending,
        unmet: 0,
        ..waiting[0].clone()
    };
    write()
        .changed_task(&root, &done)
        .changed_task(&waiting[0], &told)
        .edge((root.key, told.key), Some(Waiting), Met)
        .commit(store);
    let details = details(store, &root);
    assert_eq!(details.blockers, [waiting[1].id.clone(), waiting[2].id.clone()]);
    assert_eq!(details.blockers_count, 2);
}
