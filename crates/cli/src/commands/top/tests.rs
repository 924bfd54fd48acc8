//! The state and its pictures, without a terminal and without a server.

use std::time::Duration;

use adjutant_client::Page;
use adjutant_core::time::Timestamp;
use adjutant_wire::{Agent, FleetStatus, Task};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::ask::{Answer, Ask, TaskNews, Trouble};
use super::deed::Deed;
use super::detail::{Detail, Part, Subject};
use super::filter::QueueFilter;
use super::list::WINDOW;
use super::state::{Focus, Happening, Moment, Overlay, State};
use super::view::{self, Theme};

const NOW: &str = "2026-11-24T18:30:00Z";

fn moment(millis: u64) -> Moment {
    let clock: Timestamp = NOW.parse().unwrap();
    Moment {
        at: Duration::from_millis(millis),
        clock,
    }
}

fn state_of(size: (u16, u16)) -> State {
    State::new(
        "http://127.0.0.1:7717".to_owned(),
        QueueFilter::default(),
        size,
        moment(0),
    )
}

/// A state that has heard of the server, and of nothing else.
fn connected(size: (u16, u16)) -> State {
    let mut state = state_of(size);
    let asks = state.update(Happening::Tick(moment(0)));
    assert!(matches!(asks[..], [Ask::Counts]), "{asks:?}");
    state.update(Happening::Answer(counts(1)));
    state
}

fn counts(last_seq: u64) -> Answer {
    let tasks = [("pending", 2), ("failed", 1_000_000)];
    Answer::Counts(Ok(FleetStatus {
        agents: Vec::new(),
        tasks: tasks.map(|(name, n)| (name.to_owned(), n)).into(),
        last_seq,
    }))
}

fn agent(id: &str) -> Agent {
    serde_json::from_value(json!({
        "id": id, "name": id, "capabilities": ["rust", "web"], "models": [], "status": "busy",
        "last_heartbeat": "2026-11-24T18:29:48Z", "current_load": 1, "max_load": 4, "paused_until": null,
        "quarantined_until": null, "metadata": null, "registered_at": NOW
    }))
    .unwrap()
}

fn task(id: &str, more: &Value) -> Task {
    let mut task = json!({
        "id": id, "title": format!("Title of {id}"), "status": "pending", "priority": "high",
        "created_at": NOW, "updated_at": NOW
    });
    for (name, value) in more.as_object().unwrap() {
        task[name] = value.clone();
    }
    serde_json::from_str(&task.to_string()).unwrap()
}

fn agents(ids: &[&str], next: Option<&str>) -> Answer {
    Answer::Agents(Ok(Page {
        items: ids.iter().map(|id| agent(id)).collect(),
        next: next.map(str::to_owned),
    }))
}

fn tasks(items: Vec<Task>, next: Option<&str>) -> Answer {
    Answer::Tasks(Ok(Page {
        items,
        next: next.map(str::to_owned),
    }))
}

fn named(ids: &[&str], next: Option<&str>) -> Answer {
    tasks(ids.iter().map(|id| task(id, &json!({}))).collect(), next)
}

fn away() -> Trouble {
    Trouble {
        why: "cannot reach http://127.0.0.1:7717".to_owned(),
        is_away: true,
        is_gone: false,
    }
}

