//! What is read of a task and no decision depends on: bodies, notes, endings.

use adjutant_core::set::rows::Ending;
use adjutant_core::task::{Body, Note, Status, Task, TaskKey, TaskResult};
use adjutant_core::time::Timestamp;

use crate::rows::{NAME, at, key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    every_field_of_a_body_survives,
    long_text_survives,
    payload_text_survives_byte_for_byte,
    notes_are_kept_in_the_order_of_their_arrival,
    an_ending_survives_with_every_field,
    an_ending_is_replaced_by_the_next_one,
    an_ending_is_cleared_by_one_that_says_nothing,
    details_come_in_the_order_asked_for,
    what_was_never_written_is_empty,
];

fn body_survives(store: &mut dyn Subject, body: &Body) {
    let class = store.class(&[]);
    let task = task(1, &class);
    write().task_with(&task, body.clone()).commit(store);
    store.now_and_after_a_crash(|store| {
        let read = store.read(&task.id).expect("the task is read");
        assert_eq!(*read.details.body, *body);
    });
}

fn every_field_of_a_body_survives(store: &mut dyn Subject) {
    body_survives(
        store,
        &Body {
            title: NAME.into(),
            description: format!("{NAME}\r\n\ttab, \u{1} \u{7f} \u{85} \u{2028} \u{feff} \u{10ffff}"),
            payload: Some("null".into()),
            files: vec!["src/main.rs".into(), NAME.into(), String::new()],
            dependencies: vec!["task_2".into(), "task_1".into(), "task_2".into()],
        },
    );
}

fn long_text_survives(store: &mut dyn Subject) {
    const MIB: usize = 1024 * 1024;
    body_survives(
        store,
        &Body {
            title: "名".repeat(500),
            description: "0123456789abcdé🦀".repeat(MIB / 19),
            payload: Some(format!("\"{}\"", "x".repeat(MIB - 2)).into()),
            files: vec!["f".repeat(1_000); 1_000],
            dependencies: (0..1_000).map(|number| format!("{number:0128}").into()).collect(),
        },
    );
}

fn payload_text_survives_byte_for_byte(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let texts = [
        "",
        "{}",
        "  {\"b\" :1.0,\"a\":\t[ ],\n\"b\": 2}  ",
        "1e400",
        "-0.0",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        r#""\u00e9é\/\ud83e\udd80🦀""#,
        "\"\\u0000\"",
    ];
    let ids: Vec<Task> = (1..).zip(texts).map(|(number, _)| task(number, &class)).collect();
    for (task, text) in ids.iter().zip(texts) {
        let body = Body {
            payload: Some(text.into()),
            ..Body::default()
        };
        write().task_with(task, body).commit(store);
    }
    store.now_and_after_a_crash(|store| {
        for (task, text) in ids.iter().zip(texts) {
            let read = store.read(&task.id).expect("the task is read");
            assert_eq!(read.details.body.payload.as_deref(), Some(text));
        }
    });
}

fn note(text: &str, at: Timestamp) -> Note {
    Note {
        at,
        author: NAME.into(),
        text: text.into(),
    }
}

fn notes_are_kept_in_the_order_of_their_arrival(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let (mut before, other) = (task(1, &class), task(2, &class));
    write().task(&before).task(&other).commit(store);
    let notes = [
        note("first", at(9)),
        note("second, at an earlier time", at(1)),
        note("", at(9)),
        note(&"long ".repeat(20_000), at(9)),
        note("fifth", Timestamp::NEVER),
    ];
    // Several in one turn, with one of another task between them, and the rest in turns of their own.
    let mut other_noted = other.clone();
    other_noted.notes = 1;
    let mut now = before.clone();
    now.notes = 2;
    write()
        .changed_task(&before, &now)
        .changed_task(&other, &other_noted)
        .note(before.key, notes[0].clone())
        .note(other.key, note("elsewhere", at(3)))
        .note(before.key, notes[1].clone())
        .commit(store);
    for note in &notes[2..] {
        before = now.clone();
        now.notes += 1;
        write()
            .changed_task(&before, &now)
            .note(before.key, note.clone())
            .commit(store);
    }
    store.now_and_after_a_crash(|store| {
        assert_eq!(store.read(&before.id).expect("it is read").details.notes, notes);
        let elsewhere = store.read(&other.id).expect("it is read").details.notes;
        assert_eq!(elsewhere, [note("elsewhere", at(3))]);
    });
}

