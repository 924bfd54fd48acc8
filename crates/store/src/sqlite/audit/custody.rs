//! Custody: I1 and I2. What runs is what tasks, locks and agents say.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result};

use super::{Audit, Severity};
use crate::sqlite::codec::read_policy;
use crate::sqlite::codec::{ATTEMPT, read_attempt};

const LEASES: &str = "I1 leases";
const LOCKS: &str = "I1 locks";
const WANTS: &str = "wanted locks";
const LOADS: &str = "I2 loads";

/// Tasks in progress without their live attempt.
const NO_ATTEMPT: &str = "SELECT 'task ' || id || ' is in progress, and its attempt ' || attempt || ' is not live' \
    FROM task WHERE status = 2 AND NOT EXISTS (SELECT 1 FROM attempt \
    WHERE attempt.task = task.key AND attempt.number = task.attempt AND attempt.state < 2)";

/// Live attempts that are not those of a task in progress.
const STRAY_ATTEMPT: &str = "SELECT 'attempt ' || attempt.number || ' of task ' || task.id || ' is live, and the task is ' \
    || CASE task.status WHEN 0 THEN 'pending' WHEN 1 THEN 'blocked' WHEN 2 THEN 'at attempt ' || task.attempt \
    WHEN 3 THEN 'completed' WHEN 4 THEN 'failed' ELSE 'cancelled' END \
    FROM attempt JOIN task ON task.key = attempt.task \
    WHERE (attempt.state < 2 OR attempt.occupies = 1) AND attempt.state < 2 AND attempt.external = 0 \
    AND (task.status <> 2 OR task.attempt <> attempt.number)";

const WRONG_HOLDER: &str = "SELECT 'task ' || task.id || ' is claimed by ' || task.claimed_by || ', and its attempt is run by ' \
    || attempt.agent FROM task JOIN attempt ON attempt.task = task.key AND attempt.number = task.attempt \
    WHERE task.status = 2 AND task.claimed_by <> attempt.agent";

/// Rows of wanted locks that no parked task stands behind.
const STRAY_WANTS: &str = "SELECT 'lock ' || want.lock || ' is wanted by the task with key ' || want.task \
    || ', which does not wait for a lock' FROM want LEFT JOIN task ON task.key = want.task \
    WHERE task.key IS NULL OR task.status <> 0 OR task.delayed_until IS NOT NULL OR task.gate NOT LIKE 'lock:%' \
    OR task.priority <> want.priority \
    OR NOT EXISTS (SELECT 1 FROM json_each(task.locks) WHERE value = want.lock)";

/// Parked tasks that wait for a lock and are not known to.
const MISSING_WANTS: &str = "SELECT 'task ' || task.id || ' waits for lock ' || name.value || ', and does not stand in its queue' \
    FROM task, json_each(task.locks) AS name \
    WHERE task.status = 0 AND task.delayed_until IS NULL AND task.gate LIKE 'lock:%' AND NOT EXISTS \
    (SELECT 1 FROM want WHERE want.lock = name.value AND want.priority = task.priority AND want.task = task.key)";

impl Audit {
    pub(super) fn custody(&mut self, db: &Connection) {
        self.each(db, LEASES, NO_ATTEMPT);
        self.each(db, LEASES, STRAY_ATTEMPT);
        self.each(db, LEASES, WRONG_HOLDER);
        self.attempt_to(LOCKS, |audit| audit.locks(db));
        self.each(db, WANTS, STRAY_WANTS);
        self.each(db, WANTS, MISSING_WANTS);
        self.attempt_to(LOADS, |audit| audit.loads(db));
    }

    /// Locks are held by the attempts that occupy, each once, and by nobody else.
    fn locks(&mut self, db: &Connection) -> Result<()> {
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        let mut find = db.prepare(&format!(
            "SELECT {ATTEMPT} FROM attempt WHERE (state < 2 OR occupies = 1) AND occupies = 1"
        ))?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            // What cannot be read was told before.
            let Ok(attempt) = read_attempt(row) else { continue };
            for lock in attempt.locks.iter() {
                let holder = format!("{} ({})", attempt.key, attempt.task_id);
                if let Some(other) = expected.insert(lock.to_string(), holder.clone()) {
                    self.wrong(
                        LOCKS,
                        format!("lock {lock} is held by attempts {other} and {holder}"),
                    );
                }
            }
        }
        let mut find = db.prepare(
            "SELECT lock.name, lock.task || '#' || lock.number || ' (' || coalesce(attempt.task_id, 'missing') || ')' \
             FROM lock LEFT JOIN attempt ON attempt.task = lock.task AND attempt.number = lock.number",
        )?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let (lock, holder): (String, String) = (row.get(0)?, row.get(1)?);
            match expected.remove(&lock) {
                Some(expected) if expected == holder => {}
                Some(expected) => self.wrong(
                    LOCKS,
                    format!("lock {lock} is stored for attempt {holder} and held by {expected}"),
                ),
                None => self.wrong(
                    LOCKS,
                    format!("lock {lock} is stored for attempt {holder}, which does not hold it"),
                ),
            }
        }
        for (lock, holder) in expected {
            self.wrong(LOCKS, format!("lock {lock} of attempt {holder} is not stored"));
        }
        Ok(())
    }

    fn loads(&mut self, db: &Connection) -> Result<()> {
        let mut find = db.prepare(
            "SELECT attempt.agent, count(*), agent.max_load, agent.offline FROM attempt \
             LEFT JOIN agent ON agent.id = attempt.agent \
             WHERE (attempt.state < 2 OR attempt.occupies = 1) AND attempt.occupies = 1 AND attempt.registered = 1 \
             GROUP BY attempt.agent",
        )?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let (agent, load): (String, i64) = (row.get(0)?, row.get(1)?);
            let Some(max_load) = row.get::<_, Option<i64>>(2)? else {
                self.wrong(
                    LOADS,
                    format!("agent {agent} holds {load} attempts and is not registered"),
                );
                continue;
            };
            if row.get::<_, Option<bool>>(3)? == Some(true) {
                self.wrong(
                    LOADS,
                    format!("agent {agent} is offline and holds {load} attempts"),
                );
            }
            if max_load > 0 && load > max_load {
                // Who registers again with less room keeps what runs.
                self.found(
                    LOADS,
                    Severity::Note,
                    format!(
                        "agent {agent} holds {load} attempts and has room for {max_load}: was it lowered?"
                    ),
                );
            }
        }
        let mut find = db.prepare(
            "SELECT policy.scope, policy.limits, policy.model_allowlist, policy.max_duration, policy.prices, \
             policy.cooldown, counter.active FROM policy JOIN counter ON counter.scope = policy.scope \
             WHERE counter.active > 0",
        )?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let active: u64 = row.get::<_, i64>(6)?.unsigned_abs();
            let Ok((scope, policy)) = read_policy(row) else {
                continue;
            };
            let bound = policy.limits.iter().filter_map(|limit| limit.concurrent).min();
            if let Some(bound) = bound.filter(|bound| active > *bound) {
                self.found(
                    LOADS,
                    Severity::Note,
                    format!("{scope} runs {active} and may run {bound}: was the limit lowered?"),
                );
            }
        }
        Ok(())
    }
}
