//! Turns: what is committed is there as a whole, and nothing else is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adjutant_core::limit::{Policy, Scope};
use adjutant_core::set::rows::{Changes, Ending, Wanted};
use adjutant_core::task::{Note, Status, Task, TaskKey};
use adjutant_store::{Reader, TaskFilter};

use crate::rows::{agent, at, attempt, attempt_key, event, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    a_new_store_is_empty,
    a_commit_is_all_or_nothing_for_readers,
    each_question_to_a_reader_sees_one_state,
    one_turn_writes_rows_of_every_kind,
    a_load_alone_changes_nothing,
    several_loads_belong_to_one_turn,
    a_turn_that_was_given_up_leaves_nothing,
    a_turn_that_a_crash_cut_off_leaves_nothing,
    a_reader_sees_what_is_committed_after_it_was_made,
    a_turn_without_changes_is_committed,
];

fn a_new_store_is_empty(store: &mut dyn Subject) {
    store.now_and_after_a_crash(|store| {
        let census = store.census();
        assert!(census.tasks.is_empty() && census.attempts.is_empty() && census.accounts.is_empty());
        assert!(census.agents.is_empty() && census.policies.is_empty() && census.counters.is_empty());
        assert!(census.locks.is_empty() && census.wants.is_empty() && census.classes.is_empty());
        assert!(census.queues.is_empty() && !census.skipped);
        assert_eq!(census.newest, Some(TaskKey(0)));
        let mut reader = store.reader();
        assert_eq!(reader.counts().expect("counts are read"), [0; 6]);
        assert_eq!(reader.last_seq().expect("it is read"), 0);
        assert!(reader.tokens().expect("tokens are read").is_empty());
        assert!(reader.events(0, 10).expect("events are read").is_empty());
        let page = reader.tasks(&everything()).expect("tasks are read");
        assert!(page.tasks.is_empty() && page.next.is_none());
    });
}

fn everything() -> TaskFilter {
    TaskFilter {
        limit: 1_000,
        ..TaskFilter::default()
    }
}

const TASKS: i64 = 8;
const TURNS: u32 = 150;

/// Tells a reader that no more is written, also when the writer panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes turn after turn, each of which gives all tasks its number, an event and a note, while `look` reads.
fn while_written(store: &mut dyn Subject, look: impl Fn(&mut dyn Reader) + Sync) {
    let class = store.class(&[]);
    let tasks: Vec<Task> = (1..=TASKS).map(|number| task(number, &class)).collect();
    write().tasks(&tasks).commit(store);
    let (mut reader, over) = (store.reader(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut last = false;
            while !last {
                last = over.load(Ordering::Acquire);
                look(&mut *reader);
            }
        });
        let _over = Over(&over);
        let mut before = tasks.clone();
        for turn in 1..=TURNS {
            let now: Vec<Task> = tasks
                .iter()
                .map(|task| Task {
                    attempt: turn,
                    notes: turn,
                    status: if turn % 2 == 0 {
                        Status::Pending
                    } else {
                        Status::Blocked
                    },
                    ..task.clone()
                })
                .collect();
            let mut all = write();
            for (before, now) in before.iter().zip(&now) {
                let note = Note {
                    at: at(0),
                    author: "a".into(),
                    text: turn.to_string(),
                };
                let mut event = event(0);
                event.task = Some((now.key, now.id.clone()));
                all = all.changed_task(before, now).note(now.key, note).event(event);
            }
            all.commit(store);
            before = now;
            assert!(!reading.is_finished(), "the reader reads until the end");
        }
    });
}

fn a_commit_is_all_or_nothing_for_readers(store: &mut dyn Subject) {
    while_written(store, |reader| {
        let page = reader.tasks(&everything()).expect("tasks are read");
        assert_eq!(page.tasks.len(), 8);
        let turn = page.tasks[0].task.attempt;
        for stored in &page.tasks {
            assert_eq!(stored.task.attempt, turn);
            assert_eq!(
                stored.details.notes.len(),
                turn as usize,
                "notes are of the same turn"
            );
        }
        let counts = reader.counts().expect("counts are read");
        assert!(
            counts == [8, 0, 0, 0, 0, 0] || counts == [0, 8, 0, 0, 0, 0],
            "{counts:?}"
        );
    });
}

fn each_question_to_a_reader_sees_one_state(store: &mut dyn Subject) {
    while_written(store, |reader| {
        let seq = reader.last_seq().expect("it is read");
        assert_eq!(seq % 8, 0, "all events of a turn are there or none");
        let events = reader.events(0, usize::MAX >> 1).expect("events are read");
        assert_eq!(events.len() % 8, 0);
        assert!(events.len() as u64 >= seq, "what was seen once stays");
        let one = reader
            .task(&"task_3".into())
            .expect("a task is read")
            .expect("it is there");
        let noted = one.details.notes.last().map(|note| note.text.clone());
        assert_eq!(noted.unwrap_or("0".into()), one.task.attempt.to_string());
    });
}

