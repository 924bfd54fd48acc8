//! Books: I9. Counters are the sums of the ledger in every period, and hold what live attempts hold.

use std::collections::HashMap;
use std::sync::Arc;

use adjutant_core::counter::{Counter, Tally};
use adjutant_core::ledger::{Line, scopes};
use adjutant_core::limit::{Scope, Window};
use adjutant_core::task::Produces;
use adjutant_core::time::Timestamp;
use rusqlite::{Connection, Result};

use super::Audit;
use crate::sqlite::codec::{ATTEMPT, COUNTER, LINE, read_attempt, read_counter, read_line};

const LEDGER: &str = "I9 ledger";
const HOLDS: &str = "I9 holds";
/// The step of the schema that made the archive.
const ARCHIVE_SCHEMA: usize = 2;

/// A counter as it is stored, and what it should be.
struct Book {
    stored: Arc<Counter>,
    sums: Counter,
    /// Whether a line of a later reset was told.
    ahead: bool,
    /// Lines up to this hour may have gone into the archive.
    archived_until: Option<Timestamp>,
}

impl Book {
    fn new(stored: Arc<Counter>) -> Self {
        let mut sums = Counter::new(stored.scope.clone());
        let start = |tally: &Tally| Tally {
            start: tally.start,
            ..Tally::default()
        };
        sums.resets = stored.resets;
        (sums.hour, sums.day, sums.total) = (start(&stored.hour), start(&stored.day), start(&stored.total));
        Self {
            stored,
            sums,
            ahead: false,
            archived_until: None,
        }
    }

    /// Adds a ledger line to every period of the counter that it belongs to.
    fn add(&mut self, line: &Line) {
        for (window, tally) in Window::ALL.into_iter().zip(tallies_mut(&mut self.sums)) {
            if window.start(line.hour) == tally.start {
                add(tally, line);
            }
        }
    }

    /// The periods of the counter: stored, and summed up. Those of which lines were archived are closed.
    fn periods(&self) -> impl Iterator<Item = (Window, Tally, Tally)> {
        let stored = [self.stored.hour, self.stored.day, self.stored.total];
        let sums = [self.sums.hour, self.sums.day, self.sums.total];
        let until = self.archived_until;
        Window::ALL
            .into_iter()
            .zip(stored.into_iter().zip(sums))
            .filter(move |(window, (stored, _))| {
                *window == Window::Total || until.is_none_or(|until| window.start(until) < stored.start)
            })
            .map(|(window, (stored, sum))| (window, stored, sum))
    }
}

fn tallies_mut(counter: &mut Counter) -> [&mut Tally; 3] {
    [&mut counter.hour, &mut counter.day, &mut counter.total]
}

fn add(tally: &mut Tally, line: &Line) {
    tally.jobs += line.jobs;
    tally.tokens = tally.tokens.saturating_add(line.net_tokens());
    tally.cost += line.cost;
    tally.pull_requests += line.pull_requests;
    tally.issues += line.issues;
}

fn amounts(tally: &Tally) -> String {
    format!(
        "{} jobs, {} tokens, {} nano-dollars, {} pull requests, {} issues",
        tally.jobs,
        tally.tokens,
        tally.cost.as_nanos(),
        tally.pull_requests,
        tally.issues
    )
}

impl Audit {
    pub(super) fn books(&mut self, db: &Connection) {
        self.attempt_to(LEDGER, |audit| {
            let mut books = HashMap::new();
            let mut find = db.prepare(&format!("SELECT {COUNTER} FROM counter"))?;
            let mut rows = find.query([])?;
            while let Some(row) = rows.next()? {
                // What cannot be read was told before.
                if let Ok(counter) = read_counter(row) {
                    books.insert(counter.scope.clone(), Book::new(counter));
                }
            }
            audit.ledger(db, &mut books)?;
            if audit.schema >= ARCHIVE_SCHEMA {
                audit.archive(db, &mut books)?;
            }
            audit.holds(db, &mut books)?;
            audit.compare(&books);
            Ok(())
        });
    }

