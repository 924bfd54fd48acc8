//! Forgetting: what the retention lets go, in small batches, by one server at a time.
//!
//! A walk looks at what is over from the oldest on. What another server has locked is left for later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use adjutant_core::attempt::Attempt;
use adjutant_core::ledger::Line;
use adjutant_core::limit::Scope;
use adjutant_core::retention::{Candidate, Retention, archive};
use adjutant_core::task::{Class, Demand, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::Failure;
use super::codec::{
    attempt_columns, class_of, column, line_columns, read_attempt, read_line, read_task, task_columns,
};
use super::session::Session;
use crate::encoding::{self, int};
use crate::{Forgotten, MAX_FORGOTTEN_EVENTS, MAX_FORGOTTEN_TASKS};

/// One server forgets at a time.
const TURN_TO_FORGET: i64 = 0x0061_646a_666f_7267;
/// The states of what is over.
const OVER: [Status; 3] = [Status::Completed, Status::Failed, Status::Cancelled];

/// Where the walk is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walk {
    /// Everything up to this key was looked at.
    after: i64,
    /// Whether something went, which may set other things free.
    let_go: bool,
}

pub(super) fn batch(
    session: &mut Session,
    walk: &mut Walk,
    retention: &Retention,
    now: Timestamp,
) -> Result<Forgotten, Failure> {
    let before = *walk;
    let result = session.run(|live| async {
        let client = &live.client;
        client.batch_execute("BEGIN").await?;
        let mine = client
            .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&TURN_TO_FORGET])
            .await?;
        let mut batch = Batch {
            client,
            retention,
            now,
            walk: before,
            archive: BTreeMap::new(),
            forgotten: Forgotten::default(),
        };
        if column::<bool>(&mine, 0)? {
            if retention.forgets_finished() {
                batch.finished().await?;
                batch.write_archive().await?;
            }
            if retention.forgets_events() {
                batch.events().await?;
            }
        }
        client.batch_execute("COMMIT").await?;
        Ok((batch.walk, batch.forgotten))
    });
    match result {
        Ok((after, forgotten)) => {
            *walk = after;
            Ok(forgotten)
        }
        Err(failure) => {
            // Whatever came of it, what is gone is gone whole; the walk looks again.
            let ended = session.go_on(|live| async { Ok(live.client.batch_execute("ROLLBACK").await?) });
            if ended.is_err() {
                session.hang_up();
            }
            Err(failure)
        }
    }
}

struct Batch<'a> {
    client: &'a Client,
    retention: &'a Retention,
    now: Timestamp,
    walk: Walk,
    archive: BTreeMap<(Scope, u32), Line>,
    forgotten: Forgotten,
}