fn one_turn_writes_rows_of_every_kind(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let done = Task {
        status: Status::Failed,
        notes: 1,
        ..task(1, &class)
    };
    let ending = Ending {
        task: done.key,
        result: None,
        fail_reason: Some("lost".into()),
    };
    let note = Note {
        at: at(1),
        author: "a".into(),
        text: "noted".into(),
    };
    let seq = write()
        .task(&done)
        .ending(ending)
        .note(done.key, note)
        .output(done.key, "said")
        .attempt(&attempt(attempt_key(1, 1)))
        .agent(None, &agent("agent"))
        .policy(&Scope::Fleet, None, &Policy::default())
        .lock("main", None, Some(attempt_key(1, 1)))
        .job("job", attempt_key(1, 1))
        .event(event(1))
        .commit(store);
    assert_eq!(seq, 1);
    store.now_and_after_a_crash(|store| {
        let census = store.census();
        assert_eq!(census.tasks, [done.clone().into()]);
        assert_eq!((census.attempts.len(), census.agents.len()), (1, 1));
        assert_eq!((census.policies.len(), census.locks.len()), (1, 1));
        let details = store.read(&done.id).expect("the task is read").details;
        assert_eq!(details.fail_reason.as_deref(), Some("lost"));
        assert_eq!(details.notes.len(), 1);
        assert_eq!(details.body.title, "the task task_1");
        assert_eq!(store.reader().output(done.key).expect("output is read"), "said");
    });
}

/// Asks for a bit of everything.
fn all_kinds() -> Wanted {
    Wanted {
        task_ids: ["task_1".into(), "absent".into()].into(),
        tasks: [key(1), key(2)].into(),
        attempts: [attempt_key(1, 1)].into(),
        accounts: [attempt_key(1, 1)].into(),
        agents: ["agent".into()].into(),
        scopes: [Scope::Fleet].into(),
        locks: ["main".into()].into(),
        jobs: ["job".into()].into(),
        dependents: [(key(1), TaskKey(0))].into(),
        due: Some(at(100)),
        queues: true,
        roomy: true,
        takers: ["agent".into()].into(),
        ..Wanted::default()
    }
}

/// Makes a task; gives a check that nothing but it is there.
fn one_task(store: &mut dyn Subject) -> impl Fn(&mut dyn Subject) + use<> {
    let class = store.class(&[]);
    let only = task(1, &class);
    write().task(&only).event(event(1)).commit(store);
    move |store| {
        let mut reader = store.reader();
        assert_eq!(reader.counts().expect("counts are read"), [1, 0, 0, 0, 0, 0]);
        assert_eq!(reader.last_seq().expect("it is read"), 1);
        let census = store.census();
        assert_eq!(census.newest, Some(only.key));
        assert!(census.agents.is_empty() && census.attempts.is_empty() && census.locks.is_empty());
        assert!(census.policies.is_empty() && census.counters.is_empty());
        assert_eq!(store.task(only.key).as_deref(), Some(&only));
    }
}

fn a_load_alone_changes_nothing(store: &mut dyn Subject) {
    let is_unchanged = one_task(store);
    for _ in 0..3 {
        store.load(|wanted| *wanted = all_kinds());
    }
    store.now_and_after_a_crash(is_unchanged);
}

fn several_loads_belong_to_one_turn(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut last = task(1, &class);
    write().task(&last).commit(store);
    for progress in 1..=5 {
        let mut given = 0;
        for _ in 0..3 {
            let rows = store.store().load(&all_kinds()).expect("rows are given");
            given += rows.tasks.iter().filter(|task| ***task == last).count();
        }
        assert_eq!(given, 3, "in a turn the same rows are the same");
        let now = Task {
            progress,
            ..last.clone()
        };
        write().changed_task(&last, &now).commit(store);
        last = now;
    }
    store.now_and_after_a_crash(|store| assert_eq!(store.task(last.key).as_deref(), Some(&last)));
}

fn a_turn_that_was_given_up_leaves_nothing(store: &mut dyn Subject) {
    let is_unchanged = one_task(store);
    store.store().load(&all_kinds()).expect("rows are given");
    store.store().abandon();
    // Giving up twice, or nothing, is no harm.
    store.store().abandon();
    store.now_and_after_a_crash(is_unchanged);
}

fn a_turn_that_a_crash_cut_off_leaves_nothing(store: &mut dyn Subject) {
    let is_unchanged = one_task(store);
    store.store().load(&all_kinds()).expect("rows are given");
    store.reopen();
    is_unchanged(store);
    // And nothing of it stands in the way of the next turn.
    store.store().load(&all_kinds()).expect("rows are given");
    write().agent(None, &agent("agent")).commit(store);
    assert_eq!(store.census().agents.len(), 1);
}

fn a_reader_sees_what_is_committed_after_it_was_made(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let mut readers = [store.reader(), store.reader()];
    for number in 1..=5 {
        let new = task(number, &class);
        let seq = write().task(&new).event(event(1)).commit(store);
        for reader in &mut readers {
            assert_eq!(reader.last_seq().expect("it is read"), seq);
            let read = reader.task(&new.id).expect("a task is read");
            assert_eq!(*read.expect("it is there").task, new);
        }
    }
}

fn a_turn_without_changes_is_committed(store: &mut dyn Subject) {
    let is_unchanged = one_task(store);
    store.store().load(&all_kinds()).expect("rows are given");
    assert_eq!(store.commit(&Changes::default()), 1);
    // Where servers share the store, the turn has ended: another one is given the same rows.
    store.load(|wanted| *wanted = all_kinds());
    store.now_and_after_a_crash(is_unchanged);
}
