//! Where things stand on the screen: shared by those who draw and those who must know how much fits.

use ratatui::layout::{Constraint, Layout, Rect};

/// Fewer columns than this have no room for anything.
pub(super) const LEAST_COLUMNS: u16 = 40;
/// Fewer rows than this have no room for anything.
pub(super) const LEAST_ROWS: u16 = 12;
/// From so many columns on a page shows facts beside what else is looked at.
pub(super) const WIDE: u16 = 160;
/// What facts take there: 80 columns and the frame.
const FACTS: u16 = 84;
/// Frame and headings of a list.
const AROUND_LIST: u16 = 3;

/// The main screen.
pub(super) struct Main {
    pub(super) head: Rect,
    pub(super) fleet: Rect,
    pub(super) queue: Rect,
    pub(super) foot: Rect,
}

/// The page of one thing.
pub(super) struct Page {
    pub(super) head: Rect,
    /// Facts, where there is room for them beside the rest.
    pub(super) facts: Option<Rect>,
    pub(super) part: Rect,
    pub(super) foot: Rect,
}

/// The main screen in an area: the queue has more rows than the fleet.
pub(super) fn main(area: Rect) -> Main {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let [fleet, queue] = Layout::vertical([Constraint::Ratio(2, 5), Constraint::Ratio(3, 5)]).areas(body);
    Main {
        head,
        fleet,
        queue,
        foot,
    }
}

/// The page of one thing in an area.
pub(super) fn page(area: Rect, has_parts: bool) -> Page {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    if area.width >= WIDE && has_parts {
        let [facts, part] = Layout::horizontal([Constraint::Length(FACTS), Constraint::Min(0)]).areas(body);
        return Page {
            head,
            facts: Some(facts),
            part,
            foot,
        };
    }
    Page {
        head,
        facts: None,
        part: body,
        foot,
    }
}

/// How many rows the lists have on a screen of this size: agents, tasks.
pub(super) fn rows((columns, rows): (u16, u16)) -> (usize, usize) {
    let main = main(Rect::new(0, 0, columns, rows));
    let inside = |area: Rect| usize::from(area.height.saturating_sub(AROUND_LIST));
    (inside(main.fleet), inside(main.queue))
}

/// Columns and rows inside of the frame of an area.
pub(super) fn inside(area: Rect) -> (usize, usize) {
    (
        usize::from(area.width.saturating_sub(2)),
        usize::from(area.height.saturating_sub(2)),
    )
}
