//! Forgetting: what the retention lets go, in batches between turns.
//!
//! A walk looks at what is over from the oldest on, a batch at a time, and begins anew when it has come to the end: a
//! task can go only after those that need it, which are newer. Space that becomes free is used again by later rows;
//! the file does not shrink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adjutant_core::attempt::Attempt;
use adjutant_core::ledger::Line;
use adjutant_core::limit::Scope;
use adjutant_core::retention::{Candidate, Retention, archive};
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{Class, Demand, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::codec::{ATTEMPT, LINE, TASK, int, read_attempt, read_dependency, read_line, read_task};
use super::commit;
use super::mark::Position;
use crate::encoding;
use crate::{Forgotten, MAX_FORGOTTEN_EVENTS, MAX_FORGOTTEN_TASKS};

/// A batch ends when it took so long, however large its texts are: the next turn waits for it.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// The most dependencies on one task that are forgotten in one batch.
const MAX_EDGES: usize = 200;
/// The states of what is over.
const OVER: [Status; 3] = [Status::Completed, Status::Failed, Status::Cancelled];

/// Where the walk is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walk {
    /// Everything up to this key was looked at.
    after: i64,
    /// Whether something went, which may set other things free.
    let_go: bool,
    /// How many tasks are over: counted once, then kept up by the commits.
    over: Option<u64>,
}

impl Walk {
    /// A turn was committed.
    pub(super) fn committed(&mut self, changes: &Changes) {
        let Some(over) = &mut self.over else { return };
        let is_over = |task: &Option<Arc<Task>>| task.as_ref().is_some_and(|task| task.status.is_terminal());
        for change in &changes.tasks {
            match (is_over(&change.before), is_over(&change.now)) {
                (false, true) => *over += 1,
                (true, false) => *over -= 1,
                _ => {}
            }
        }
    }
}

/// A batch that is written and not yet committed.
pub(super) struct Batch<'a> {
    db: &'a Connection,
    retention: &'a Retention,
    now: Timestamp,
    begun: Instant,
    /// What goes into the archive.
    archive: BTreeMap<(Scope, u32), Line>,
    /// Where the walk is then.
    pub(super) walk: Walk,
    /// What went.
    pub(super) forgotten: Forgotten,
}

impl<'a> Batch<'a> {
    pub(super) fn new(db: &'a Connection, walk: Walk, retention: &'a Retention, now: Timestamp) -> Self {
        Self {
            db,
            retention,
            now,
            begun: Instant::now(),
            archive: BTreeMap::new(),
            walk,
            forgotten: Forgotten::default(),
        }
    }

    /// Writes everything but the COMMIT, which is due when a transaction was begun. Gives how far the store is then.
    pub(super) fn write(&mut self, before: Position) -> Result<Position> {
        if self.retention.forgets_finished() {
            self.finished()?;
            self.write_archive()?;
        }
        if self.retention.forgets_events() {
            self.events(before.seq)?;
        }
        if self.db.is_autocommit() {
            return Ok(before);
        }
        commit::quiet(self.db, before)
    }

