//! The fleet and the queue as tables.

use adjutant_core::time::{Span as Time, Timestamp};
use adjutant_wire::{Agent, Task};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::theme::Theme;
use crate::commands::agent::load;
use crate::commands::task::standing;
use crate::commands::top::list::{List, WINDOW};
use crate::commands::top::rows::{Row, tokens};
use crate::commands::top::state::{Focus, State};
use crate::text::{clip, clip_id, columns, dollars, number, one_line, or_dash};

/// From so many columns on tables have all columns.
const ROOMY: usize = 150;
const GAP: &str = "  ";

/// A column: heading, width, and whether it stands right. A width of 0 is what the others leave.
type Column = (&'static str, usize, bool);
/// A cell: its text, and how it looks.
type Cell = (String, Style);

/// Draws the fleet.
pub(super) fn fleet(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let roomy = usize::from(area.width) >= ROOMY;
    let columns: &[Column] = if roomy {
        &[
            ("AGENT", 36, false),
            ("STATUS", 11, false),
            ("LOAD", 8, true),
            ("SEEN", 5, true),
            ("NOTE", 30, false),
            ("MODELS", 24, false),
            ("CAPABILITIES", 0, false),
        ]
    } else {
        &[
            ("AGENT", 24, false),
            ("STATUS", 11, false),
            ("LOAD", 7, true),
            ("SEEN", 5, true),
            ("CAPABILITIES", 0, false),
        ]
    };
    let now = state.now.clock;
    let row = |agent: &Agent| -> Vec<Cell> {
        let plain = |text: String| (text, Style::new());
        let mut cells = vec![
            plain(agent.id.clone()),
            (agent.status.name().to_owned(), theme.of_agent(agent.status)),
            plain(load(agent)),
            plain(age(agent.last_heartbeat, now)),
        ];
        if roomy {
            cells.push((note(agent, now), theme.odd()));
            cells.push(plain(if agent.models.is_empty() {
                "any".to_owned()
            } else {
                agent.models.join(" ")
            }));
        }
        cells.push(plain(or_dash(&agent.capabilities.join(" "))));
        cells
    };
    let title = title(
        "Fleet",
        &state.fleet,
        &state.fleet.filter().to_string(),
        state.fleet.sort().name(),
    );
    let focused = state.focus == Focus::Fleet;
    let pane = Pane {
        area,
        title,
        focused,
        empty: "no agents",
    };
    pane.draw(frame, columns, &state.fleet, theme, row);
}

/// Draws the queue.
pub(super) fn queue(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let roomy = usize::from(area.width) >= ROOMY;
    let columns: &[Column] = if roomy {
        &[
            ("ID", 41, false),
            ("STATUS", 11, false),
            ("PRIORITY", 8, false),
            ("AGENT OR REASON", 24, false),
            ("FOR", 5, true),
            ("%", 3, true),
            ("TRY", 3, true),
            ("TOKENS", 11, true),
            ("COST", 9, true),
            ("PROJECT", 14, false),
            ("TITLE", 0, false),
        ]
    } else {
        &[
            ("ID", 16, false),
            ("STATUS", 11, false),
            ("PRIORITY", 8, false),
            ("AGENT OR REASON", 16, false),
            ("TITLE", 0, false),
        ]
    };
    let now = state.now.clock;
    let row = |task: &Task| -> Vec<Cell> {
        let plain = |text: String| (text, Style::new());
        let mut cells = vec![
            plain(task.id.clone()),
            (task.status.name().to_owned(), theme.of_task(task.status)),
            plain(task.priority.name().to_owned()),
            plain(standing(task)),
        ];
        if roomy {
            cells.extend(
                [
                    age(since(task), now),
                    task.progress.to_string(),
                    task.attempt.to_string(),
                    number(tokens(task)),
                    dollars(task.usage.cost),
                    or_dash(task.project.as_deref().unwrap_or_default()),
                ]
                .map(plain),
            );
        }
        cells.push(plain(task.title.clone()));
        cells
    };
    let title = title(
        "Queue",
        &state.queue,
        &state.queue.filter().to_string(),
        state.queue.sort().name(),
    );
    let focused = state.focus == Focus::Queue;
    let pane = Pane {
        area,
        title,
        focused,
        empty: "no tasks",
    };
    pane.draw(frame, columns, &state.queue, theme, row);
}

/// Since when a task is where it is.
fn since(task: &Task) -> Timestamp {
    let claimed = task.claimed_at.filter(|_| !task.status.is_terminal());
    let waits = task.waiting.as_ref().map(|waiting| waiting.since);
    claimed.or(waits).unwrap_or(task.updated_at)
}

fn note(agent: &Agent, now: Timestamp) -> String {
    let left = |until: Timestamp| age(now, until);
    if let Some(until) = agent.quarantined_until {
        return format!("quarantine ends in {}", left(until));
    }
    match agent.paused_until {
        Some(until) if until > now => format!("paused for {}", left(until)),
        _ => String::new(),
    }
}

/// How long ago something was, in the largest unit of which there is at least one.
fn age(earlier: Timestamp, later: Timestamp) -> String {
    let seconds = if later > earlier {
        later.since(earlier)
    } else {
        Time::from_secs(0)
    }
    .as_secs();
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What a list is, what it is narrowed down to, and where in it we are.
fn title<T: Row>(name: &str, list: &List<T>, filter: &str, sort: &str) -> String {
    let mut parts = vec![name.to_owned()];
    if !filter.is_empty() {
        parts.push(one_line(filter));
    }
    if list.sort() != T::Sort::default() {
        parts.push(format!("by {sort}"));
    }
    let (page, more) = list.page();
    if more || page > 1 {
        if list.is_window() {
            parts.push(format!("{WINDOW} rows at a time"));
        }
        let behind = if more { "more below" } else { "the last" };
        parts.push(format!("page {page}, {behind}"));
    }
    format!(" {} ", parts.join(" · "))
}

struct Pane {
    area: Rect,
    title: String,
    focused: bool,
    empty: &'static str,
}

impl Pane {
    fn draw<T: Row>(
        self,
        frame: &mut Frame<'_>,
        shape: &[Column],
        list: &List<T>,
        theme: Theme,
        row: impl Fn(&T) -> Vec<Cell>,
    ) {
        let frame_style = if self.focused {
            Theme::strong()
        } else {
            Theme::faint()
        };
        let title_room = usize::from(self.area.width.saturating_sub(2));
        let block = Block::bordered()
            .border_style(frame_style)
            .title(Span::styled(clip(&self.title, title_room), Theme::strong()));
        let inside = block.inner(self.area);
        let width = usize::from(inside.width);
        let widths = widths(shape, width);
        let headings = shape
            .iter()
            .map(|(heading, ..)| ((*heading).to_owned(), Theme::faint()))
            .collect();
        let mut lines = vec![line(shape, &widths, headings)];
        let (rows, marked) = list.visible();
        if let Some(refusal) = &list.refusal {
            lines.push(Line::styled(clip(&one_line(refusal), width), theme.bad()));
        } else if rows.is_empty() {
            lines.push(Line::styled(
                if list.known { self.empty } else { "…" },
                Theme::faint(),
            ));
        } else {
            for (index, item) in rows.into_iter().enumerate() {
                let line = line(shape, &widths, row(item));
                lines.push(if index == marked && self.focused {
                    line.style(Theme::marked())
                } else {
                    line
                });
            }
        }
        frame.render_widget(Paragraph::new(lines).block(block), self.area);
    }
}

fn widths(shape: &[Column], width: usize) -> Vec<usize> {
    let gaps = GAP.len() * shape.len().saturating_sub(1);
    let fixed: usize = shape.iter().map(|(_, width, _)| width).sum();
    let rest = width.saturating_sub(fixed + gaps);
    shape
        .iter()
        .map(|(_, width, _)| if *width == 0 { rest } else { *width })
        .collect()
}

/// A line of cells, each in its column, over the whole width.
fn line(shape: &[Column], widths: &[usize], cells: Vec<Cell>) -> Line<'static> {
    let mut spans = Vec::new();
    for (place, ((text, style), width)) in cells.into_iter().zip(widths).enumerate() {
        let text = one_line(&text);
        // What stands first is the id.
        let text = if place == 0 {
            clip_id(&text, *width)
        } else {
            clip(&text, *width)
        };
        let fill = " ".repeat(width.saturating_sub(columns(&text)));
        let gap = if place + 1 < shape.len() { GAP } else { "" };
        if shape[place].2 {
            spans.extend([Span::raw(fill), Span::styled(text, style), Span::raw(gap)]);
        } else {
            spans.extend([Span::styled(text, style), Span::raw(fill + gap)]);
        }
    }
    Line::from(spans)
}
