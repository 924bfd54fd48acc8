//! Keys: what each does, where.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;

use super::ask::Ask;
use super::deed::Deed;
use super::detail::{Detail, Part, Subject};
use super::filter::{FleetFilter, QueueFilter};
use super::layout;
use super::state::{Focus, Overlay, State};
use super::view;

/// A filter longer than this is a mistake of the clipboard.
const MOST_TYPED: usize = 500;

/// What the help says: keys, and what they do.
pub(super) const HELP: &[(&str, &str)] = &[
    ("↑ ↓  PgUp PgDn", "move; at the end of a page to the next one"),
    ("Home  End", "first row, last row of the page"),
    ("Tab", "from the fleet to the queue and back"),
    ("Enter  Esc", "open a task or an agent, go back"),
    ("← →  1-5", "on a page: its parts"),
    ("/", "filter: words, and status:failed priority:high"),
    ("", "project:web agent:bob label:rust capability:go"),
    ("f", "filter by the next state"),
    ("s", "sort by something else"),
    ("c  C", "cancel a task; with all that depend on it"),
    ("r  l", "retry a task; release one that runs"),
    ("h  u", "hold a waiting task; let it start again"),
    ("d  u  l", "on agents: drain, undrain, lift a quarantine"),
    ("q  Ctrl-C", "quit"),
];

