//! The books: what the rows of a store say, when nobody has it open.

use std::collections::BTreeMap;
use std::path::Path;

use adjutant_core::time::Timestamp;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

const HOUR_MICROS: i64 = 3_600_000_000;
/// Windows in the order in which a counter keeps them, with their length.
const WINDOWS: [(&str, i64); 3] = [
    ("hour", HOUR_MICROS),
    ("day", 24 * HOUR_MICROS),
    ("total", i64::MAX),
];
/// Numbers of a tally: start, jobs, tokens, cost, pull requests, issues, told.
const TALLY: usize = 7;

/// Jobs, tokens, cost.
type Sums = [i64; 3];

/// A task as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) status: i64,
    pub(crate) attempt: i64,
    pub(crate) retries: i64,
}

pub(crate) const COMPLETED: i64 = 3;

pub(crate) struct Books {
    rows: Connection,
}

impl Books {
    /// Opens the file and checks what must hold in any store.
    #[track_caller]
    pub(crate) fn open(path: &Path) -> Self {
        let books = Self {
            rows: Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap(),
        };
        let sound: String = books.one("PRAGMA integrity_check");
        assert_eq!(sound, "ok");
        books.check_events();
        books.check_counters();
        books.check_leases();
        books
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.rows.query_row(sql, (), |row| row.get(0)).unwrap()
    }

    pub(crate) fn all<T>(&self, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let mut query = self.rows.prepare(sql).unwrap();
        query.query_map((), read).unwrap().map(Result::unwrap).collect()
    }

    pub(crate) fn tasks(&self) -> BTreeMap<String, Stored> {
        self.all("SELECT id, status, attempt, retry_count FROM task", |row| {
            let stored = Stored {
                status: row.get(1)?,
                attempt: row.get(2)?,
                retries: row.get(3)?,
            };
            Ok((row.get(0)?, stored))
        })
        .into_iter()
        .collect()
    }

    /// How many events of a kind each task has.
    pub(crate) fn events(&self, kind: &str) -> BTreeMap<String, i64> {
        self.all(
            &format!("SELECT task_id, count(*) FROM event WHERE kind = '{kind}' GROUP BY task_id"),
            |row| Ok((row.get::<_, Option<String>>(0)?.unwrap_or_default(), row.get(1)?)),
        )
        .into_iter()
        .collect()
    }

    /// Numbers without gaps from 1 on, and no task completed twice (I10).
    fn check_events(&self) {
        let (count, last): (i64, i64) = (
            self.one("SELECT count(*) FROM event"),
            self.one("SELECT coalesce(max(seq), 0) FROM event"),
        );
        assert_eq!(count, last, "events have no gaps");
        let twice: Vec<_> = self
            .events("task_completed")
            .into_iter()
            .filter(|(_, times)| *times > 1)
            .collect();
        assert!(twice.is_empty(), "I10: completed more than once: {twice:?}");
    }

    /// I9: counters equal the sums of the ledger.
    fn check_counters(&self) {
        let counters = self.all("SELECT scope, resets, tallies FROM counter", |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        });
        for (scope, resets, bytes) in counters {
            let numbers: Vec<i64> = bytes
                .chunks_exact(8)
                .map(|chunk| i64::from_le_bytes(chunk.try_into().unwrap()))
                .collect();
            for ((window, length), tally) in WINDOWS.into_iter().zip(numbers.chunks_exact(TALLY)) {
                let sums = self.sums(&scope, resets, tally[0], length);
                assert_eq!(
                    sums,
                    [tally[1], tally[2], tally[3]],
                    "I9: {scope} in its {window}"
                );
            }
        }
    }

    fn sums(&self, scope: &str, resets: i64, start: i64, length: i64) -> Sums {
        self.rows
            .query_row(
                "SELECT coalesce(sum(jobs), 0), coalesce(sum(tokens_in + tokens_out - refunded), 0), \
                 coalesce(sum(cost), 0) FROM line WHERE scope = ?1 AND resets = ?2 AND hour >= ?3 AND hour - ?3 < ?4",
                (scope, resets, start, length),
                |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]),
            )
            .unwrap()
    }

    /// I1, from the rows.
    fn check_leases(&self) {
        let live = self.all(
            "SELECT task, number FROM attempt WHERE state < 2 AND external = 0 ORDER BY task",
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        let in_progress = self.all(
            "SELECT key, attempt FROM task WHERE status = 2 ORDER BY key",
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        assert_eq!(
            live, in_progress,
            "I1: a task is in progress exactly while its latest attempt is live"
        );
    }

    /// What the API said of a scope (`GET /api/limits/…`) is what the ledger says.
    #[track_caller]
    pub(crate) fn confirm(&self, limits: &Value) {
        let scope = limits["scope"].as_str().unwrap();
        for ((window, length), used) in WINDOWS.into_iter().zip(limits["use"].as_array().unwrap()) {
            let told = [&used["jobs"], &used["tokens"]].map(|number| number.as_i64().unwrap());
            let [jobs, tokens, _] = self.sums(scope, 0, start(&used["period_start"]), length);
            assert_eq!(told, [jobs, tokens], "what was told of {scope} in its {window}");
        }
    }

    /// What the API said of an agent (`GET /api/allowances/…/usage`) is what the ledger says.
    #[track_caller]
    pub(crate) fn confirm_usage(&self, usage: &Value) {
        let scope = format!("agent:{}", usage["agent_id"].as_str().unwrap());
        let told = [&usage["jobs_started"], &usage["tokens_used"]].map(|number| number.as_i64().unwrap());
        let [jobs, tokens, _] = self.sums(&scope, 0, start(&usage["period_start"]), 24 * HOUR_MICROS);
        assert_eq!(told, [jobs, tokens], "what was told of {scope}");
        assert_eq!(usage["active_jobs"], 0);
    }

    /// The sums of the whole ledger for a scope: jobs and tokens.
    pub(crate) fn used(&self, scope: &str) -> (i64, i64) {
        let [jobs, tokens, _] = self.sums(scope, 0, 0, i64::MAX);
        (jobs, tokens)
    }
}

/// The start of a period in microseconds; of the total it is none.
fn start(period: &Value) -> i64 {
    period
        .as_str()
        .map_or(0, |text| text.parse::<Timestamp>().unwrap().as_micros())
}
