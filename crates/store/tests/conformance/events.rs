//! Events: numbered in the order of commits, without gaps, and read by number.

use adjutant_core::event::{Event, EventKind};
use adjutant_core::money::Money;
use adjutant_core::set::rows::{Changes, NewEvent, Value};
use adjutant_core::task::TaskKey;
use adjutant_core::time::Timestamp;

use crate::rows::{NAME, at, event, key, task};
use crate::subject::Subject;
use crate::write::{Write, agent_id, write};

for_every_store![
    every_field_of_an_event_survives,
    every_kind_of_event_survives,
    events_are_numbered_without_gaps_over_commits_and_crashes,
    a_commit_gives_the_number_of_its_last_event,
    a_turn_that_is_given_up_takes_no_numbers,
    events_are_read_behind_a_number_up_to_a_limit,
    events_of_a_task_are_read_apart_from_others,
    numbers_and_limits_as_large_as_can_be_are_read,
    a_payload_is_the_json_of_its_values_in_order,
];

fn all(store: &mut dyn Subject) -> Vec<Event> {
    store.reader().events(0, 10_000).expect("events are read")
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

fn numbered(write: Write, numbers: impl IntoIterator<Item = i64>) -> Write {
    numbers
        .into_iter()
        .fold(write, |write, number| write.event(event(number)))
}

fn every_field_of_an_event_survives(store: &mut dyn Subject) {
    let full = NewEvent {
        kind: EventKind::TaskDispatched,
        task: Some((TaskKey(i64::MAX), "task:1".into())),
        agent: Some(agent_id(NAME)),
        at: Timestamp::NEVER,
        payload: vec![("attempt", Value::Number(1))],
    };
    let bare = event(7);
    assert_eq!(write().event(full.clone()).event(bare.clone()).commit(store), 2);
    let expected = [
        Event {
            seq: 1,
            kind: full.kind,
            task: full.task,
            agent: full.agent,
            at: full.at,
            payload: Some(r#"{"attempt":1}"#.into()),
        },
        Event {
            seq: 2,
            kind: bare.kind,
            task: None,
            agent: None,
            at: bare.at,
            payload: None,
        },
    ];
    store.now_and_after_a_crash(|store| assert_eq!(all(store), expected));
}

fn every_kind_of_event_survives(store: &mut dyn Subject) {
    EventKind::ALL
        .iter()
        .fold(write(), |write, kind| {
            write.event(NewEvent {
                kind: *kind,
                ..event(1)
            })
        })
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let kinds: Vec<EventKind> = all(store).iter().map(|event| event.kind).collect();
        assert_eq!(kinds, EventKind::ALL);
    });
}

fn events_are_numbered_without_gaps_over_commits_and_crashes(store: &mut dyn Subject) {
    let mut count = 0;
    for round in 0..5 {
        for size in [1, 0, 3, 2] {
            count += size;
            numbered(write(), (0..size).map(|number| number + count))
                .note(key(1), note())
                .commit(store);
        }
        // A crash in the middle of a turn, and one after another.
        store.store().load(&wanted()).expect("rows are given");
        store.reopen();
        if round % 2 == 0 {
            store.reopen();
        }
        let expected: Vec<u64> = (1..=count.unsigned_abs()).collect();
        assert_eq!(seqs(&all(store)), expected);
        assert_eq!(
            store.reader().last_seq().expect("it is read"),
            count.unsigned_abs()
        );
    }
}

fn wanted() -> adjutant_core::set::rows::Wanted {
    adjutant_core::set::rows::Wanted {
        tasks: [key(1)].into(),
        ..Default::default()
    }
}

fn note() -> adjutant_core::task::Note {
    adjutant_core::task::Note {
        at: at(0),
        author: "admin".into(),
        text: String::new(),
    }
}

fn a_commit_gives_the_number_of_its_last_event(store: &mut dyn Subject) {
    let class = store.class(&[]);
    assert_eq!(store.reader().last_seq().expect("it is read"), 0);
    assert_eq!(store.commit(&Changes::default()), 0);
    assert_eq!(write().task(&task(1, &class)).commit(store), 0);
    assert_eq!(numbered(write(), 0..3).commit(store), 3);
    assert_eq!(store.commit(&Changes::default()), 3);
    assert_eq!(write().task(&task(2, &class)).commit(store), 3);
    store.reopen();
    assert_eq!(store.commit(&Changes::default()), 3);
    assert_eq!(numbered(write(), 0..1).commit(store), 4);
    assert_eq!(store.reader().last_seq().expect("it is read"), 4);
}