    /// Sums up the ledger, line by line.
    fn ledger(&mut self, db: &Connection, books: &mut HashMap<Scope, Book>) -> Result<()> {
        let mut find = db.prepare(&format!("SELECT {LINE} FROM line"))?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            self.report.lines += 1;
            let (attempt, line) = match read_line(row) {
                Ok(read) => read,
                Err(error) => {
                    let at: (i64, u32) = (row.get(0)?, row.get(1)?);
                    self.wrong(
                        LEDGER,
                        format!("a line of attempt {}#{} cannot be read: {error}", at.0, at.1),
                    );
                    continue;
                }
            };
            if line.refunded > line.tokens.counted() {
                self.wrong(
                    LEDGER,
                    format!(
                        "attempt {attempt} got {} tokens back in {} and was charged {}",
                        line.refunded,
                        line.scope,
                        line.tokens.counted()
                    ),
                );
            }
            self.book(books, &line);
        }
        Ok(())
    }

    /// Adds what the lines of forgotten tasks came to.
    fn archive(&mut self, db: &Connection, books: &mut HashMap<Scope, Book>) -> Result<()> {
        // An archived line is a line of no attempt and no model.
        let columns = LINE.replace("task, number", "0, 0").replace("model", "''");
        let mut find = db.prepare(&format!("SELECT {columns} FROM archive"))?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let line = match read_line(row) {
                Ok((_, line)) => line,
                Err(error) => {
                    self.wrong(LEDGER, format!("a line of the archive cannot be read: {error}"));
                    continue;
                }
            };
            if let Some(book) = books.get_mut(&line.scope)
                && book.stored.resets == line.resets
            {
                book.archived_until = Some(line.hour);
            }
            self.book(books, &line);
        }
        Ok(())
    }

    fn book(&mut self, books: &mut HashMap<Scope, Book>, line: &Line) {
        let Some(book) = books.get_mut(&line.scope) else {
            // Told once: from here on there is one, and it is empty.
            self.wrong(LEDGER, format!("{} has ledger lines and no counter", line.scope));
            let mut book = Book::new(Arc::new(Counter::new(line.scope.clone())));
            book.ahead = true;
            books.insert(line.scope.clone(), book);
            return;
        };
        match line.resets.cmp(&book.stored.resets) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => book.add(line),
            std::cmp::Ordering::Greater => {
                if !std::mem::replace(&mut book.ahead, true) {
                    self.wrong(
                        LEDGER,
                        format!("{} has lines of a reset that it never had", line.scope),
                    );
                }
            }
        }
    }

    /// What live attempts hold.
    fn holds(&mut self, db: &Connection, books: &mut HashMap<Scope, Book>) -> Result<()> {
        let mut find = db.prepare(&format!(
            "SELECT {ATTEMPT} FROM attempt WHERE (state < 2 OR occupies = 1) AND state < 2"
        ))?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(attempt) = read_attempt(row) else { continue };
            for scope in scopes(&attempt, attempt.model.as_ref()) {
                let Some(book) = books.get_mut(&scope) else {
                    self.wrong(
                        HOLDS,
                        format!("attempt {} is live in {scope}, which has no counter", attempt.key),
                    );
                    continue;
                };
                let sums = &mut book.sums;
                sums.active += 1;
                sums.held_tokens += attempt.hold.tokens;
                sums.held_cost += attempt.hold.cost;
                match attempt.produces {
                    Some(Produces::PullRequest) => sums.held_pull_requests += 1,
                    Some(Produces::Issue) => sums.held_issues += 1,
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, books: &HashMap<Scope, Book>) {
        let mut books: Vec<&Book> = books.values().collect();
        books.sort_by(|one, other| one.stored.scope.cmp(&other.stored.scope));
        for book in books {
            let (stored, sums) = (&book.stored, &book.sums);
            for (window, tally, sum) in book.periods() {
                let counted = Tally { told: 0, ..tally };
                if counted != sum {
                    self.wrong(
                        LEDGER,
                        format!(
                            "{} counts for its {} {}, and its lines come to {}",
                            stored.scope,
                            window.name(),
                            amounts(&tally),
                            amounts(&sum)
                        ),
                    );
                }
            }
            let holds = |counter: &Counter| {
                format!(
                    "{} active, {} tokens, {} nano-dollars, {} pull requests, {} issues",
                    counter.active,
                    counter.held_tokens,
                    counter.held_cost.as_nanos(),
                    counter.held_pull_requests,
                    counter.held_issues
                )
            };
            let (stored_holds, live) = (holds(stored), holds(sums));
            if stored_holds != live {
                self.wrong(
                    HOLDS,
                    format!(
                        "{} holds {stored_holds}, and its live attempts hold {live}",
                        stored.scope
                    ),
                );
            }
        }
    }
}
