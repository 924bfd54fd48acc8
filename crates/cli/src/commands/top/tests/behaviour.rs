//! What keys, time and answers do to the state, and what is asked for then.

use adjutant_client::Page;
use crossterm::event::KeyCode;
use serde_json::json;

use super::*;
use crate::commands::top::ask::{Answer, Ask};
use crate::commands::top::deed::Deed;
use crate::commands::top::layout;
use crate::commands::top::list::WINDOW;
use crate::commands::top::state::{Focus, Happening, Overlay};

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
    let rows = layout::rows((80, 24)).0;
    let ids: Vec<String> = (0..rows).map(|n| format!("agent-{n:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    state.update(Happening::Answer(agents(&ids, Some("limit=6&cursor=x"))));
    assert!(picture(&state).contains("page 1, more below"));
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
fn page_keys_go_through_a_window_pane_by_pane_and_then_to_the_next_page() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a"], None)));
    press(&mut state, KeyCode::Char('s'));
    let ids: Vec<String> = (0..25).map(|n| format!("t-{n:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    state.update(Happening::Answer(named(&ids, Some("more"))));
    let rows = layout::rows((80, 24)).1;
    let first = |state: &State| state.queue.visible().0[0].id.clone();
    press(&mut state, KeyCode::PageDown);
    assert_eq!(
        (first(&state), &*state.queue.marked().unwrap().id),
        (ids[rows].to_owned(), ids[rows])
    );
    press(&mut state, KeyCode::PageDown);
    assert_eq!(first(&state), ids[25 - rows]);
    press(&mut state, KeyCode::PageUp);
    press(&mut state, KeyCode::PageUp);
    assert_eq!(first(&state), ids[0]);
    press(&mut state, KeyCode::PageDown);
    press(&mut state, KeyCode::PageDown);
    let asks = press(&mut state, KeyCode::PageDown);
    assert!(
        matches!(&asks[..], [Ask::Tasks { cursor: Some(cursor), .. }] if cursor == "more"),
        "{asks:?}"
    );
    state.update(Happening::Answer(named(&["u"], None)));
    let asks = press(&mut state, KeyCode::PageUp);
    assert!(matches!(asks[..], [Ask::Tasks { cursor: None, .. }]), "{asks:?}");
}

#[test]
fn keys_that_are_faster_than_the_server_do_not_skip_a_page() {
    let mut state = connected((80, 24));
    state.update(Happening::Answer(named(&["a"], Some("second"))));
    press(&mut state, KeyCode::Down);
    state.update(Happening::Answer(named(&["b"], Some("third"))));
    // Back, and down again before the first page has come.
    press(&mut state, KeyCode::Up);
    press(&mut state, KeyCode::Down);
    let (page, more) = state.queue.page();
    assert_eq!((page, more), (1, false));
    state.update(Happening::Answer(named(&["a"], Some("second"))));
    let asks = press(&mut state, KeyCode::Down);
    assert!(
        matches!(&asks[..], [Ask::Tasks { cursor: Some(cursor), .. }] if cursor == "second"),
        "{asks:?}"
    );
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
        picture.contains("by priority · 200 rows at a time · page 1, more below"),
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