fn press(state: &mut State, code: KeyCode) -> Vec<Ask> {
    state.update(Happening::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn enter(state: &mut State, text: &str) {
    for c in text.chars() {
        press(state, KeyCode::Char(c));
    }
}

fn terminal(state: &State, colours: bool) -> Terminal<TestBackend> {
    let (columns, rows) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal
        .draw(|frame| view::draw(frame, state, Theme::new(colours)))
        .unwrap();
    terminal
}

fn picture(state: &State) -> String {
    terminal(state, true).backend().to_string()
}

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
fn each_list_is_asked_for_at_most_once_a_second() {
    let mut state = state_of((80, 24));
    let (mut counted, mut of_agents, mut of_tasks) = (0, 0, 0);
    for tick in 0..100_u64 {
        let mut asks = state.update(Happening::Tick(moment(tick * 100)));
        while let Some(ask) = asks.pop() {
            let answer = match ask {
                Ask::Counts => {
                    counted += 1;
                    counts(tick)
                }
                Ask::Agents { .. } => {
                    of_agents += 1;
                    agents(&["a"], None)
                }
                Ask::Tasks { .. } => {
                    of_tasks += 1;
                    named(&["t"], None)
                }
                other => panic!("{other:?}"),
            };
            asks.extend(state.update(Happening::Answer(answer)));
        }
    }
    assert!(
        counted == 10 && of_agents <= 10 && of_tasks <= 10,
        "{counted} {of_agents} {of_tasks}"
    );
    assert!(of_tasks >= 9, "{of_tasks}");
}

#[test]
fn of_a_big_fleet_only_what_is_shown_is_asked_for() {
    let mut state = connected((80, 24));
    state.focus = Focus::Fleet;
    let rows = super::layout::rows((80, 24)).0;
    let ids: Vec<String> = (0..rows).map(|n| format!("agent-{n:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    state.update(Happening::Answer(agents(&ids, Some("limit=6&cursor=x"))));
    assert!(picture(&state).contains("page 1, of more"));
    for _ in 1..rows {
        assert!(press(&mut state, KeyCode::Down).is_empty());
    }
    let asks = press(&mut state, KeyCode::Down);
    let Some(Ask::Agents { cursor, limit, .. }) = asks.first() else {
        panic!("{asks:?}")
    };
    assert_eq!(
        (cursor.as_deref(), *limit),
        (Some("limit=6&cursor=x"), u32::try_from(rows).unwrap())
    );
    state.update(Happening::Answer(agents(&["zulu"], None)));
    let picture = picture(&state);
    assert!(
        picture.contains("zulu") && picture.contains("page 2, the last"),
        "{picture}"
    );
    // And back again: to the last row of the page before.
    let asks = press(&mut state, KeyCode::Up);
    assert!(matches!(asks[..], [Ask::Agents { cursor: None, .. }]), "{asks:?}");
    state.update(Happening::Answer(agents(&ids, Some("more"))));
    assert_eq!(state.fleet.marked().unwrap().id, ids[rows - 1]);
}

#[test]
fn the_mark_stays_on_its_row_when_others_come_and_go() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a", "b", "c"], None)));
    press(&mut state, KeyCode::Down);
    assert_eq!(state.queue.marked().unwrap().id, "b");
    state.queue.take(Page {
        items: ["x", "y", "a", "b"].map(|id| task(id, &json!({}))).into(),
        next: None,
    });
    assert_eq!(state.queue.marked().unwrap().id, "b");
    state.queue.take(Page {
        items: vec![task("x", &json!({}))],
        next: None,
    });
    assert_eq!(state.queue.marked().unwrap().id, "x");
}

#[test]
fn sorting_and_words_look_at_a_window_and_say_so() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a"], Some("more"))));
    let asks = press(&mut state, KeyCode::Char('s'));
    assert!(
        matches!(
            asks[..],
            [Ask::Tasks {
                limit: WINDOW,
                cursor: None,
                ..
            }]
        ),
        "{asks:?}"
    );
    let items = vec![
        task("low", &json!({"priority": "low"})),
        task("top", &json!({"priority": "critical"})),
    ];
    state.update(Happening::Answer(tasks(items, Some("more"))));
    assert_eq!(state.queue.marked().unwrap().id, "top");
    let picture = picture(&state);
    assert!(
        picture.contains("by priority · 200 rows at a time · page 1, of more"),
        "{picture}"
    );
}

#[test]
fn a_filter_asks_the_server_for_what_it_knows_and_looks_for_the_rest() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a"], None)));
    press(&mut state, KeyCode::Char('/'));
    enter(&mut state, "status:done");
    press(&mut state, KeyCode::Enter);
    assert!(picture(&state).contains("write one of"), "{}", picture(&state));
    for _ in 0.."done".len() {
        press(&mut state, KeyCode::Backspace);
    }
    enter(&mut state, "failed needle");
    let asks = press(&mut state, KeyCode::Enter);
    let Some(Ask::Tasks { filter, .. }) = asks.first() else {
        panic!("{asks:?}")
    };
    assert_eq!(filter.status.unwrap().name(), "failed");
    let items = vec![task("a", &json!({})), task("b", &json!({"title": "A Needle"}))];
    state.update(Happening::Answer(tasks(items, None)));
    assert_eq!(state.queue.shown().len(), 1);
    assert!(picture(&state).contains("status:failed needle"));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.queue.filter().to_string(), "");
    press(&mut state, KeyCode::Char('f'));
    assert_eq!(state.queue.filter().to_string(), "status:pending");
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a", "b"], None)));
    press(&mut state, KeyCode::Down);
    assert!(press(&mut state, KeyCode::Char('c')).is_empty());
    assert!(picture(&state).contains("Cancel task b?"), "{}", picture(&state));
    // Another key leaves the question, and is no answer.
    assert!(press(&mut state, KeyCode::Enter).is_empty());
    assert!(matches!(state.overlay, Overlay::Confirm { .. }));
    assert!(press(&mut state, KeyCode::Char('n')).is_empty());
    assert_eq!(state.overlay, Overlay::None);
    press(&mut state, KeyCode::Char('c'));
    let asks = press(&mut state, KeyCode::Char('y'));
    assert!(
        matches!(&asks[..], [Ask::Do { deed: Deed::Cancel, id }] if id == "b"),
        "{asks:?}"
    );
    let done = Answer::Done {
        id: "b".to_owned(),
        status: Ok("cancelled"),
    };
    let asks = state.update(Happening::Answer(done));
    assert!(
        asks.iter().any(|ask| matches!(ask, Ask::Tasks { .. })),
        "what changed is looked at: {asks:?}"
    );
    assert!(picture(&state).contains("b is cancelled"));
    state.update(Happening::Tick(moment(60_000)));
    assert!(!picture(&state).contains("b is cancelled"));
}

