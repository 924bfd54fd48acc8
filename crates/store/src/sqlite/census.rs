//! The census: all that a complete working set starts with.

use std::collections::HashMap;

use adjutant_core::attempt::AttemptKey;
use adjutant_core::name::AgentId;
use adjutant_core::set::rows::Rows;
use adjutant_core::task::{ClassId, Queue, TaskKey};
use adjutant_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::codec::{
    AGENT, ATTEMPT, COUNTER, read_agent, read_attempt, read_class, read_counter, read_experience, read_gate,
    read_policy,
};
use super::load;
use super::read::Classes;

pub(super) fn census(db: &Connection, classes: &mut Classes) -> Result<Rows> {
    let mut rows = Rows {
        classes: all(db, "SELECT id, demand FROM class", read_class)?,
        policies: all(
            db,
            "SELECT scope, limits, model_allowlist, max_duration, prices, cooldown FROM policy",
            read_policy,
        )?,
        counters: all(db, &format!("SELECT {COUNTER} FROM counter"), read_counter)?,
        attempts: all(
            db,
            &format!("SELECT {ATTEMPT} FROM attempt WHERE state < 2 OR occupies = 1"),
            read_attempt,
        )?,
        experiences: all(
            db,
            "SELECT labels, model, samples FROM experience",
            read_experience,
        )?,
        locks: all(db, "SELECT name, task, number FROM lock", |row| {
            let key = AttemptKey {
                task: TaskKey(row.get(1)?),
                number: row.get(2)?,
            };
            Ok((row.get::<_, String>(0)?.into(), key))
        })?,
        wants: all(db, "SELECT lock, count(*) FROM want GROUP BY lock", |row| {
            Ok((
                row.get::<_, String>(0)?.into(),
                row.get::<_, i64>(1)?.unsigned_abs(),
            ))
        })?,
        queues: queues(db)?,
        newest: Some(newest(db)?),
        latest: latest(db)?,
        ..Rows::default()
    };
    for class in &rows.classes {
        classes.add(class);
    }
    let mut by_agent: HashMap<AgentId, Vec<AttemptKey>> = HashMap::new();
    for attempt in &rows.attempts {
        if attempt.occupies && attempt.registered {
            by_agent
                .entry(attempt.agent.clone())
                .or_default()
                .push(attempt.key);
        }
    }
    let mut find = db.prepare(&format!("SELECT {AGENT} FROM agent"))?;
    let mut found = find.query([])?;
    while let Some(row) = found.next()? {
        let id = AgentId::from(row.get::<_, String>(0)?);
        let mut attempts = by_agent.remove(&id).unwrap_or_default();
        attempts.sort();
        rows.agents.push(read_agent(row, attempts)?);
    }
    let live: Vec<AttemptKey> = rows
        .attempts
        .iter()
        .filter(|attempt| attempt.is_live())
        .map(|attempt| attempt.key)
        .collect();
    for key in live {
        rows.tasks.extend(load::task(db, classes, key.task)?);
        rows.accounts.push(load::account(db, key)?);
    }
    Ok(rows)
}

fn all<T>(db: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    db.prepare(sql)?.query_map([], read)?.collect()
}

fn newest(db: &Connection) -> Result<TaskKey> {
    // External jobs have keys of the same kind, and are found among the attempts only.
    db.query_row(
        "SELECT max(coalesce((SELECT max(key) FROM task), 0), coalesce((SELECT max(task) FROM attempt), 0))",
        [],
        |row| Ok(TaskKey(row.get(0)?)),
    )
}

fn latest(db: &Connection) -> Result<Option<Timestamp>> {
    db.query_row("SELECT at FROM event ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok(Timestamp::from_micros(row.get(0)?))
    })
    .optional()
}

/// The queues in which something waits, with their lengths.
fn queues(db: &Connection) -> Result<Vec<(Queue, u64)>> {
    let mut find = db.prepare(
        "SELECT class, gate, count(*) FROM task WHERE status = 0 AND delayed_until IS NULL GROUP BY class, gate",
    )?;
    find.query_map(params![], |row| {
        let gate = read_gate(1, row.get_ref(1)?.as_str()?)?;
        let queue = Queue {
            class: ClassId(row.get(0)?),
            gate,
        };
        Ok((queue, row.get::<_, i64>(2)?.unsigned_abs()))
    })?
    .collect()
}
