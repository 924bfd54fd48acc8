//! A list of which one page is known: the one that is shown.
//!
//! In the order of the server a page has as many rows as the pane, whatever the list holds. Other orders, and words, need
//! rows to sort and to search: then a page is a window of [`WINDOW`] rows, and the title says so.

use adjutant_client::Page;

use super::pace::Pace;
use super::rows::Row;

/// The rows that are sorted or searched at a time: enough for most fleets, and no burden for a server.
pub(super) const WINDOW: u32 = 200;

/// A list, and where in it somebody looks.
#[derive(Debug)]
pub(super) struct List<T: Row> {
    rows: Vec<T>,
    /// How to ask for the page that is shown; none is the first.
    cursor: Option<String>,
    /// The same for the pages before it.
    before: Vec<Option<String>>,
    /// How to ask for the page behind it.
    next: Option<String>,
    /// What the list is narrowed down to.
    filter: T::Filter,
    sort: T::Sort,
    /// The row that is marked, among those that are shown.
    marked: usize,
    /// Its id, by which it is found again after a change.
    marked_id: Option<String>,
    /// The first row that the pane shows.
    top: usize,
    /// How many rows the pane has.
    height: usize,
    /// Where the mark goes when the next page has come.
    mark_last: bool,
    /// Whether an answer has come yet.
    pub(super) known: bool,
    /// What the server said instead of an answer.
    pub(super) refusal: Option<String>,
    /// When to ask.
    pub(super) pace: Pace,
}

impl<T: Row> Default for List<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            cursor: None,
            before: Vec::new(),
            next: None,
            filter: T::Filter::default(),
            sort: T::Sort::default(),
            marked: 0,
            marked_id: None,
            top: 0,
            height: 1,
            mark_last: false,
            known: false,
            refusal: None,
            pace: Pace::default(),
        }
    }
}

impl<T: Row> List<T> {
    /// The rows that match, sorted.
    pub(super) fn shown(&self) -> Vec<&T> {
        let words = T::words(&self.filter);
        let mut shown: Vec<&T> = self
            .rows
            .iter()
            .filter(|row| words.iter().all(|word| row.has(word)))
            .collect();
        // Stable: what is equal stays in the order of the server.
        shown.sort_by(|a, b| a.compare(b, self.sort));
        shown
    }

    /// The rows that fit into the pane, and which of them is marked.
    pub(super) fn visible(&self) -> (Vec<&T>, usize) {
        let shown = self.shown();
        let visible = shown.into_iter().skip(self.top).take(self.height).collect();
        (visible, self.marked - self.top)
    }

    /// The marked row.
    pub(super) fn marked(&self) -> Option<&T> {
        self.shown().get(self.marked).copied()
    }

    /// What it is narrowed down to.
    pub(super) const fn filter(&self) -> &T::Filter {
        &self.filter
    }

    /// What it is sorted by.
    pub(super) const fn sort(&self) -> T::Sort {
        self.sort
    }

    /// Whether a window is looked at instead of the list.
    pub(super) fn is_window(&self) -> bool {
        self.sort != T::Sort::default() || !T::words(&self.filter).is_empty()
    }

    /// Which page is shown, from 1, and whether there is one behind it.
    pub(super) fn page(&self) -> (usize, bool) {
        (self.before.len() + 1, self.next.is_some())
    }

    /// How to ask for the page that is shown.
    pub(super) fn question(&self) -> (Option<String>, u32) {
        let limit = if self.is_window() {
            WINDOW
        } else {
            u32::try_from(self.height).unwrap_or(WINDOW).clamp(1, WINDOW)
        };
        (self.cursor.clone(), limit)
    }

    /// Takes a page in.
    pub(super) fn take(&mut self, page: Page<T>) {
        if page.items.is_empty() && self.cursor.is_some() {
            // What was on this page is gone.
            self.first_page();
            return;
        }
        (self.rows, self.next) = (page.items, page.next);
        (self.known, self.refusal) = (true, None);
        let last = std::mem::take(&mut self.mark_last);
        let found = self.marked_id.as_ref().and_then(|id| {
            let shown = self.shown();
            shown.iter().position(|row| row.id() == id)
        });
        self.mark(if last {
            usize::MAX
        } else {
            found.unwrap_or(self.marked)
        });
    }

    /// The pane has so many rows from now on.
    pub(super) fn resize(&mut self, height: usize) {
        let height = height.max(1);
        if height > self.height && !self.is_window() {
            self.pace.want();
        }
        self.height = height;
        self.mark(self.marked);
    }

    /// Narrows it down.
    pub(super) fn narrow(&mut self, filter: T::Filter) {
        self.filter = filter;
        self.first_page();
    }

    /// Sorts it.
    pub(super) fn sort_by(&mut self, sort: T::Sort) {
        self.sort = sort;
        self.first_page();
    }

    /// Goes back to the first row.
    pub(super) fn first_page(&mut self) {
        self.before.clear();
        self.cursor = None;
        self.turn(false);
    }

    /// Moves the mark to the next row.
    pub(super) fn down(&mut self) {
        if self.marked + 1 < self.shown().len() {
            self.mark(self.marked + 1);
        } else {
            self.next_page();
        }
    }

    /// Moves the mark to the row before.
    pub(super) fn up(&mut self) {
        if self.marked > 0 {
            self.mark(self.marked - 1);
        } else if let Some(before) = self.before.pop() {
            self.cursor = before;
            self.turn(true);
        }
    }

    /// Shows what is below.
    pub(super) fn pane_down(&mut self) {
        let rows = self.shown().len();
        if self.top + self.height < rows {
            self.top = (self.top + self.height).min(rows - self.height);
            self.mark(self.marked + self.height);
        } else if !self.next_page() {
            self.last_row();
        }
    }

    /// Shows what is above.
    pub(super) fn pane_up(&mut self) {
        if self.top > 0 {
            self.top = self.top.saturating_sub(self.height);
            self.mark(self.marked.saturating_sub(self.height));
        } else if let Some(before) = self.before.pop() {
            self.cursor = before;
            self.turn(false);
        } else {
            self.mark(0);
        }
    }

    /// Turns to the page behind this one; false when there is none.
    fn next_page(&mut self) -> bool {
        let Some(next) = self.next.take() else {
            return false;
        };
        self.before.push(self.cursor.replace(next));
        self.turn(false);
        true
    }

    /// Moves the mark to the last row of the page.
    pub(super) fn last_row(&mut self) {
        self.mark(usize::MAX);
    }

    /// Another page is wanted; until it comes the rows of this one stay.
    fn turn(&mut self, mark_last: bool) {
        self.mark_last = mark_last;
        // What is behind it is not known before it comes.
        self.next = None;
        self.marked_id = None;
        self.marked = 0;
        self.top = 0;
        self.pace.want();
    }

    fn mark(&mut self, index: usize) {
        let shown = self.shown();
        let index = index.min(shown.len().saturating_sub(1));
        let id = shown.get(index).map(|row| row.id().to_owned());
        let last_top = shown.len().saturating_sub(self.height);
        self.marked = index;
        self.marked_id = id;
        self.top = self
            .top
            .clamp((index + 1).saturating_sub(self.height), index)
            .min(last_top);
    }
}