#[test]
fn keys_on_the_fleet_are_about_agents() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(agents(&["alpha"], None)));
    press(&mut state, KeyCode::Tab);
    assert!(press(&mut state, KeyCode::Char('c')).is_empty());
    assert_eq!(state.overlay, Overlay::None);
    for (key, deed) in [('d', Deed::Drain), ('u', Deed::Undrain), ('l', Deed::Lift)] {
        press(&mut state, KeyCode::Char(key));
        let asks = press(&mut state, KeyCode::Char('y'));
        assert!(
            matches!(&asks[..], [Ask::Do { deed: asked, .. }] if *asked == deed),
            "{asks:?}"
        );
    }
}

#[test]
fn a_server_that_is_away_is_told_of_and_asked_again_until_it_is_back() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(agents(&["alpha"], None)));
    state.update(Happening::Answer(named(&["a"], None)));
    let mut asked = 0;
    for tick in 10..70 {
        for ask in state.update(Happening::Tick(moment(tick * 100))) {
            assert!(matches!(ask, Ask::Counts), "{ask:?}");
            asked += 1;
            state.update(Happening::Answer(Answer::Counts(Err(away()))));
        }
    }
    assert_eq!(asked, 6);
    let seen = picture(&state);
    assert!(
        seen.contains("away for 5 s, trying again: cannot reach"),
        "{seen}"
    );
    assert!(seen.contains("alpha"), "what was known stays");
    state.update(Happening::Tick(moment(7_000)));
    let asks = state.update(Happening::Answer(counts(2)));
    assert_eq!(asks.len(), 2, "all that is shown is old: {asks:?}");
    assert!(!picture(&state).contains("away"));
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
            let news = TaskNews {
                task: task(evil, &fields),
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
    let news = |events, output: Option<&str>| Answer::Task {
        id: "a".to_owned(),
        found: Ok(Box::new(TaskNews {
            task: task("a", &json!({"status": "in_progress", "attempt": 1})),
            events,
            explanation: None,
            output: output.map(str::to_owned),
        })),
    };
    state.update(Happening::Answer(news(
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
    state.update(Happening::Answer(news(Vec::new(), None)));
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
    state.update(Happening::Answer(news(Vec::new(), Some(&lines.join("\n")))));
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
    for (key, what) in super::keys::HELP {
        assert!(seen.contains(key) && seen.contains(what), "{key} {what}\n{seen}");
    }
    press(&mut state, KeyCode::Char('q'));
    assert!(!state.is_over, "the first key closes the help");
    press(&mut state, KeyCode::Char('q'));
    assert!(state.is_over);
}
