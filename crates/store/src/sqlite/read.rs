//! Reading: what people and programs ask for beside the turns.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use adjutant_core::command::AccessToken;
use adjutant_core::event::{Event, EventKind};
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::task::{Class, ClassId, Demand, DependencyState, Note, Priority, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, Webhook};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Result, Row, params, params_from_iter};

use super::codec::{
    self, DELIVERY, TASK, int, read_body, read_delivery, read_json, read_task, read_token, read_webhook,
};
use super::damage::Alarm;
use super::{failed, load};
use crate::{
    Details, MAX_BLOCKERS, MAX_HEADS, MAX_OUTPUT_BYTES, Page, Reader, StoreError, StoredTask, TaskFilter,
};

/// Classes by number and by demand: they never change, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Classes {
    by_id: HashMap<ClassId, Arc<Class>>,
    by_demand: HashMap<Demand, ClassId>,
}

impl Classes {
    pub(super) fn add(&mut self, class: &Arc<Class>) {
        self.by_demand.insert(class.demand.clone(), class.id);
        self.by_id.insert(class.id, Arc::clone(class));
    }

    /// The class that a task names: it exists.
    pub(super) fn get(&mut self, db: &Connection, id: ClassId) -> Result<Arc<Class>> {
        self.find(db, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// The class with this number, if there is one.
    pub(super) fn find(&mut self, db: &Connection, id: ClassId) -> Result<Option<Arc<Class>>> {
        if let Some(class) = self.by_id.get(&id) {
            return Ok(Some(Arc::clone(class)));
        }
        let class = load::class_by_id(db, id.0)?;
        if let Some(class) = &class {
            self.add(class);
        }
        Ok(class)
    }

    /// The class of a demand; made when it is new.
    pub(super) fn of(&mut self, db: &Connection, demand: &Demand) -> Result<Arc<Class>> {
        if let Some(id) = self.by_demand.get(demand) {
            return self.get(db, *id);
        }
        let id = load::intern(db, &codec::demand(demand))?;
        self.get(db, ClassId(id))
    }
}

pub(super) struct SqliteReader {
    db: Connection,
    classes: Classes,
    alarm: Alarm,
}

impl SqliteReader {
    pub(super) fn new(db: Connection, alarm: Alarm) -> Self {
        Self {
            db,
            classes: Classes::default(),
            alarm,
        }
    }

    /// Runs several questions on one state of the store.
    fn consistently<T>(
        &mut self,
        ask: impl FnOnce(&Connection, &mut Classes) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        let answer = (|| {
            let transaction = self.db.unchecked_transaction()?;
            let answer = ask(&transaction, &mut self.classes)?;
            transaction.finish()?;
            Ok(answer)
        })();
        answer.map_err(|error| failed(&self.alarm, &error))
    }
}

impl Reader for SqliteReader {
    fn task(&mut self, id: &TaskId) -> std::result::Result<Option<StoredTask>, StoreError> {
        self.consistently(|db, classes| {
            let task = db
                .prepare_cached(&format!("SELECT {TASK} FROM task WHERE id = ?1"))?
                .query_row([id.as_str()], |row| {
                    read_task(row, |class| classes.get(db, class))
                })
                .optional()?;
            task.map(|task| {
                Ok(StoredTask {
                    details: details(db, &task)?,
                    task,
                })
            })
            .transpose()
        })
    }

    fn tasks(&mut self, filter: &TaskFilter) -> std::result::Result<Page, StoreError> {
        self.consistently(|db, classes| page(db, classes, filter))
    }

    fn details(&mut self, tasks: &[Arc<Task>]) -> std::result::Result<Vec<Details>, StoreError> {
        self.consistently(|db, _| tasks.iter().map(|task| details(db, task)).collect())
    }

    fn events(&mut self, since: u64, limit: usize) -> std::result::Result<Vec<Event>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached(
                "SELECT seq, kind, task, task_id, agent, at, payload FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?
            .query_map(params![int(since), int(limit as u64)], read_event)?
            .collect()
        })
    }

