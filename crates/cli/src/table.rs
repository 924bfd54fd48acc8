//! Tables that fit 80 columns.
//!
//! Cells hold one line each. When a table is too wide its widest columns give way first, down to what still reads.
//! A width in the format (`{table:100}`) stands for the 80.

use std::fmt;

use crate::text::{clip, columns, one_line};

/// The width that every table fits when no other is asked for.
pub(crate) const WIDTH: usize = 80;
/// Columns narrower than this do not shrink further.
const NARROWEST: usize = 6;
const GAP: &str = "  ";

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Rows under headings.
pub(crate) struct Table {
    headings: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    empty: String,
}

impl Table {
    /// A table with these headings; a heading that begins with `>` stands right, as numbers do.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings
                .iter()
                .map(|heading| match heading.strip_prefix('>') {
                    Some(heading) => (heading.to_owned(), Align::Right),
                    None => ((*heading).to_owned(), Align::Left),
                })
                .collect(),
            rows: Vec::new(),
            empty: String::new(),
        }
    }

    /// What is printed instead when there are no rows.
    #[must_use]
    pub(crate) fn or_else(mut self, empty: impl Into<String>) -> Self {
        self.empty = empty.into();
        self
    }

    /// Adds a row, with a cell for each heading.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| one_line(&cell)).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .headings
            .iter()
            .map(|(heading, _)| columns(heading))
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns(cell));
            }
        }
        let room = width.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths.iter_mut().max_by_key(|width| **width) else {
                break;
            };
            if *widest <= NARROWEST {
                break;
            }
            *widest -= 1;
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() && !self.empty.is_empty() {
            return writeln!(f, "{}", self.empty);
        }
        let widths = self.widths(f.width().unwrap_or(WIDTH));
        let headings: Vec<String> = self.headings.iter().map(|(heading, _)| heading.clone()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.headings) {
                let cell = clip(cell, *width);
                let fill = " ".repeat(width.saturating_sub(columns(&cell)));
                match align {
                    Align::Left => line.extend([&*cell, &*fill, GAP]),
                    Align::Right => line.extend([&*fill, &*cell, GAP]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Facts about one thing: a name and a value in each line. Values are clipped to what is left of 80 columns.
#[derive(Default)]
pub(crate) struct Facts {
    lines: Vec<(String, String)>,
}

impl Facts {
    /// Adds a fact.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>) {
        self.lines.push((name.to_owned(), value.into()));
    }

    /// Adds a fact, unless it says nothing.
    pub(crate) fn add_some(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.add(name, value);
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .lines
            .iter()
            .map(|(name, _)| columns(name))
            .max()
            .unwrap_or(0);
        for (name, value) in &self.lines {
            let room = f.width().unwrap_or(WIDTH).saturating_sub(width + GAP.len());
            writeln!(f, "{name:<width$}{GAP}{}", clip(&one_line(value), room))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_eighty_columns_whatever_is_in_it() {
        let mut table = Table::new(&["ID", "STATUS", ">TOKENS", "TITLE"]);
        table.row([
            "x".repeat(128),
            "in_progress".into(),
            "1,234,567".into(),
            "漢字".repeat(200),
        ]);
        table.row(["b".into(), "pending".into(), "0".into(), "a\u{1b}[2J\nb".into()]);
        let text = table.to_string();
        assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}'));
        assert!(
            text.contains("in_progress") && text.contains("1,234,567"),
            "{text}"
        );
    }

    #[test]
    fn tables_and_facts_fit_another_width() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["x".repeat(100), "y".repeat(100)]);
        let mut facts = Facts::default();
        facts.add("name", "z".repeat(200));
        for width in [40, 120] {
            for text in [format!("{table:width$}"), format!("{facts:width$}")] {
                assert_eq!(text.lines().map(columns).max(), Some(width), "{text}");
            }
        }
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["ID"]).or_else("no tasks").to_string(), "no tasks\n");
    }
}