    /// There is something to delete.
    fn begin(&self) -> Result<()> {
        if self.db.is_autocommit() {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        Ok(())
    }

    // ---- what is over --------------------------------------------------------------------------------------------

    fn finished(&mut self) -> Result<()> {
        if self.retention.finished_count.is_some() && self.walk.over.is_none() {
            self.walk.over = Some(self.count()?);
        }
        let candidates = self.candidates()?;
        let mut all = candidates.len() < MAX_FORGOTTEN_TASKS;
        for (index, (key, is_job)) in candidates.iter().enumerate() {
            if index > 0 && self.begun.elapsed() > BATCH_TIME {
                all = false;
                break;
            }
            if *is_job {
                self.job(*key)?;
            } else {
                self.task(*key)?;
            }
            self.walk.after = key.0;
        }
        if all {
            self.walk.after = 0;
            // What went may have been what kept something older.
            self.forgotten.more |= std::mem::take(&mut self.walk.let_go);
        } else {
            self.forgotten.more = true;
        }
        Ok(())
    }

    fn count(&self) -> Result<u64> {
        let mut count = 0;
        for status in OVER {
            let of_status: i64 = self
                .db
                .prepare_cached("SELECT count(*) FROM task WHERE status = ?1")?
                .query_row([status.code()], |row| row.get(0))?;
            count += of_status.unsigned_abs();
        }
        Ok(count)
    }

    /// Whether more tasks are over than are kept.
    fn too_many(&self) -> bool {
        self.retention.excess(self.walk.over.unwrap_or(0)) > 0
    }

    /// The next of what is over and old enough, in the order of arrival; whether each is a job from elsewhere.
    fn candidates(&self) -> Result<Vec<(TaskKey, bool)>> {
        let limit = int(MAX_FORGOTTEN_TASKS as u64);
        let mut candidates = Vec::new();
        // What arrived later has not ended earlier.
        let arrived_before = |time: Timestamp| TaskKey::new(time, 0).0;
        if let Some(before) = self.retention.ended_before(self.now, self.too_many()) {
            for status in OVER {
                let mut find = self.db.prepare_cached(
                    "SELECT key FROM task WHERE status = ?1 AND key > ?2 AND key < ?3 ORDER BY key LIMIT ?4",
                )?;
                let mut rows = find.query(params![
                    status.code(),
                    self.walk.after,
                    arrived_before(before),
                    limit
                ])?;
                while let Some(row) = rows.next()? {
                    candidates.push((TaskKey(row.get(0)?), false));
                }
            }
        }
        if let Some(before) = self.retention.ended_before(self.now, true) {
            let mut find = self.db.prepare_cached(
                "SELECT DISTINCT task FROM attempt WHERE external = 1 AND task > ?1 AND task < ?2 ORDER BY task LIMIT ?3",
            )?;
            let mut rows = find.query(params![self.walk.after, arrived_before(before), limit])?;
            while let Some(row) = rows.next()? {
                candidates.push((TaskKey(row.get(0)?), true));
            }
        }
        candidates.sort();
        candidates.truncate(MAX_FORGOTTEN_TASKS);
        Ok(candidates)
    }

    fn task(&mut self, key: TaskKey) -> Result<()> {
        let any_class = |id| {
            Ok(Arc::new(Class {
                id,
                demand: Demand::default(),
            }))
        };
        let task = self
            .db
            .prepare_cached(&format!("SELECT {TASK} FROM task WHERE key = ?1"))?
            .query_row([key.0], |row| read_task(row, any_class))?;
        let too_many = self.too_many();
        let goes = |attempts: &[Arc<Attempt>], lines: &[Line]| {
            let candidate = Candidate {
                task: Some(&task),
                attempts,
                lines,
            };
            self.retention.lets_go(&candidate, self.now, too_many)
        };
        // The task itself says no more often than the rest, which costs more to read.
        if !goes(&[], &[]) {
            return Ok(());
        }
        let (attempts, lines) = (self.attempts(key)?, self.lines(key)?);
        if !goes(&attempts, &lines) || !self.let_dependencies_on_it_go(&task)? {
            return Ok(());
        }
        self.begin()?;
        if task.dependencies > 0 {
            self.delete_dependencies_of(key)?;
        }
        for sql in [
            "DELETE FROM output WHERE task = ?1",
            "DELETE FROM note WHERE task = ?1",
            "DELETE FROM ending WHERE task = ?1",
            "DELETE FROM body WHERE task = ?1",
            "DELETE FROM task WHERE key = ?1",
        ] {
            self.db.prepare_cached(sql)?.execute([key.0])?;
        }
        self.delete_attempts(key, &attempts, lines)?;
        if let Some(over) = &mut self.walk.over {
            *over = over.saturating_sub(1);
        }
        self.forgotten.tasks += 1;
        self.forgotten.by_status[usize::from(task.status.code())] += 1;
        self.walk.let_go = true;
        Ok(())
    }

    fn job(&mut self, key: TaskKey) -> Result<()> {
        let (attempts, lines) = (self.attempts(key)?, self.lines(key)?);
        let candidate = Candidate {
            task: None,
            attempts: &attempts,
            lines: &lines,
        };
        if !self.retention.lets_go(&candidate, self.now, false) {
            return Ok(());
        }
        self.begin()?;
        // That there was such a job stays known: a late report must not open its account anew.
        self.delete_attempts(key, &attempts, lines)?;
        self.forgotten.jobs += 1;
        self.walk.let_go = true;
        Ok(())
    }

    fn attempts(&self, key: TaskKey) -> Result<Vec<Arc<Attempt>>> {
        self.db
            .prepare_cached(&format!("SELECT {ATTEMPT} FROM attempt WHERE task = ?1"))?
            .query_map([key.0], read_attempt)?
            .collect()
    }

    fn lines(&self, key: TaskKey) -> Result<Vec<Line>> {
        self.db
            .prepare_cached(&format!("SELECT {LINE} FROM line WHERE task = ?1"))?
            .query_map([key.0], |row| Ok(read_line(row)?.1))?
            .collect()
    }

    /// Lets go what depends on a task and needs it no more; says whether that was all. Of many, some go at a time.
    fn let_dependencies_on_it_go(&mut self, task: &Task) -> Result<bool> {
        if task.dependents == 0 {
            return Ok(true);
        }
        let mut find = self.db.prepare_cached(
            "SELECT edge.dependent, edge.state, task.status FROM edge JOIN task ON task.key = edge.dependent \
             WHERE edge.dependency = ?1 ORDER BY edge.dependent LIMIT ?2",
        )?;
        let mut rows = find.query(params![task.key.0, int(MAX_EDGES as u64)])?;
        let mut done: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            let dependent = Status::from_code(row.get(2)?).unwrap_or(Status::Pending);
            if !Retention::is_done(read_dependency(row, 1)?, dependent) {
                return Ok(false);
            }
            done.push(row.get(0)?);
        }
        if done.is_empty() {
            return Ok(true);
        }
        self.begin()?;
        for dependent in &done {
            self.db
                .prepare_cached("DELETE FROM edge WHERE dependency = ?1 AND dependent = ?2")?
                .execute(params![task.key.0, dependent])?;
        }
        self.walk.let_go = true;
        Ok(done.len() < MAX_EDGES)
    }

