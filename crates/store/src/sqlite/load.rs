//! Loading: the rows that a turn asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use adjutant_core::attempt::AttemptKey;
use adjutant_core::ledger::Account;
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::{Dependents, Due, MAX_DUE, MAX_FANOUT, Replay, Rows, Wanted};
use adjutant_core::task::{Task, TaskKey};
use adjutant_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::codec::{
    self, ATTEMPT, DELIVERY, LINE, TASK, digest, gate, int, read_attempt, read_dependency, read_json,
    read_line, read_order, read_task,
};
use super::read::Classes;

pub(super) fn load(db: &Connection, classes: &mut Classes, wanted: &Wanted) -> Result<Rows> {
    let mut rows = Rows::default();
    for wanted in &wanted.experiences {
        let (labels, model) = codec::kind(wanted);
        let found = db
            .prepare_cached("SELECT labels, model, samples FROM experience WHERE labels = ?1 AND model = ?2")?
            .query_row(params![labels, model], codec::read_experience)
            .optional()?;
        rows.experiences.extend(found);
    }
    for demand in &wanted.demands {
        rows.classes.push(classes.of(db, demand)?);
    }
    for id in &wanted.classes {
        rows.classes.extend(classes.find(db, *id)?);
    }
    let mut seen = BTreeSet::new();
    if !wanted.task_ids.is_empty() {
        let mut by_id = db.prepare_cached(&format!("SELECT {TASK} FROM task WHERE id = ?1"))?;
        for id in &wanted.task_ids {
            let found = by_id
                .query_row([id.as_str()], |row| {
                    read_task(row, |class| classes.get(db, class))
                })
                .optional()?;
            if let Some(task) = found
                && seen.insert(task.key)
            {
                rows.tasks.push(task);
            }
        }
    }
    for key in &wanted.tasks {
        add_task(db, classes, *key, &mut seen, &mut rows)?;
    }
    for key in &wanted.attempts {
        rows.attempts.extend(attempt(db, *key)?);
    }
    for key in &wanted.accounts {
        rows.accounts.push(account(db, *key)?);
    }
    if !wanted.idempotency.is_empty() {
        let mut find =
            db.prepare_cached("SELECT digest, at, answer FROM replay WHERE token = ?1 AND key = ?2")?;
        for key in &wanted.idempotency {
            let found = find
                .query_row(params![&*key.token, &*key.key], |row| {
                    Ok(Replay {
                        digest: digest(row, 0)?,
                        at: Timestamp::from_micros(row.get(1)?),
                        answer: read_json(row, 2)?,
                    })
                })
                .optional()?;
            rows.idempotency.extend(found.map(|replay| (key.clone(), replay)));
        }
    }
    for id in &wanted.jobs {
        let found = db
            .prepare_cached("SELECT task, number FROM job WHERE id = ?1")?
            .query_row([id.as_str()], |row| {
                Ok(AttemptKey {
                    task: TaskKey(row.get(0)?),
                    number: row.get(1)?,
                })
            })
            .optional()?;
        rows.jobs.extend(found.map(|key| (id.clone(), key)));
    }
    webhooks(db, wanted, &mut rows)?;
    windows(db, classes, wanted, &mut seen, &mut rows)?;
    for (of, after) in &wanted.dependents {
        let page = dependents(db, *of, *after)?;
        for (dependent, _) in &page.list {
            add_task(db, classes, *dependent, &mut seen, &mut rows)?;
        }
        rows.dependents.push(page);
    }
    if let Some(until) = wanted.due {
        due(db, classes, until, &mut seen, &mut rows)?;
    }
    Ok(rows)
}

fn webhooks(db: &Connection, wanted: &Wanted, rows: &mut Rows) -> Result<()> {
    for name in &wanted.webhooks {
        let found = db
            .prepare_cached("SELECT name, document FROM webhook WHERE name = ?1")?
            .query_row([&**name], codec::read_webhook)
            .optional()?;
        rows.webhooks.extend(found.map(Arc::new));
    }
    for key in &wanted.deliveries {
        let found = db
            .prepare_cached(&format!(
                "SELECT {DELIVERY} FROM delivery WHERE webhook = ?1 AND seq = ?2"
            ))?
            .query_row(params![&*key.webhook, int(key.seq)], codec::read_delivery)
            .optional()?;
        rows.deliveries.extend(found);
    }
    Ok(())
}

fn add_task(
    db: &Connection,
    classes: &mut Classes,
    key: TaskKey,
    seen: &mut BTreeSet<TaskKey>,
    rows: &mut Rows,
) -> Result<()> {
    if seen.insert(key) {
        rows.tasks.extend(task(db, classes, key)?);
    }
    Ok(())
}

pub(super) fn task(db: &Connection, classes: &mut Classes, key: TaskKey) -> Result<Option<Arc<Task>>> {
    db.prepare_cached(&format!("SELECT {TASK} FROM task WHERE key = ?1"))?
        .query_row([key.0], |row| read_task(row, |class| classes.get(db, class)))
        .optional()
}

fn attempt(db: &Connection, key: AttemptKey) -> Result<Option<Arc<adjutant_core::attempt::Attempt>>> {
    db.prepare_cached(&format!(
        "SELECT {ATTEMPT} FROM attempt WHERE task = ?1 AND number = ?2"
    ))?
    .query_row(params![key.task.0, key.number], read_attempt)
    .optional()
}