    fn task_events(
        &mut self,
        task: TaskKey,
        since: u64,
        limit: usize,
    ) -> std::result::Result<Vec<Event>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached(
                "SELECT seq, kind, task, task_id, agent, at, payload FROM event \
                 WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?
            .query_map(params![task.0, int(since), int(limit as u64)], read_event)?
            .collect()
        })
    }

    fn task_events_before(
        &mut self,
        task: TaskKey,
        before: u64,
        limit: usize,
    ) -> std::result::Result<Vec<Event>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached(
                "SELECT seq, kind, task, task_id, agent, at, payload FROM event \
                 WHERE task = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
            )?
            .query_map(params![task.0, int(before), int(limit as u64)], read_event)?
            .collect()
        })
    }

    fn output(&mut self, task: TaskKey) -> std::result::Result<String, StoreError> {
        let mut text = self.consistently(|db, _| {
            db.prepare_cached("SELECT text FROM output WHERE task = ?1 ORDER BY id")?
                .query_map([task.0], |row| row.get::<_, String>(0))?
                .collect::<Result<String>>()
        })?;
        let mut excess = text.len().saturating_sub(MAX_OUTPUT_BYTES);
        while !text.is_char_boundary(excess) {
            excess += 1;
        }
        Ok(text.split_off(excess))
    }

    fn counts(&mut self) -> std::result::Result<[u64; 6], StoreError> {
        self.consistently(|db, _| {
            let mut counts = [0; 6];
            let mut find = db.prepare_cached("SELECT status, count(*) FROM task GROUP BY status")?;
            let mut rows = find.query([])?;
            while let Some(row) = rows.next()? {
                if let Some(status) = Status::from_code(row.get(0)?) {
                    counts[usize::from(status.code())] = row.get::<_, i64>(1)?.unsigned_abs();
                }
            }
            Ok(counts)
        })
    }

    fn ready_since(&mut self) -> std::result::Result<[Option<Timestamp>; 4], StoreError> {
        self.consistently(|db, _| {
            let mut find = db.prepare_cached(
                "SELECT min(ready_since) FROM \
                 (SELECT ready_since, delayed_until FROM task WHERE status = 0 AND priority = ?1 ORDER BY key LIMIT ?2) \
                 WHERE delayed_until IS NULL",
            )?;
            let mut since = [None; 4];
            for priority in Priority::ALL {
                let first: Option<i64> = find
                    .query_row(params![priority.rank(), int(MAX_HEADS as u64)], |row| row.get(0))?;
                since[usize::from(priority.rank())] = first.map(Timestamp::from_micros);
            }
            Ok(since)
        })
    }

    fn last_seq(&mut self) -> std::result::Result<u64, StoreError> {
        self.consistently(|db, _| {
            let seq: i64 = db
                .prepare_cached("SELECT coalesce(max(seq), 0) FROM event")?
                .query_row([], |row| row.get(0))?;
            Ok(seq.unsigned_abs())
        })
    }

    fn peers(&mut self) -> std::result::Result<Vec<AgentId>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached("SELECT id FROM agent WHERE peer IS NOT NULL")?
                .query_map([], |row| Ok(row.get::<_, String>(0)?.into()))?
                .collect()
        })
    }

    fn tokens(&mut self) -> std::result::Result<Vec<AccessToken>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached("SELECT name, digest, roles, created_at FROM token ORDER BY name")?
                .query_map([], read_token)?
                .collect()
        })
    }

    fn webhooks(&mut self) -> std::result::Result<Vec<Webhook>, StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached("SELECT name, document FROM webhook ORDER BY name")?
                .query_map([], read_webhook)?
                .collect()
        })
    }

    fn deliveries(
        &mut self,
        webhook: &str,
        after: u64,
        limit: usize,
    ) -> std::result::Result<Vec<(u64, Delivery)>, StoreError> {
        self.consistently(|db, _| {
            let sql = format!(
                "SELECT {DELIVERY} FROM delivery WHERE webhook = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            );
            db.prepare_cached(&sql)?
                .query_map(params![webhook, int(after), int(limit as u64)], of_webhook)?
                .collect()
        })
    }

    fn due_deliveries(
        &mut self,
        webhook: &str,
        limit: usize,
    ) -> std::result::Result<Vec<(u64, Delivery)>, StoreError> {
        self.consistently(|db, _| {
            let sql = format!(
                "SELECT {DELIVERY} FROM delivery WHERE webhook = ?1 AND due_at IS NOT NULL \
                 ORDER BY due_at, seq LIMIT ?2"
            );
            db.prepare_cached(&sql)?
                .query_map(params![webhook, int(limit as u64)], of_webhook)?
                .collect()
        })
    }

    fn secret(&mut self) -> std::result::Result<[u8; 32], StoreError> {
        self.consistently(|db, _| {
            db.prepare_cached("SELECT value FROM meta WHERE name = 'secret'")?
                .query_row([], |row| codec::digest(row, 0))
        })
    }
}

