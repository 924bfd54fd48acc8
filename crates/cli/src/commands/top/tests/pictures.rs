//! How it looks.

use adjutant_client::Page;
use crossterm::event::KeyCode;
use ratatui::style::Color;
use serde_json::json;

use super::*;
use crate::commands::top::ask::{Answer, Ask, TaskNews, Trouble};
use crate::commands::top::deed::Deed;
use crate::commands::top::detail::{Detail, Part, Subject};
use crate::commands::top::keys::HELP;
use crate::commands::top::state::{Happening, Overlay, State};

#[test]
fn the_screen_shows_counts_agents_and_tasks() {
    for size in [(80, 24), (200, 50)] {
        let mut state = connected(size);
        state.update(Happening::Answer(agents(&["alpha", "beta"], None)));
        let waits = json!({"waiting": {"reason": "all_busy", "detail": "", "since": "2026-11-24T18:25:00Z"}});
        let items = vec![task("t-1", &waits), task("t-2", &json!({"status": "failed"}))];
        state.update(Happening::Answer(tasks(items, None)));
        let picture = picture(&state);
        for text in [
            "1,000,000 failed",
            "alpha",
            "busy",
            "1/4",
            "12s",
            "rust web",
            "t-1",
            "all_busy",
            "Title of t-2",
        ] {
            assert!(picture.contains(text), "{text}\n{picture}");
        }
        assert_eq!(picture.contains("PROJECT"), size.0 == 200);
        assert_eq!(picture.contains("5m"), size.0 == 200, "{picture}");
    }
}

#[test]
fn a_refusal_is_told_where_it_belongs() {
    let mut state = connected((80, 24));
    let no = || Trouble {
        why: "the role read is needed\u{1b}[31m".to_owned(),
        is_away: false,
        is_gone: false,
    };
    state.update(Happening::Answer(Answer::Agents(Err(no()))));
    state.update(Happening::Answer(named(&["a"], None)));
    let seen = picture(&state);
    assert!(
        seen.contains("the role read is needed\u{fffd}[31m") && seen.contains("Title of a"),
        "{seen}"
    );
    state.update(Happening::Answer(Answer::Counts(Err(no()))));
    assert!(picture(&state).contains("refused: the role"));
}

#[test]
fn hostile_text_reaches_the_screen_as_text() {
    for size in [(40, 12), (80, 24), (200, 50)] {
        let mut state = connected(size);
        let evil = "\u{1b}]0;x\u{7}\u{202e}\u{9b}2J漢字\r\n\u{200f}שלום e\u{301}👩\u{200d}💻\u{feff}";
        let fields = json!({
            "title": evil.repeat(20), "description": evil, "project": evil, "labels": [evil], "status": "failed",
            "fail_reason": evil, "result": {"success": false, "output": evil, "error_message": evil},
            "notes": [{"at": NOW, "author": evil, "text": evil}], "claimed_by": evil
        });
        let mut bad = agent(evil);
        bad.capabilities = vec![evil.repeat(10)];
        state.update(Happening::Answer(Answer::Agents(Ok(Page {
            items: vec![bad],
            next: None,
        }))));
        state.update(Happening::Answer(tasks(vec![task(evil, &fields)], None)));
        assert_harmless(&state);
        press(&mut state, KeyCode::Char('c'));
        assert_harmless(&state);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Char('/'));
        enter(&mut state, "\u{202e}\u{200f}");
        assert_harmless(&state);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Enter);
        for part in Part::OF_TASK {
            let event = json!({
                "seq": 3, "type": evil, "task_id": evil, "agent_id": evil, "timestamp": NOW, "payload": {"x": evil}
            });
            let Subject::Task { events, .. } = &state.detail.as_ref().unwrap().subject else {
                panic!()
            };
            let news = TaskNews {
                task: task(evil, &fields),
                since: events.last().map_or(0, |event| event.seq),
                events: vec![serde_json::from_str(&event.to_string()).unwrap()],
                explanation: None,
                output: Some(evil.repeat(100)),
            };
            let answer = Answer::Task {
                id: evil.to_owned(),
                found: Ok(Box::new(news)),
            };
            state.update(Happening::Answer(answer));
            state.detail.as_mut().unwrap().turn_to(part);
            assert_harmless(&state);
        }
    }
}

#[track_caller]
fn assert_harmless(state: &State) {
    let terminal = terminal(state, true);
    for cell in terminal.backend().buffer().content() {
        for c in cell.symbol().chars() {
            let steers =
                c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}');
            assert!(!steers, "{c:?} in {:?}", cell.symbol());
        }
    }
}

