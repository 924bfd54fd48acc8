//! The invariants, from the rows of the store and not from what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};

use adjutant_core::limit::{Scope, Window};
use adjutant_core::time::{Span, Timestamp};
use rusqlite::{Connection, OpenFlags, Row};

use super::Fleet;

/// Numbers of a tally in a counter's blob: start, jobs, tokens, cost, pull requests, issues, told.
const TALLY: usize = 7;
/// Windows in the order in which a counter keeps them.
const WINDOWS: [Window; 3] = [Window::Hour, Window::Day, Window::Total];

/// Jobs, tokens, cost, pull requests, issues.
type Sums = [i64; 5];

struct Line {
    hour: Timestamp,
    resets: i64,
    sums: Sums,
}

struct Held {
    task: i64,
    number: i64,
    agent: String,
    live: bool,
    occupies: bool,
    scopes: Vec<String>,
    tokens: i64,
    cost: i64,
    produces: Option<i64>,
    external: bool,
}

impl Fleet {
    fn rows(&self) -> Connection {
        Connection::open_with_flags(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    /// Attempts of an agent that occupy it, from this state on: 0 with offers, 1 without.
    pub(super) fn occupying(&mut self, agent: &str, from: i64) -> Vec<(String, u32)> {
        let rows = self.rows();
        let mut query = rows
            .prepare("SELECT task_id, number FROM attempt WHERE agent = ?1 AND occupies = 1 AND state >= ?2")
            .unwrap();
        let found = query
            .query_map((agent, from), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let mut found: Vec<(String, u32)> = found.map(Result::unwrap).collect();
        found.sort();
        found
    }

    /// Checks I1, I2, I7, I9 and the numbering of events.
    pub(crate) fn check(&mut self) {
        let rows = self.rows();
        let attempts = attempts(&rows);
        self.check_counters(&rows, &attempts);
        Self::check_leases(&rows, &attempts);
        self.check_loads(&rows, &attempts);
        self.check_events();
    }

    /// I9: counters equal the sums of the ledger, and holds the sums of live attempts.
    fn check_counters(&self, rows: &Connection, attempts: &[Held]) {
        let mut lines = lines(rows);
        let mut query = rows
            .prepare(
                "SELECT scope, resets, tallies, held_tokens, held_cost, held_pull_requests, held_issues, active \
                 FROM counter",
            )
            .unwrap();
        let mut counters = query.query(()).unwrap();
        while let Some(row) = counters.next().unwrap() {
            let scope: String = row.get(0).unwrap();
            let resets: i64 = row.get(1).unwrap();
            let lines = lines.remove(&scope).unwrap_or_default();
            for (window, (start, counted)) in WINDOWS.into_iter().zip(tallies(row)) {
                let current = window.start(self.now);
                let counted = if start == current {
                    counted
                } else {
                    Sums::default()
                };
                let length = match window {
                    Window::Hour => Span::HOUR,
                    Window::Day => Span::DAY,
                    Window::Total => Span::from_micros(i64::MAX),
                };
                let mut sums = Sums::default();
                for line in lines.iter().filter(|line| line.resets == resets) {
                    if line.hour >= current && line.hour < current + length {
                        sums.iter_mut()
                            .zip(line.sums)
                            .for_each(|(sum, booked)| *sum += booked);
                    }
                }
                assert_eq!(
                    counted, sums,
                    "I9: {scope} counts [jobs, tokens, cost, pull requests, issues] of its {window:?}"
                );
            }
            let live: Vec<&Held> = attempts
                .iter()
                .filter(|attempt| attempt.live && attempt.scopes.contains(&scope))
                .collect();
            let makes = |what| {
                live.iter()
                    .filter(|attempt| attempt.produces == Some(what))
                    .count() as u64
            };
            let held = (
                live.iter().map(|attempt| attempt.tokens).sum::<i64>(),
                live.iter().map(|attempt| attempt.cost).sum::<i64>(),
                makes(0),
                makes(1),
                live.len() as u64,
            );
            let counted: (i64, i64, u64, u64, u64) = (
                row.get(3).unwrap(),
                row.get(4).unwrap(),
                row.get::<_, i64>(5).unwrap().unsigned_abs(),
                row.get::<_, i64>(6).unwrap().unsigned_abs(),
                row.get::<_, i64>(7).unwrap().unsigned_abs(),
            );
            assert_eq!(
                counted, held,
                "{scope} holds (tokens, cost, pull requests, issues, slots)"
            );
        }
        let orphans: Vec<_> = lines.keys().collect();
        assert!(
            orphans.is_empty(),
            "I9: lines of scopes without a counter: {orphans:?}"
        );
    }

    /// I1: at most one live lease per task, exactly while it is in progress; locks are held by one attempt each.
    fn check_leases(rows: &Connection, attempts: &[Held]) {
        let mut live = BTreeSet::new();
        for attempt in attempts
            .iter()
            .filter(|attempt| attempt.live && !attempt.external)
        {
            assert!(
                live.insert(attempt.task),
                "I1: two live attempts of {}",
                attempt.task
            );
        }
        let mut query = rows
            .prepare("SELECT key, attempt FROM task WHERE status = 2")
            .unwrap();
        let in_progress: BTreeMap<i64, i64> = query
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(
            live.iter().eq(in_progress.keys()),
            "I1: a task is in progress exactly while an attempt is live"
        );
        for attempt in attempts
            .iter()
            .filter(|attempt| attempt.live && !attempt.external)
        {
            assert_eq!(
                in_progress[&attempt.task], attempt.number,
                "I1: only the latest attempt is live"
            );
        }
        let mut query = rows.prepare("SELECT name, task, number FROM lock").unwrap();
        let locks = query
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        let mut held: BTreeMap<(i64, i64), BTreeSet<String>> = BTreeMap::new();
        for (name, task, number) in locks.map(Result::unwrap) {
            held.entry((task, number)).or_default().insert(name);
        }
        let mut query = rows
            .prepare("SELECT task, number, locks FROM attempt WHERE occupies = 1")
            .unwrap();
        let wanted = query
            .query_map((), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
            })
            .unwrap();
        for (task, number, locks) in wanted.map(Result::unwrap) {
            let locks = locks.unwrap_or_default().matches('"').count() / 2;
            let held = held.remove(&(task, number)).map_or(0, |held| held.len());
            assert_eq!(held, locks, "I1: attempt {number} of {task} holds its locks");
        }
        assert!(held.is_empty(), "I1: locks that nothing holds: {held:?}");
    }

    /// I2: no agent has more than it takes.
    fn check_loads(&self, rows: &Connection, attempts: &[Held]) {
        if self.load_was_lowered {
            return;
        }
        let mut query = rows
            .prepare("SELECT id, max_load FROM agent WHERE max_load > 0")
            .unwrap();
        let agents = query
            .query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))
            .unwrap();
        for (id, max) in agents.map(Result::unwrap) {
            let load = attempts
                .iter()
                .filter(|attempt| attempt.occupies && attempt.agent == id)
                .count();
            let max = usize::try_from(max).unwrap();
            assert!(load <= max, "I2: agent {id} has {load} of {max}");
        }
    }

