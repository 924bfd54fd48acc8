//! The state and its pictures, without a terminal and without a server.

mod behaviour;
mod pictures;

use std::time::Duration;

use adjutant_client::Page;
use adjutant_core::time::Timestamp;
use adjutant_wire::{Agent, FleetStatus, Task};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::ask::{Answer, Ask, Trouble};
use super::filter::QueueFilter;
use super::state::{Happening, Moment, State};
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