#[test]
fn every_size_has_a_picture() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(agents(&["alpha"], None)));
    state.update(Happening::Answer(named(&["a", "b"], None)));
    for with_page in [false, true] {
        state.detail = with_page.then(|| Detail::of_task("a".to_owned()));
        for overlay in [
            Overlay::None,
            Overlay::Help,
            Overlay::Confirm {
                deed: Deed::CancelAll,
                id: "x".repeat(128),
            },
        ] {
            state.overlay = overlay;
            for size in [
                (1, 1),
                (39, 50),
                (40, 12),
                (41, 13),
                (80, 24),
                (159, 40),
                (160, 12),
                (500, 200),
            ] {
                state.update(Happening::Resize(size.0, size.1));
                picture(&state);
            }
        }
    }
}

#[test]
fn without_colours_there_are_none_and_states_are_words() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(agents(&["alpha"], None)));
    state.update(Happening::Answer(named(&["a"], None)));
    let used = |colours| {
        let terminal = terminal(&state, colours);
        let cells = terminal.backend().buffer().content().to_vec();
        cells
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(used(true) && !used(false));
    assert!(picture(&state).contains("busy") && picture(&state).contains("pending"));
}

#[test]
fn a_page_asks_for_the_part_that_is_looked_at_and_for_new_events_alone() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(agents(&["alpha"], None)));
    state.update(Happening::Answer(named(&["a"], None)));
    let asks = press(&mut state, KeyCode::Enter);
    assert!(
        matches!(
            &asks[..],
            [Ask::Task {
                since: 0,
                output: false,
                ..
            }]
        ),
        "{asks:?}"
    );
    let event = |seq: u64, kind: &str| {
        let event = json!({
            "seq": seq, "type": kind, "task_id": "a", "agent_id": "alpha", "timestamp": NOW,
            "payload": {"attempt": 1}
        });
        serde_json::from_str(&event.to_string()).unwrap()
    };
    let news = |since, events, output: Option<&str>| Answer::Task {
        id: "a".to_owned(),
        found: Ok(Box::new(TaskNews {
            task: task("a", &json!({"status": "in_progress", "attempt": 1})),
            since,
            events,
            explanation: None,
            output: output.map(str::to_owned),
        })),
    };
    state.update(Happening::Answer(news(
        0,
        vec![event(5, "task_created"), event(6, "task_dispatched")],
        None,
    )));
    assert!(picture(&state).contains("Title of a"));
    press(&mut state, KeyCode::Char('2'));
    assert!(
        picture(&state).contains("alpha") && picture(&state).contains("runs"),
        "{}",
        picture(&state)
    );
    state.update(Happening::Answer(news(6, Vec::new(), None)));
    let asks = press(&mut state, KeyCode::Char('5'));
    assert!(
        matches!(
            &asks[..],
            [Ask::Task {
                since: 6,
                output: true,
                ..
            }]
        ),
        "{asks:?}"
    );
    let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    state.update(Happening::Answer(news(6, Vec::new(), Some(&lines.join("\n")))));
    let seen = picture(&state);
    assert!(
        seen.contains("line 99") && !seen.contains("line 9 "),
        "the end is shown: {seen}"
    );
    press(&mut state, KeyCode::Home);
    assert!(picture(&state).contains("line 0"));
    // What it prints is told by no event: it is asked for each second.
    let asks = state.update(Happening::Tick(moment(1_000)));
    assert!(asks.iter().any(|ask| matches!(ask, Ask::Task { .. })), "{asks:?}");
    let Subject::Task { events, .. } = &state.detail.as_ref().unwrap().subject else {
        panic!()
    };
    assert_eq!(events.len(), 2);
    press(&mut state, KeyCode::Esc);
    assert!(state.detail.is_none());
    // An answer that comes when the page was closed and opened again does not hide what was before it.
    press(&mut state, KeyCode::Enter);
    state.update(Happening::Answer(news(6, vec![event(7, "task_progress")], None)));
    let Subject::Task { events, .. } = &state.detail.as_ref().unwrap().subject else {
        panic!()
    };
    assert!(events.is_empty());
}

#[test]
fn a_task_that_is_gone_says_so() {
    let mut state = connected((80, 24));
    state.detail = Some(Detail::of_task("gone".to_owned()));
    state.update(Happening::Answer(Answer::Task {
        id: "gone".to_owned(),
        found: Err(Trouble {
            why: "no such task".to_owned(),
            is_away: false,
            is_gone: true,
        }),
    }));
    assert!(picture(&state).contains("gone is not there any more"));
}

#[test]
fn help_names_every_key_and_fits_a_small_terminal() {
    let mut state = connected((80, 24));
    press(&mut state, KeyCode::Char('?'));
    let seen = picture(&state);
    for (key, what) in HELP {
        assert!(seen.contains(key) && seen.contains(what), "{key} {what}\n{seen}");
    }
    press(&mut state, KeyCode::Char('q'));
    assert!(!state.is_over, "the first key closes the help");
    press(&mut state, KeyCode::Char('q'));
    assert!(state.is_over);
}