pub(super) fn account(db: &Connection, key: AttemptKey) -> Result<Arc<Account>> {
    let lines = db
        .prepare_cached(&format!(
            "SELECT {LINE} FROM line WHERE task = ?1 AND number = ?2"
        ))?
        .query_map(params![key.task.0, key.number], |row| Ok(read_line(row)?.1))?
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Account { attempt: key, lines }))
}

/// Stretches of queues, and of those who want a lock, with their tasks.
fn windows(
    db: &Connection,
    classes: &mut Classes,
    wanted: &Wanted,
    seen: &mut BTreeSet<TaskKey>,
    rows: &mut Rows,
) -> Result<()> {
    for (queue, after) in &wanted.windows {
        let (priority, key) = after.map_or((-1, 0), |after| (i64::from(after.priority.rank()), after.key.0));
        let mut orders = db
            .prepare_cached(
                "SELECT priority, key FROM task WHERE status = 0 AND delayed_until IS NULL \
                 AND class = ?1 AND gate = ?2 AND (priority, key) > (?3, ?4) \
                 ORDER BY priority, key LIMIT ?5",
            )?
            .query_map(
                params![
                    queue.class.0,
                    gate(queue.gate.as_ref()),
                    priority,
                    key,
                    int(WINDOW_STRETCH as u64 + 1)
                ],
                read_order,
            )?
            .collect::<Result<Vec<_>>>()?;
        let complete = orders.len() <= WINDOW_STRETCH;
        orders.truncate(WINDOW_STRETCH);
        for order in &orders {
            add_task(db, classes, order.key, seen, rows)?;
        }
        rows.windows.push((queue.clone(), orders, complete));
    }
    for (lock, after) in &wanted.wanters {
        let (priority, key) = after.map_or((-1, 0), |after| (i64::from(after.priority.rank()), after.key.0));
        let mut orders = db
            .prepare_cached(
                "SELECT priority, task FROM want WHERE lock = ?1 AND (priority, task) > (?2, ?3) \
                 ORDER BY priority, task LIMIT ?4",
            )?
            .query_map(
                params![lock.as_str(), priority, key, int(WINDOW_STRETCH as u64 + 1)],
                read_order,
            )?
            .collect::<Result<Vec<_>>>()?;
        let complete = orders.len() <= WINDOW_STRETCH;
        orders.truncate(WINDOW_STRETCH);
        for order in &orders {
            add_task(db, classes, order.key, seen, rows)?;
        }
        rows.wanters.push((lock.clone(), orders, complete));
    }
    Ok(())
}

fn dependents(db: &Connection, of: TaskKey, after: TaskKey) -> Result<Dependents> {
    let mut list = db
        .prepare_cached(
            "SELECT dependent, state FROM edge WHERE dependency = ?1 AND dependent > ?2 ORDER BY dependent LIMIT ?3",
        )?
        .query_map(params![of.0, after.0, int(MAX_FANOUT as u64 + 1)], |row| {
            Ok((TaskKey(row.get(0)?), read_dependency(row, 1)?))
        })?
        .collect::<Result<Vec<_>>>()?;
    let more = list.len() > MAX_FANOUT;
    list.truncate(MAX_FANOUT);
    Ok(Dependents {
        of,
        after,
        list,
        more,
    })
}

/// Tasks whose time has come, and the time of the first whose has not.
fn due(
    db: &Connection,
    classes: &mut Classes,
    until: Timestamp,
    seen: &mut BTreeSet<TaskKey>,
    rows: &mut Rows,
) -> Result<()> {
    let mut keys = Vec::new();
    let mut next = None;
    let mut find = db.prepare_cached(
        "SELECT key, wakes_at FROM task WHERE wakes_at IS NOT NULL ORDER BY wakes_at LIMIT ?1",
    )?;
    let mut found = find.query([int(MAX_DUE as u64 + 1)])?;
    while let Some(row) = found.next()? {
        let at: i64 = row.get(1)?;
        if at > until.as_micros() || keys.len() == MAX_DUE {
            next = Some(Timestamp::from_micros(at));
            break;
        }
        keys.push(TaskKey(row.get(0)?));
    }
    for key in &keys {
        add_task(db, classes, *key, seen, rows)?;
    }
    rows.due = Some(Due {
        tasks: keys,
        next,
        ..Due::default()
    });
    Ok(())
}

/// Makes sure that a demand has a number.
pub(super) fn intern(db: &Connection, demand: &str) -> Result<i64> {
    db.prepare_cached("INSERT INTO class (demand) VALUES (?1) ON CONFLICT (demand) DO NOTHING")?
        .execute([demand])?;
    db.prepare_cached("SELECT id FROM class WHERE demand = ?1")?
        .query_row([demand], |row| row.get(0))
}

pub(super) fn class_by_id(db: &Connection, id: i64) -> Result<Option<Arc<adjutant_core::task::Class>>> {
    db.prepare_cached("SELECT id, demand FROM class WHERE id = ?1")?
        .query_row([id], codec::read_class)
        .optional()
}