fn of_webhook(row: &Row<'_>) -> Result<(u64, Delivery)> {
    let (key, delivery) = read_delivery(row)?;
    Ok((key.seq, delivery))
}

/// What decisions do not need of a task. What cannot be there is not asked for.
fn details(db: &Connection, task: &Task) -> Result<Details> {
    let body = db
        .prepare_cached(
            "SELECT task, title, description, payload, files, dependencies FROM body WHERE task = ?1",
        )?
        .query_row([task.key.0], read_body)
        .optional()?
        .unwrap_or_default();
    let mut details = Details {
        body,
        ..Details::default()
    };
    if task.has_result || task.retry_count > 0 || task.status.is_terminal() {
        let ending = db
            .prepare_cached("SELECT result, fail_reason FROM ending WHERE task = ?1")?
            .query_row([task.key.0], |row| {
                let result = match row.get_ref(0)? {
                    rusqlite::types::ValueRef::Null => None,
                    _ => Some(read_json(row, 0)?),
                };
                Ok((result, row.get(1)?))
            })
            .optional()?;
        (details.result, details.fail_reason) = ending.unwrap_or_default();
    }
    if task.notes > 0 {
        details.notes = db
            .prepare_cached("SELECT at, author, text FROM note WHERE task = ?1 ORDER BY number")?
            .query_map([task.key.0], |row| {
                Ok(Note {
                    at: Timestamp::from_micros(row.get(0)?),
                    author: row.get::<_, String>(1)?.into(),
                    text: row.get(2)?,
                })
            })?
            .collect::<Result<_>>()?;
    }
    if task.dependents > 0 && (task.status != Status::Completed || task.fanout.is_some()) {
        let (met, blocked) = (codec::dependency(DependencyState::Met), Status::Blocked.code());
        details.blockers = db
            .prepare_cached(
                "SELECT task.id FROM edge JOIN task ON task.key = edge.dependent \
                 WHERE edge.dependency = ?1 AND edge.state <> ?2 AND task.status = ?3 \
                 ORDER BY edge.dependent LIMIT ?4",
            )?
            .query_map(
                params![task.key.0, met, blocked, int(MAX_BLOCKERS as u64)],
                |row| Ok(TaskId::from(row.get::<_, String>(0)?)),
            )?
            .collect::<Result<_>>()?;
        details.blockers_count = u32::try_from(details.blockers.len()).unwrap_or(u32::MAX);
        if details.blockers.len() == MAX_BLOCKERS {
            details.blockers_count = db
                .prepare_cached(
                    "SELECT count(*) FROM edge JOIN task ON task.key = edge.dependent \
                     WHERE edge.dependency = ?1 AND edge.state <> ?2 AND task.status = ?3",
                )?
                .query_row(params![task.key.0, met, blocked], |row| row.get(0))?;
        }
    }
    Ok(details)
}

