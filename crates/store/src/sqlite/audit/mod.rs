//! The audit: whether the rows of a store say what only this program writes.
//!
//! It reads a file beside its owner, in one transaction: one moment of the store, also while a server works on it.
//! Tables are streamed, or compared inside of SQLite, so that what is held in memory grows with agents, scopes and
//! attempts that run, and not with tasks.
//!
//! # What is checked
//! - `file`: SQLite's own check of pages and indexes.
//! - `rows`: every row can be read, and the rows that it needs are there.
//! - `custody`: I1 (one live attempt for each task in progress, locks held once), I2 (places of agents).
//! - `dependencies`: I7, and that what tasks count is what their dependencies are.
//! - `books`: I9 (counters are the sums of the ledger), holds and active slots.
//! - `history`: events have no gaps.

mod books;
mod custody;
mod dependencies;
mod history;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Result, Row};

use super::{OpenError, onlooker};

/// Findings of one check beyond this are counted and not listed: one cause often breaks many rows.
const MAX_LISTED: u64 = 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is wrong, but it is unusual: a limit was lowered below what runs.
    Note,
    /// This program never writes that.
    Wrong,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, with the ids, on one line.
    pub message: String,
}

/// What an audit found.
#[derive(Debug, Clone)]
pub struct Report {
    /// How many steps of the schema the file has taken.
    pub schema: usize,
    /// Tasks that were looked at.
    pub tasks: u64,
    /// Attempts that were looked at.
    pub attempts: u64,
    /// Ledger lines that were summed up.
    pub lines: u64,
    /// Events that were counted.
    pub events: u64,
    /// The number of the last event.
    pub last_seq: u64,
    /// What was found, check by check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity == Severity::Note)
    }
}

/// Audits a file.
///
/// # Errors
/// When it cannot be opened, or is no store of this program. Whatever is wrong inside of it is a finding.
pub fn audit(path: impl AsRef<Path>) -> std::result::Result<Report, OpenError> {
    let opened = onlooker::open(path.as_ref())?;
    let mut audit = Audit {
        schema: opened.schema,
        report: Report {
            schema: opened.schema,
            tasks: 0,
            attempts: 0,
            lines: 0,
            events: 0,
            last_seq: 0,
            findings: Vec::new(),
        },
        found: BTreeMap::new(),
    };
    let db = opened.db;
    // One moment for all checks: the first statement that reads fixes it.
    audit.attempt_to("file", |_| db.execute_batch("BEGIN"));
    audit.attempt_to("file", |audit| audit.file(&db));
    audit.rows(&db);
    audit.custody(&db);
    audit.dependencies(&db);
    audit.books(&db);
    audit.history(&db);
    Ok(audit.finish())
}

/// An audit in the making.
struct Audit {
    schema: usize,
    report: Report,
    found: BTreeMap<&'static str, u64>,
}

impl Audit {
    fn found(&mut self, check: &'static str, severity: Severity, message: impl Into<String>) {
        let count = self.found.entry(check).or_default();
        *count += 1;
        if *count <= MAX_LISTED {
            self.report.findings.push(Finding {
                check,
                severity,
                message: message.into(),
            });
        }
    }

    fn wrong(&mut self, check: &'static str, message: impl Into<String>) {
        self.found(check, Severity::Wrong, message);
    }

    /// Runs a part of a check. When the file is so broken that it cannot be read, that is a finding as well.
    fn attempt_to(&mut self, check: &'static str, look: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = look(self) {
            self.wrong(check, format!("cannot be checked: {error}"));
        }
    }

    /// A query of which every row is a finding, in its own words.
    fn each(&mut self, db: &Connection, check: &'static str, sql: &str) {
        self.each_row(db, check, sql, |row| row.get(0));
    }

    /// A query of which every row is a finding.
    fn each_row(
        &mut self,
        db: &Connection,
        check: &'static str,
        sql: &str,
        tell: impl Fn(&Row<'_>) -> Result<String>,
    ) {
        self.attempt_to(check, |audit| {
            let mut find = db.prepare(sql)?;
            let mut rows = find.query([])?;
            while let Some(row) = rows.next()? {
                let message = tell(row)?;
                audit.wrong(check, message);
            }
            Ok(())
        });
    }

    fn file(&mut self, db: &Connection) -> Result<()> {
        let mut check = db.prepare("PRAGMA integrity_check")?;
        let mut rows = check.query([])?;
        while let Some(row) = rows.next()? {
            let line: String = row.get(0)?;
            if line != "ok" {
                self.wrong("file", line);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        for (check, count) in std::mem::take(&mut self.found) {
            if count > MAX_LISTED {
                self.report.findings.push(Finding {
                    check,
                    severity: Severity::Wrong,
                    message: format!("and {} more of this kind", count - MAX_LISTED),
                });
            }
        }
        self.report
    }
}