impl State {
    /// Takes a key in.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Ask> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            if key.code == KeyCode::Char('c') {
                self.is_over = true;
            }
            return None;
        }
        match std::mem::replace(&mut self.overlay, Overlay::None) {
            Overlay::Help => {}
            Overlay::Confirm { deed, id } => return self.decide(key.code, deed, id),
            Overlay::Typing { text, .. } => self.type_on(key.code, text),
            Overlay::None if self.detail.is_some() => self.press_on_page(key.code),
            Overlay::None => self.press_on_lists(key.code),
        }
        None
    }

    fn decide(&mut self, key: KeyCode, deed: Deed, id: String) -> Option<Ask> {
        match key {
            KeyCode::Char('y' | 'Y') => {
                self.deeds += 1;
                return Some(Ask::Do { deed, id });
            }
            KeyCode::Char('n' | 'N') | KeyCode::Esc => self.say("nothing was done".to_owned(), true),
            // Neither: the question stays.
            _ => self.overlay = Overlay::Confirm { deed, id },
        }
        None
    }

    fn type_on(&mut self, key: KeyCode, mut text: String) {
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => match self.narrow(&text) {
                Ok(()) => return,
                Err(why) => {
                    let wrong = Some(why);
                    self.overlay = Overlay::Typing { text, wrong };
                    return;
                }
            },
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(c) if text.len() < MOST_TYPED && !c.is_control() => text.push(c),
            _ => {}
        }
        self.overlay = Overlay::Typing { text, wrong: None };
    }

    fn narrow(&mut self, text: &str) -> Result<(), String> {
        match self.focus {
            Focus::Fleet => self.fleet.narrow(FleetFilter::parse(text)?),
            Focus::Queue => self.queue.narrow(QueueFilter::parse(text)?),
        }
        Ok(())
    }

    fn press_on_lists(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Char('?') => self.overlay = Overlay::Help,
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus = match self.focus {
                    Focus::Fleet => Focus::Queue,
                    Focus::Queue => Focus::Fleet,
                };
            }
            KeyCode::Enter => self.open(),
            KeyCode::Char('/') => {
                let text = match self.focus {
                    Focus::Fleet => self.fleet.filter().to_string(),
                    Focus::Queue => self.queue.filter().to_string(),
                };
                self.overlay = Overlay::Typing { text, wrong: None };
            }
            KeyCode::Esc => {
                // Nothing is open: all is shown again.
                self.narrow("").unwrap_or_default();
            }
            KeyCode::Char('f') => match self.focus {
                Focus::Fleet => {
                    let mut filter = self.fleet.filter().clone();
                    filter.turn_status();
                    self.fleet.narrow(filter);
                }
                Focus::Queue => {
                    let mut filter = self.queue.filter().clone();
                    filter.turn_status();
                    self.queue.narrow(filter);
                }
            },
            KeyCode::Char('s') => match self.focus {
                Focus::Fleet => self.fleet.sort_by(self.fleet.sort().next()),
                Focus::Queue => self.queue.sort_by(self.queue.sort().next()),
            },
            KeyCode::Char(c) if self.propose(c) => {}
            _ => self.move_mark(key),
        }
    }

    fn move_mark(&mut self, key: KeyCode) {
        macro_rules! list {
            (|$list:ident| $move:expr) => {
                match self.focus {
                    Focus::Fleet => {
                        let $list = &mut self.fleet;
                        $move
                    }
                    Focus::Queue => {
                        let $list = &mut self.queue;
                        $move
                    }
                }
            };
        }
        match key {
            KeyCode::Down | KeyCode::Char('j') => list!(|list| list.down()),
            KeyCode::Up | KeyCode::Char('k') => list!(|list| list.up()),
            KeyCode::PageDown => list!(|list| list.pane_down()),
            KeyCode::PageUp => list!(|list| list.pane_up()),
            KeyCode::Home => list!(|list| list.first_page()),
            KeyCode::End => list!(|list| list.last_row()),
            _ => {}
        }
    }

    fn open(&mut self) {
        let detail = match self.focus {
            Focus::Fleet => self
                .fleet
                .marked()
                .map(|agent| Detail::of_agent(agent.id.clone())),
            Focus::Queue => self.queue.marked().map(|task| Detail::of_task(task.id.clone())),
        };
        if detail.is_some() {
            self.show(detail);
        }
    }

    /// Asks before it does what the key stands for; false when it stands for nothing.
    fn propose(&mut self, key: char) -> bool {
        let on_agent = match &self.detail {
            Some(detail) => matches!(detail.subject, Subject::Agent { .. }),
            None => self.focus == Focus::Fleet,
        };
        let deed = if on_agent {
            Deed::on_agent(key)
        } else {
            Deed::on_task(key)
        };
        let Some(deed) = deed else { return false };
        let id = match &self.detail {
            Some(detail) => Some(detail.id().to_owned()),
            None if on_agent => self.fleet.marked().map(|agent| agent.id.clone()),
            None => self.queue.marked().map(|task| task.id.clone()),
        };
        if let Some(id) = id {
            self.overlay = Overlay::Confirm { deed, id };
        }
        true
    }

    fn press_on_page(&mut self, key: KeyCode) {
        match key {
            KeyCode::Esc | KeyCode::Char('q') => self.show(None),
            KeyCode::Char('?') => self.overlay = Overlay::Help,
            KeyCode::Right | KeyCode::Tab => self.turn(1),
            KeyCode::Left | KeyCode::BackTab => {
                let parts = self.detail.as_ref().map_or(1, |detail| detail.parts().len());
                self.turn(parts - 1);
            }
            KeyCode::Char(digit @ '1'..='5') => {
                let place = usize::from(digit as u8 - b'1');
                if let Some(detail) = &mut self.detail
                    && let Some(part) = detail.parts().get(place)
                {
                    detail.turn_to(*part);
                }
            }
            KeyCode::Char(c) if self.propose(c) => {}
            _ => self.scroll(key),
        }
    }

    fn turn(&mut self, by: usize) {
        if let Some(detail) = &mut self.detail {
            detail.turn(by);
        }
    }

    fn scroll(&mut self, key: KeyCode) {
        let (columns, rows) = self.size;
        let Some(detail) = &mut self.detail else { return };
        let place = layout::page(Rect::new(0, 0, columns, rows), detail.parts().len() > 1);
        let (width, height) = layout::inside(place.part);
        let part = if place.facts.is_some() && detail.part == Part::Facts {
            Part::Attempts
        } else {
            detail.part
        };
        let lines = view::wrap(&detail.text(part, width), width).len();
        let last = lines.saturating_sub(height);
        let first = detail.scroll.unwrap_or(last).min(last);
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => first + 1,
            KeyCode::Up | KeyCode::Char('k') => first.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => first + height,
            KeyCode::PageUp => first.saturating_sub(height),
            KeyCode::Home => 0,
            KeyCode::End => usize::MAX,
            _ => return,
        };
        let grows = matches!(detail.part, Part::Events | Part::Output);
        // At its end it goes along with what comes.
        detail.scroll = if to >= last && grows {
            None
        } else {
            Some(to.min(last))
        };
    }
}