pub(super) fn read_event(row: &Row<'_>) -> Result<Event> {
    let kind = row.get_ref(1)?.as_str()?;
    let task = match (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<String>>(3)?) {
        (Some(key), Some(id)) => Some((TaskKey(key), id.into())),
        _ => None,
    };
    Ok(Event {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        kind: EventKind::from_name(kind).ok_or(rusqlite::Error::InvalidQuery)?,
        task,
        agent: row.get::<_, Option<String>>(4)?.map(Into::into),
        at: Timestamp::from_micros(row.get(5)?),
        payload: row.get::<_, Option<String>>(6)?.map(Into::into),
    })
}

/// One page of tasks. With `pending` in order of dispatch, otherwise newest first.
fn page(db: &Connection, classes: &mut Classes, filter: &TaskFilter) -> Result<Page> {
    let by_dispatch = filter.status == Some(Status::Pending);
    // The index has the tasks in this very order, but nothing tells SQLite that there may be a million of them: left to
    // itself it sorts them all.
    let index = if by_dispatch && filter.project.is_none() && filter.claimed_by.is_none() {
        " INDEXED BY task_pending"
    } else {
        ""
    };
    let mut sql = format!("SELECT {TASK} FROM task{index} WHERE 1 = 1");
    if by_dispatch {
        // As the index has it: it is not found by way of a parameter.
        let _ = write!(sql, " AND status = {}", Status::Pending.code());
    }
    let mut values: Vec<Value> = Vec::new();
    let mut bind = |sql: &mut String, condition: &str, value: Value| {
        values.push(value);
        // Writing to a string cannot fail.
        let _ = write!(sql, " AND {condition} ?{}", values.len());
    };
    if let Some(status) = filter.status.filter(|_| !by_dispatch) {
        bind(&mut sql, "status =", Value::from(i64::from(status.code())));
    }
    if let Some(priority) = filter.priority {
        bind(&mut sql, "priority =", Value::from(i64::from(priority.rank())));
    }
    if let Some(project) = &filter.project {
        bind(&mut sql, "project =", Value::from(project.to_string()));
    }
    if let Some(agent) = &filter.claimed_by {
        bind(&mut sql, "claimed_by =", Value::from(agent.to_string()));
    }
    if let Some((priority, key)) = filter.after {
        if by_dispatch {
            bind(
                &mut sql,
                "(priority, key) > (",
                Value::from(i64::from(priority.rank())),
            );
            values.push(Value::from(key.0));
            let _ = write!(sql, ", ?{})", values.len());
        } else {
            bind(&mut sql, "key <", Value::from(key.0));
        }
    }
    if !filter.labels.is_empty() {
        // Few classes, many tasks: labels are looked up among the classes.
        let ids = classes_with(db, classes, filter)?;
        if ids.is_empty() {
            return Ok(Page::default());
        }
        let _ = write!(sql, " AND class IN ({})", ids.join(", "));
    }
    sql.push_str(if by_dispatch {
        " ORDER BY priority, key"
    } else {
        " ORDER BY key DESC"
    });
    let _ = write!(sql, " LIMIT {}", int(filter.limit as u64).saturating_add(1));
    let mut tasks = db
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| {
            read_task(row, |class| classes.get(db, class))
        })?
        .collect::<Result<Vec<_>>>()?;
    let more = tasks.len() > filter.limit;
    tasks.truncate(filter.limit);
    let next: Option<(Priority, TaskKey)> = tasks
        .last()
        .filter(|_| more)
        .map(|last| (last.priority, last.key));
    let tasks = tasks
        .into_iter()
        .map(|task| {
            Ok(StoredTask {
                details: details(db, &task)?,
                task,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Page { tasks, next })
}

fn classes_with(db: &Connection, classes: &mut Classes, filter: &TaskFilter) -> Result<Vec<String>> {
    let ids: Vec<i64> = db
        .prepare_cached("SELECT id FROM class")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let mut matching = Vec::new();
    for id in ids {
        let class = classes.get(db, ClassId(id))?;
        if filter
            .labels
            .iter()
            .all(|label| class.demand.labels.contains(label))
        {
            matching.push(id.to_string());
        }
    }
    Ok(matching)
}