impl Batch<'_> {
    async fn finished(&mut self) -> Result<(), Failure> {
        let mut over = self.count().await?;
        let tasks = self.candidates(self.retention.excess(over) > 0).await?;
        let jobs = self.jobs().await?;
        let limit = MAX_FORGOTTEN_TASKS;
        let mut keys: Vec<(i64, bool)> = tasks.keys().map(|key| (*key, false)).collect();
        keys.extend(jobs.into_iter().map(|key| (key, true)));
        keys.sort_unstable();
        let all = keys.len() < limit;
        keys.truncate(limit);
        let named: Vec<i64> = keys.iter().map(|(key, _)| *key).collect();
        let mut attempts = self.attempts(&named).await?;
        let mut lines = self.lines(&named).await?;
        let needed = self.needed(&named).await?;
        let (mut gone, mut gone_jobs) = (Vec::new(), Vec::new());
        for (key, is_job) in &keys {
            let attempts = attempts.remove(key).unwrap_or_default();
            let lines = lines.remove(key).unwrap_or_default();
            let task = tasks.get(key);
            let candidate = Candidate {
                task: task.map(|task| &**task),
                attempts: &attempts,
                lines: &lines,
            };
            let too_many = !is_job && self.retention.excess(over) > 0;
            if !self.retention.lets_go(&candidate, self.now, too_many) || needed.contains(key) {
                continue;
            }
            if *is_job {
                gone_jobs.push(*key);
            } else {
                gone.push(*key);
                if let Some(task) = task {
                    self.forgotten.by_status[usize::from(task.status.code())] += 1;
                }
                over = over.saturating_sub(1);
            }
            for line in &lines {
                let archived = self
                    .archive
                    .entry((line.scope.clone(), line.resets))
                    .or_insert_with(|| Line::new(line.scope.clone(), line.hour, line.resets, None));
                archive(archived, line);
            }
        }
        self.delete(&gone, &gone_jobs).await?;
        self.forgotten.tasks = gone.len() as u64;
        self.forgotten.jobs = gone_jobs.len() as u64;
        self.walk.let_go |= !gone.is_empty() || !gone_jobs.is_empty();
        if all {
            self.walk.after = 0;
            // What went may have been what kept something older.
            self.forgotten.more |= std::mem::take(&mut self.walk.let_go);
        } else {
            self.walk.after = named.last().copied().unwrap_or(0);
            self.forgotten.more = true;
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64, Failure> {
        if self.retention.finished_count.is_none() {
            return Ok(0);
        }
        let over: Vec<i16> = OVER.iter().map(|status| i16::from(status.code())).collect();
        let count = "SELECT count(*) FROM task WHERE status = ANY($1::smallint[])";
        let row = self.client.query_one(count, &[&over]).await?;
        Ok(column::<i64>(&row, 0)?.unsigned_abs())
    }

    /// The next of what is over and old enough, in the order of arrival, locked.
    async fn candidates(&self, too_many: bool) -> Result<BTreeMap<i64, Arc<Task>>, Failure> {
        let mut found = BTreeMap::new();
        let Some(before) = self.retention.ended_before(self.now, too_many) else {
            return Ok(found);
        };
        let find = concat!(
            "SELECT ",
            task_columns!(),
            " FROM task WHERE status = $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4 FOR UPDATE SKIP LOCKED"
        );
        for status in OVER {
            let rows = self
                .client
                .query(
                    find,
                    &[
                        &i16::from(status.code()),
                        &self.walk.after,
                        &TaskKey::new(before, 0).0,
                        &int(MAX_FORGOTTEN_TASKS as u64),
                    ],
                )
                .await?;
            for row in &rows {
                // What a task asked for is of no more interest.
                let class = Arc::new(Class {
                    id: class_of(row)?,
                    demand: Demand::default(),
                });
                let task = read_task(row, &class)?;
                found.insert(task.key.0, task);
            }
        }
        Ok(found)
    }

    async fn jobs(&self) -> Result<Vec<i64>, Failure> {
        let Some(before) = self.retention.ended_before(self.now, true) else {
            return Ok(Vec::new());
        };
        let find = "SELECT DISTINCT task FROM attempt WHERE external AND task > $1 AND task < $2 ORDER BY task LIMIT $3";
        let rows = self
            .client
            .query(
                find,
                &[
                    &self.walk.after,
                    &TaskKey::new(before, 0).0,
                    &int(MAX_FORGOTTEN_TASKS as u64),
                ],
            )
            .await?;
        rows.iter().map(|row| column(row, 0)).collect()
    }

    async fn attempts(&self, keys: &[i64]) -> Result<HashMap<i64, Vec<Arc<Attempt>>>, Failure> {
        let find = concat!(
            "SELECT ",
            attempt_columns!(),
            " FROM attempt WHERE task = ANY($1::bigint[]) ORDER BY task, number FOR UPDATE"
        );
        let mut attempts: HashMap<i64, Vec<Arc<Attempt>>> = HashMap::new();
        for row in self.client.query(find, &[&keys]).await? {
            let attempt = read_attempt(&row)?;
            attempts.entry(attempt.key.task.0).or_default().push(attempt);
        }
        Ok(attempts)
    }

    async fn lines(&self, keys: &[i64]) -> Result<HashMap<i64, Vec<Line>>, Failure> {
        let find = concat!(
            "SELECT ",
            line_columns!(),
            " FROM line WHERE task = ANY($1::bigint[])"
        );
        let mut lines: HashMap<i64, Vec<Line>> = HashMap::new();
        for row in self.client.query(find, &[&keys]).await? {
            let (key, line) = read_line(&row)?;
            lines.entry(key.task.0).or_default().push(line);
        }
        Ok(lines)
    }

    /// Those on which something depends that is not done with them.
    async fn needed(&self, keys: &[i64]) -> Result<BTreeSet<i64>, Failure> {
        let find = "SELECT DISTINCT edge.dependency, edge.state, task.status FROM edge \
                    JOIN task ON task.key = edge.dependent WHERE edge.dependency = ANY($1::bigint[])";
        let mut needed = BTreeSet::new();
        for row in self.client.query(find, &[&keys]).await? {
            let code = |index| -> Result<u8, Failure> {
                u8::try_from(column::<i16>(&row, index)?)
                    .map_err(|_| Failure::Broken("edge: a negative code".into()))
            };
            let state = encoding::read_dependency(code(1)?).map_err(Failure::Broken)?;
            let status =
                Status::from_code(code(2)?).ok_or_else(|| Failure::Broken("an unknown status".into()))?;
            if !Retention::is_done(state, status) {
                needed.insert(column(&row, 0)?);
            }
        }
        Ok(needed)
    }

    async fn delete(&self, tasks: &[i64], jobs: &[i64]) -> Result<(), Failure> {
        if !tasks.is_empty() {
            for sql in [
                "DELETE FROM output WHERE task = ANY($1::bigint[])",
                "DELETE FROM note WHERE task = ANY($1::bigint[])",
                "DELETE FROM ending WHERE task = ANY($1::bigint[])",
                "DELETE FROM edge WHERE dependency = ANY($1::bigint[])",
                // What it depended on is named in its body, so that no index must be kept for this alone.
                "DELETE FROM edge USING body, json_array_elements_text(body.doc::json -> 'dependencies') AS named (id), \
                 task_id WHERE body.task = ANY($1::bigint[]) AND task_id.id = named.id \
                 AND edge.dependency = task_id.task AND edge.dependent = body.task",
                "DELETE FROM body WHERE task = ANY($1::bigint[])",
                "DELETE FROM task_id USING task WHERE task_id.id = task.id AND task.key = ANY($1::bigint[])",
                "DELETE FROM task WHERE key = ANY($1::bigint[])",
            ] {
                self.client.execute(sql, &[&tasks]).await?;
            }
        }
        let all: Vec<i64> = tasks.iter().chain(jobs).copied().collect();
        if !all.is_empty() {
            for sql in [
                "DELETE FROM line WHERE task = ANY($1::bigint[])",
                "DELETE FROM attempt WHERE task = ANY($1::bigint[])",
            ] {
                self.client.execute(sql, &[&all]).await?;
            }
        }
        Ok(())
    }

    async fn write_archive(&mut self) -> Result<(), Failure> {
        for line in std::mem::take(&mut self.archive).values() {
            put_archived(self.client, line).await?;
        }
        Ok(())
    }

    /// Events go from the first on, up to the first that stays.
    async fn events(&mut self) -> Result<(), Failure> {
        let find =
            "SELECT event.seq, event.at, event_head.seq FROM event, event_head ORDER BY event.seq LIMIT $1";
        let rows = self
            .client
            .query(find, &[&int(MAX_FORGOTTEN_EVENTS as u64)])
            .await?;
        let goes = |row: &Row| -> Result<Option<i64>, Failure> {
            let (seq, at, last): (i64, i64, i64) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
            let behind = last.abs_diff(seq);
            let goes = self
                .retention
                .lets_event_go(Timestamp::from_micros(at), behind, self.now);
            Ok(goes.then_some(seq))
        };
        let mut last = None;
        for row in &rows {
            let Some(seq) = goes(row)? else { break };
            last = Some(seq);
            self.forgotten.events += 1;
        }
        let Some(last) = last else { return Ok(()) };
        self.client
            .execute("DELETE FROM event WHERE seq <= $1", &[&last])
            .await?;
        self.forgotten.more |= self.forgotten.events == MAX_FORGOTTEN_EVENTS as u64;
        Ok(())
    }
}

/// Adds a line to what is archived of its scope and reset.
pub(super) async fn put_archived(client: &Client, line: &Line) -> Result<(), Failure> {
    let put = "INSERT INTO archive (scope, resets, hour, jobs, tokens_in, tokens_out, tokens_cached, cost, refunded, \
                   pull_requests, issues) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                   ON CONFLICT (scope, resets) DO UPDATE SET hour = greatest(archive.hour, excluded.hour), \
                   jobs = archive.jobs + excluded.jobs, tokens_in = archive.tokens_in + excluded.tokens_in, \
                   tokens_out = archive.tokens_out + excluded.tokens_out, \
                   tokens_cached = archive.tokens_cached + excluded.tokens_cached, cost = archive.cost + excluded.cost, \
                   refunded = archive.refunded + excluded.refunded, \
                   pull_requests = archive.pull_requests + excluded.pull_requests, \
                   issues = archive.issues + excluded.issues";
    let (scope, resets, hour) = (
        line.scope.to_string(),
        i64::from(line.resets),
        line.hour.as_micros(),
    );
    let amounts = encoding::amounts(line);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&scope, &resets, &hour];
    values.extend(amounts.iter().map(|amount| amount as &(dyn ToSql + Sync)));
    client.execute(put, &values).await?;
    Ok(())
}
