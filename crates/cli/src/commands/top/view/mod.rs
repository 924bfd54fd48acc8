//! How it looks: a pure function of the state and the area.
//!
//! # Invariants
//! - What others wrote reaches the screen through [`crate::text`] alone, so that it cannot steer a terminal.
//! - Whatever the size, nothing is drawn outside of it.

mod lists;
mod page;
mod theme;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};
use unicode_width::UnicodeWidthChar as _;

pub(super) use self::theme::Theme;
use super::keys::HELP;
use super::layout;
use super::state::{Focus, Link, Overlay, State};
use crate::text::{clip, columns, number, one_line, plain, time};

/// An answer that takes longer is told of.
const SLOW: Duration = Duration::from_secs(3);
/// A tab is so wide.
const TAB: &str = "    ";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let area = frame.area();
    if area.width < layout::LEAST_COLUMNS || area.height < layout::LEAST_ROWS {
        let text = format!(
            "at least {}×{} are needed",
            layout::LEAST_COLUMNS,
            layout::LEAST_ROWS
        );
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    if let Some(detail) = &state.detail {
        page::draw(frame, state, detail, theme);
    } else {
        let places = layout::main(area);
        head(frame, places.head, state, counts(state), theme);
        lists::fleet(frame, places.fleet, state, theme);
        lists::queue(frame, places.queue, state, theme);
        foot(frame, places.foot, state, theme);
    }
    match &state.overlay {
        Overlay::Help => help(frame),
        Overlay::Confirm { deed, id } => {
            let question = deed.question(&one_line(id));
            confirm(frame, &question, deed.warning(), theme);
        }
        Overlay::None | Overlay::Typing { .. } => {}
    }
}

/// Whose fleet it is and whether it answers; below it what the screen is about.
fn head(frame: &mut Frame<'_>, area: Rect, state: &State, about: Line<'_>, theme: Theme) {
    let [first, second] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let (link, style) = match &state.link {
        Link::Connecting => ("connecting…".to_owned(), Theme::faint()),
        Link::Up if state.waits() >= SLOW => (
            format!("no answer for {} s", state.waits().as_secs()),
            theme.odd(),
        ),
        Link::Up => (time(state.now.clock), Theme::faint()),
        Link::Away { since, why } => {
            let away = state.now.at.saturating_sub(*since).as_secs();
            (format!("away for {away} s, trying again: {why}"), theme.bad())
        }
        Link::Refused { why } => (format!("refused: {why}"), theme.bad()),
    };
    let width = usize::from(first.width);
    let name = format!("adjutant top  {}", one_line(&state.server));
    let name = clip(&name, width / 2);
    let link = clip(&one_line(&link), width.saturating_sub(columns(&name) + 2));
    frame.render_widget(Paragraph::new(Span::styled(name, Theme::strong())), first);
    frame.render_widget(
        Paragraph::new(Span::styled(link, style)).alignment(Alignment::Right),
        first,
    );
    frame.render_widget(Paragraph::new(about), second);
}

fn counts(state: &State) -> Line<'static> {
    let Some(counts) = &state.counts else {
        return Line::from("…");
    };
    let mut spans = Vec::new();
    for status in adjutant_core::task::Status::ALL {
        let count = counts.tasks.get(status.name()).copied().unwrap_or(0);
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(number(count), Theme::strong()));
        spans.push(Span::raw(format!(" {}", status.name().replace('_', " "))));
    }
    Line::from(spans)
}