    /// Events have no gaps, and I7: nothing starts before what it depends on has completed.
    fn check_events(&mut self) {
        let events = self.events();
        let mut completed = BTreeSet::new();
        for (event, seq) in events.iter().zip(1..) {
            assert_eq!(event.seq, seq, "events have no gaps");
            let Some((_, id)) = &event.task else { continue };
            match event.kind.name() {
                "task_completed" => {
                    assert!(completed.insert(id.clone()), "I10: {id} completed twice");
                }
                "task_dispatched" | "task_claimed" => {
                    let body = self.stored(id.as_str()).details.body;
                    for dependency in &body.dependencies {
                        assert!(
                            completed.contains(dependency),
                            "I7: {id} started before {dependency} was done"
                        );
                    }
                }
                _ => {}
            }
        }
    }
}

fn attempts(rows: &Connection) -> Vec<Held> {
    let mut query = rows
        .prepare(
            "SELECT task, number, agent, state, occupies, model, project, repo, hold_tokens, hold_cost, produces, \
             external FROM attempt",
        )
        .unwrap();
    let read = |row: &Row<'_>| {
        let agent: String = row.get(2)?;
        let named = |kind: &str, name: Option<String>| name.map(|name| format!("{kind}:{name}"));
        let scopes = [
            Some(format!("agent:{agent}")),
            named("model", row.get(5)?),
            named("project", row.get(6)?),
            named("repo", row.get(7)?),
            Some(Scope::Fleet.to_string()),
        ];
        Ok(Held {
            task: row.get(0)?,
            number: row.get(1)?,
            agent,
            live: row.get::<_, i64>(3)? < 2,
            occupies: row.get(4)?,
            scopes: scopes.into_iter().flatten().collect(),
            tokens: row.get(8)?,
            cost: row.get(9)?,
            produces: row.get(10)?,
            external: row.get(11)?,
        })
    };
    query.query_map((), read).unwrap().map(Result::unwrap).collect()
}

fn lines(rows: &Connection) -> BTreeMap<String, Vec<Line>> {
    let mut query = rows
        .prepare(
            "SELECT scope, hour, resets, jobs, tokens_in + tokens_out - refunded, cost, pull_requests, issues, \
             refunded, tokens_in + tokens_out \
             FROM (SELECT scope, hour, resets, jobs, tokens_in, tokens_out, refunded, cost, pull_requests, issues FROM line \
             UNION ALL SELECT scope, hour, resets, jobs, tokens_in, tokens_out, refunded, cost, pull_requests, issues FROM archive)",
        )
        .unwrap();
    let mut found = query.query(()).unwrap();
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    while let Some(row) = found.next().unwrap() {
        let number = |column: usize| row.get::<_, i64>(column).unwrap();
        assert!(number(8) <= number(9), "a refund never exceeds its charge");
        lines.entry(row.get(0).unwrap()).or_default().push(Line {
            hour: Timestamp::from_micros(number(1)),
            resets: number(2),
            sums: [number(3), number(4), number(5), number(6), number(7)],
        });
    }
    lines
}

fn tallies(row: &Row<'_>) -> [(Timestamp, Sums); 3] {
    let bytes: Vec<u8> = row.get(2).unwrap();
    let numbers: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|chunk| i64::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    assert_eq!(numbers.len(), 3 * TALLY);
    [0, 1, 2].map(|window| {
        let tally = &numbers[window * TALLY..][..TALLY];
        (
            Timestamp::from_micros(tally[0]),
            [tally[1], tally[2], tally[3], tally[4], tally[5]],
        )
    })
}

/// A check that notices nothing would make every test worthless.
#[test]
#[should_panic(expected = "I9")]
fn a_line_that_no_counter_knows_is_noticed() {
    use super::{done, task};
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    fleet.claim("x", "a").unwrap();
    fleet.complete(done("x").tokens(5, 5)).unwrap();
    let rows = Connection::open(fleet.path()).unwrap();
    rows.execute(
        "UPDATE line SET tokens_in = tokens_in + 1 WHERE scope = 'fleet'",
        (),
    )
    .unwrap();
    fleet.check();
}