    /// Dependencies are found by what they depend on: the body of the dependent names that.
    fn delete_dependencies_of(&self, key: TaskKey) -> Result<()> {
        self.db
            .prepare_cached(
                "DELETE FROM edge WHERE dependent = ?1 AND dependency IN (SELECT task.key FROM body, \
                 json_each(body.dependencies) AS named JOIN task ON task.id = named.value WHERE body.task = ?1)",
            )?
            .execute([key.0])?;
        Ok(())
    }

    fn delete_attempts(&mut self, key: TaskKey, attempts: &[Arc<Attempt>], lines: Vec<Line>) -> Result<()> {
        if !lines.is_empty() {
            self.db
                .prepare_cached("DELETE FROM line WHERE task = ?1")?
                .execute([key.0])?;
        }
        if !attempts.is_empty() {
            self.db
                .prepare_cached("DELETE FROM attempt WHERE task = ?1")?
                .execute([key.0])?;
        }
        for line in lines {
            let archived = self
                .archive
                .entry((line.scope.clone(), line.resets))
                .or_insert_with(|| Line::new(line.scope.clone(), line.hour, line.resets, None));
            archive(archived, &line);
        }
        Ok(())
    }

    fn write_archive(&mut self) -> Result<()> {
        std::mem::take(&mut self.archive)
            .values()
            .try_for_each(|line| put_archived(self.db, line))
    }

    // ---- events --------------------------------------------------------------------------------------------------

    /// Events go from the first on, up to the first that stays.
    fn events(&mut self, last_seq: u64) -> Result<()> {
        let mut find = self
            .db
            .prepare_cached("SELECT seq, at FROM event ORDER BY seq LIMIT ?1")?;
        let mut rows = find.query([int(MAX_FORGOTTEN_EVENTS as u64)])?;
        let mut last = None;
        let mut gone = 0;
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(0)?.unsigned_abs();
            let at = Timestamp::from_micros(row.get(1)?);
            if !self
                .retention
                .lets_event_go(at, last_seq.saturating_sub(seq), self.now)
            {
                break;
            }
            last = Some(seq);
            gone += 1;
        }
        drop(rows);
        let Some(last) = last else { return Ok(()) };
        self.begin()?;
        self.db
            .prepare_cached("DELETE FROM event WHERE seq <= ?1")?
            .execute([int(last)])?;
        self.db
            .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('first_event', ?1)")?
            .execute([int(last + 1)])?;
        self.forgotten.events = gone;
        self.forgotten.more |= gone == MAX_FORGOTTEN_EVENTS as u64;
        Ok(())
    }
}

/// The number of the first event that is kept.
pub(super) fn first_event(db: &Connection) -> Result<i64> {
    let stored = db
        .query_row("SELECT value FROM meta WHERE name = 'first_event'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(stored.unwrap_or(1))
}

/// Adds a line to what is archived of its scope and reset.
pub(super) fn put_archived(db: &Connection, line: &Line) -> Result<()> {
    let [
        jobs,
        tokens_in,
        tokens_out,
        tokens_cached,
        cost,
        refunded,
        pull_requests,
        issues,
    ] = encoding::amounts(line);
    db.prepare_cached(
        "INSERT INTO archive (scope, resets, hour, jobs, tokens_in, tokens_out, tokens_cached, cost, \
                     refunded, pull_requests, issues) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                     ON CONFLICT (scope, resets) DO UPDATE SET hour = max(hour, excluded.hour), \
                     jobs = jobs + excluded.jobs, tokens_in = tokens_in + excluded.tokens_in, \
                     tokens_out = tokens_out + excluded.tokens_out, \
                     tokens_cached = tokens_cached + excluded.tokens_cached, cost = cost + excluded.cost, \
                     refunded = refunded + excluded.refunded, \
                     pull_requests = pull_requests + excluded.pull_requests, issues = issues + excluded.issues",
    )?
    .execute(params![
        line.scope.to_string(),
        line.resets,
        line.hour.as_micros(),
        jobs,
        tokens_in,
        tokens_out,
        tokens_cached,
        cost,
        refunded,
        pull_requests,
        issues,
    ])?;
    Ok(())
}