fn result(output: &str) -> TaskResult {
    TaskResult {
        success: true,
        output: output.into(),
        artifacts: vec![NAME.into(), String::new()],
        error_message: NAME.into(),
    }
}

fn ending(of: TaskKey, result: Option<TaskResult>, fail_reason: Option<&str>) -> Ending {
    Ending {
        task: of,
        result,
        fail_reason: fail_reason.map(Into::into),
    }
}

/// Commits endings one after the other for a task that has failed, each seen before the next one.
fn endings_are_seen(store: &mut dyn Subject, endings: &[(Option<TaskResult>, Option<&str>)]) {
    let class = store.class(&[]);
    let failed = Task {
        status: Status::Failed,
        ..task(1, &class)
    };
    write().task(&failed).commit(store);
    for (result, reason) in endings {
        write()
            .ending(ending(failed.key, result.clone(), *reason))
            .commit(store);
        store.now_and_after_a_crash(|store| {
            let details = store.read(&failed.id).expect("the task is read").details;
            assert_eq!(details.result, *result);
            assert_eq!(details.fail_reason.as_deref(), *reason);
        });
    }
}

fn an_ending_survives_with_every_field(store: &mut dyn Subject) {
    endings_are_seen(store, &[(Some(result(NAME)), Some(NAME))]);
}

fn an_ending_is_replaced_by_the_next_one(store: &mut dyn Subject) {
    endings_are_seen(
        store,
        &[
            (Some(TaskResult::default()), Some("too slow")),
            (Some(result("second")), None),
            (None, Some("lost")),
            (None, Some("")),
            (Some(result("fifth")), Some("wrong")),
        ],
    );
}

fn an_ending_is_cleared_by_one_that_says_nothing(store: &mut dyn Subject) {
    endings_are_seen(store, &[(Some(result("first")), Some("wrong")), (None, None)]);
}

fn details_come_in_the_order_asked_for(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let tasks: Vec<Task> = (1..=5).map(|number| task(number, &class)).collect();
    write().tasks(&tasks).commit(store);
    let unknown = task(9, &class);
    let asked: Vec<_> = [4, 1, 3].map(|index: usize| tasks[index].clone().into()).into();
    let details = store.reader().details(&asked).expect("details are read");
    let titles: Vec<_> = details
        .iter()
        .map(|details| details.body.title.as_str())
        .collect();
    assert_eq!(titles, ["the task task_5", "the task task_2", "the task task_4"]);
    let nothing = store
        .reader()
        .details(&[unknown.into()])
        .expect("details are read");
    assert_eq!(nothing.len(), 1);
    assert_eq!(*nothing[0].body, Body::default());
}

fn what_was_never_written_is_empty(store: &mut dyn Subject) {
    let class = store.class(&[]);
    let failed = Task {
        status: Status::Failed,
        ..task(1, &class)
    };
    write().task_with(&failed, Body::default()).commit(store);
    store.now_and_after_a_crash(|store| {
        let details = store.read(&failed.id).expect("the task is read").details;
        assert_eq!(*details.body, Body::default());
        assert!(details.result.is_none() && details.fail_reason.is_none());
        assert!(details.notes.is_empty() && details.blockers.is_empty());
        assert_eq!(details.blockers_count, 0);
        assert!(store.reader().output(key(1)).expect("output is read").is_empty());
    });
}