/// What was done, what is typed, or which keys there are.
fn foot(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let width = usize::from(area.width);
    let line = match (&state.overlay, &state.message) {
        (Overlay::Typing { text, wrong }, _) => {
            let wrong = wrong.as_ref().map(|why| format!("  ({why})")).unwrap_or_default();
            let typed = tail(
                &format!("/{}", one_line(text)),
                width.saturating_sub(1 + columns(&wrong)),
            );
            Line::from(vec![
                Span::raw(typed),
                Span::styled(" ", Theme::marked()),
                Span::styled(wrong, theme.bad()),
            ])
        }
        (_, Some(message)) => Line::styled(
            clip(&one_line(&message.text), width),
            if message.is_good {
                theme.good()
            } else {
                theme.bad()
            },
        ),
        _ => Line::styled(clip(hint(state), width), Theme::faint()),
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn hint(state: &State) -> &'static str {
    match (&state.detail, state.focus) {
        (Some(_), _) => "Esc back  ←→ parts  ↑↓ scroll  ? keys",
        (None, Focus::Queue) => "? keys  q quit  Tab fleet  Enter open  / filter  s sort  c cancel  r retry",
        (None, Focus::Fleet) => "? keys  q quit  Tab queue  Enter open  / filter  s sort  d drain  u undrain",
    }
}

/// The end of a text in so many columns: where somebody types is to be seen.
fn tail(text: &str, width: usize) -> String {
    let mut used = 0;
    let mut kept: Vec<char> = text
        .chars()
        .rev()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= width
        })
        .collect();
    kept.reverse();
    kept.into_iter().collect()
}

fn help(frame: &mut Frame<'_>) {
    let keys = HELP.iter().map(|(key, _)| columns(key)).max().unwrap_or(0);
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, what)| {
            let fill = " ".repeat(keys - columns(key) + 2);
            Line::from(vec![
                Span::styled(*key, Theme::strong()),
                Span::raw(fill),
                Span::raw(*what),
            ])
        })
        .collect();
    popup(frame, " Keys ", lines);
}

fn confirm(frame: &mut Frame<'_>, question: &str, warning: &str, theme: Theme) {
    let room = usize::from(frame.area().width.saturating_sub(4));
    let mut lines: Vec<Line<'_>> = wrap(question, room)
        .into_iter()
        .map(|line| Line::styled(line, Theme::strong()))
        .collect();
    if !warning.is_empty() {
        lines.push(Line::styled(warning.to_owned(), theme.odd()));
    }
    lines.push(Line::from(""));
    lines.push(Line::from("y yes   n no"));
    popup(frame, " Sure? ", lines);
}

/// Lines in a frame in the middle.
fn popup(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) {
    let area = frame.area();
    let clamp = |size: usize, most: u16| u16::try_from(size).unwrap_or(most).min(most);
    let width = lines.iter().map(Line::width).max().unwrap_or(0);
    let (width, height) = (clamp(width + 4, area.width), clamp(lines.len() + 2, area.height));
    let place = Rect::new(
        (area.width - width) / 2,
        (area.height - height) / 2,
        width,
        height,
    );
    let block = Block::bordered()
        .border_style(Theme::strong())
        .title(Span::styled(title.to_owned(), Theme::strong()))
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

/// The text in lines of at most `width` columns, parted between words where that is possible, with nothing in it that
/// steers a terminal.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    for line in plain(text).lines() {
        let (mut current, mut used) = (String::new(), 0);
        for c in line.replace('\t', TAB).chars() {
            let room = c.width().unwrap_or(0);
            if used + room > width {
                // A word that began on this line goes on to the next, unless it fills a line of its own.
                let word = match current.rfind(' ') {
                    Some(space) if c != ' ' && !current[..space].trim().is_empty() => {
                        current.split_off(space + 1)
                    }
                    _ => String::new(),
                };
                lines.push(std::mem::replace(&mut current, word));
                used = columns(&current);
                if c == ' ' {
                    continue;
                }
            }
            current.push(c);
            used += room;
        }
        lines.push(current);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parted_between_words_and_never_too_long() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("ab cd", 2), ["ab", "cd"]);
        assert_eq!(wrap("a\n\n\tb", 80), ["a", "", "    b"]);
        assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
        for width in 2..20 {
            let lines = wrap("  a bb ccc 漢字漢字 dddddddddddddddddddd\te", width);
            assert!(
                lines.iter().all(|line| columns(line) <= width),
                "{width}: {lines:?}"
            );
        }
    }
}
