//! The page of one task or one agent.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::theme::Theme;
use super::{foot, head, wrap};
use crate::commands::top::detail::{Detail, Part};
use crate::commands::top::layout;
use crate::commands::top::state::State;
use crate::text::{clip, one_line};

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, detail: &Detail, theme: Theme) {
    let parts = detail.parts();
    let places = layout::page(frame.area(), parts.len() > 1);
    let mut tabs = vec![Span::styled(
        clip(&one_line(detail.id()), usize::from(places.head.width) / 3),
        Theme::strong(),
    )];
    if parts.len() > 1 {
        for (place, part) in parts.iter().enumerate() {
            let style = if *part == detail.part {
                Theme::marked()
            } else {
                Theme::faint()
            };
            tabs.push(Span::raw("  "));
            tabs.push(Span::styled(format!(" {} {} ", place + 1, part.name()), style));
        }
    }
    head(frame, places.head, state, Line::from(tabs), theme);
    if let Some(facts) = places.facts {
        pane(frame, facts, detail, Part::Facts, Some(0));
    }
    // Facts that stand beside need no second place.
    let part = match (places.facts, detail.part) {
        (Some(_), Part::Facts) => Part::Attempts,
        (_, part) => part,
    };
    pane(frame, places.part, detail, part, detail.scroll);
    foot(frame, places.foot, state, theme);
}

fn pane(frame: &mut Frame<'_>, area: Rect, detail: &Detail, part: Part, scroll: Option<usize>) {
    let (width, height) = layout::inside(area);
    let lines = wrap(&detail.text(part, width), width);
    let last = lines.len().saturating_sub(height);
    let first = scroll.unwrap_or(last).min(last);
    let title = if lines.len() > height {
        format!(
            " {} · lines {}–{} of {} ",
            part.name(),
            first + 1,
            (first + height).min(lines.len()),
            lines.len()
        )
    } else {
        format!(" {} ", part.name())
    };
    let block = Block::bordered()
        .border_style(Theme::faint())
        .title(Span::styled(title, Theme::strong()));
    let shown: Vec<Line<'_>> = lines
        .into_iter()
        .skip(first)
        .take(height)
        .map(Line::from)
        .collect();
    frame.render_widget(Paragraph::new(shown).block(block), area);
}