fn a_turn_that_is_given_up_takes_no_numbers(store: &mut dyn Subject) {
    numbered(write(), 0..2).commit(store);
    for _ in 0..3 {
        store.load(|wanted| *wanted = self::wanted());
    }
    assert_eq!(numbered(write(), 0..1).commit(store), 3);
}

fn events_are_read_behind_a_number_up_to_a_limit(store: &mut dyn Subject) {
    numbered(write(), 0..4).commit(store);
    numbered(write(), 4..10).commit(store);
    let mut reader = store.reader();
    for since in 0..12 {
        for limit in 0..12 {
            let events = reader.events(since, limit).expect("events are read");
            let expected: Vec<u64> = (since + 1..=10).take(limit).collect();
            assert_eq!(seqs(&events), expected, "{limit} behind {since}");
        }
    }
}

fn events_of_a_task_are_read_apart_from_others(store: &mut dyn Subject) {
    let of = |task: i64| NewEvent {
        task: Some((key(task), format!("task_{task}").into())),
        ..event(task)
    };
    for _ in 0..5 {
        write().event(of(1)).event(event(0)).event(of(2)).commit(store);
    }
    store.now_and_after_a_crash(|store| {
        let mut reader = store.reader();
        for (task, own) in [(1, [1, 4, 7, 10, 13]), (2, [3, 6, 9, 12, 15])] {
            for since in 0..16 {
                for limit in 0..7 {
                    let events = reader
                        .task_events(key(task), since, limit)
                        .expect("events are read");
                    let expected: Vec<u64> = own.into_iter().filter(|seq| *seq > since).take(limit).collect();
                    assert_eq!(seqs(&events), expected);
                    let before = since;
                    let events = reader
                        .task_events_before(key(task), before, limit)
                        .expect("events are read");
                    let own = own.into_iter().rev();
                    let expected: Vec<u64> = own.filter(|seq| *seq < before).take(limit).collect();
                    assert_eq!(seqs(&events), expected);
                }
            }
        }
        assert_eq!(reader.task_events(key(3), 0, 10).expect("events are read"), []);
    });
}

fn numbers_and_limits_as_large_as_can_be_are_read(store: &mut dyn Subject) {
    let own = NewEvent {
        task: Some((key(1), "task_1".into())),
        ..event(1)
    };
    write().event(own).commit(store);
    let mut reader = store.reader();
    assert_eq!(reader.events(0, usize::MAX).expect("events are read").len(), 1);
    assert_eq!(
        reader
            .task_events(key(1), 0, usize::MAX)
            .expect("events are read")
            .len(),
        1
    );
    assert_eq!(reader.events(u64::MAX, 10).expect("events are read"), []);
    assert_eq!(
        reader.task_events(key(1), u64::MAX, 10).expect("events are read"),
        []
    );
    let latest = reader.task_events_before(key(1), u64::MAX, usize::MAX);
    assert_eq!(latest.expect("events are read").len(), 1);
}

fn a_payload_is_the_json_of_its_values_in_order(store: &mut dyn Subject) {
    let time: Timestamp = "2026-11-24T18:30:00.5Z".parse().expect("it is a time");
    let payload = vec![
        ("z_first", Value::Text("a \"quoted\" \\ line\n\u{1} é🦀".into())),
        ("number", Value::Number(u64::MAX)),
        ("whole", Value::Money(Money::from_nanos(20_000_000))),
        ("part", Value::Money(Money::from_nanos(15_000_001))),
        ("at", Value::Time(time)),
        ("a_last", Value::Text(String::new())),
    ];
    let told = NewEvent { payload, ..event(1) };
    write().event(told).commit(store);
    let text = concat!(
        r#"{"z_first":"a \"quoted\" \\ line\n\u0001 é🦀","number":18446744073709551615,"#,
        r#""whole":2,"part":1.5000001,"at":"2026-11-24T18:30:00.500000Z","a_last":""}"#
    );
    store.now_and_after_a_crash(|store| assert_eq!(all(store)[0].payload.as_deref(), Some(text)));
}
