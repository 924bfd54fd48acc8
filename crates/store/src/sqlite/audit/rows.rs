//! Rows: each can be read, and the rows that it needs are there.

use std::sync::Arc;

use adjutant_core::task::{Class, Demand, Status, Task};
use rusqlite::{Connection, Result, Row};

use super::Audit;
use crate::sqlite::codec::{
    AGENT, ATTEMPT, COUNTER, DELIVERY, TASK, digest, read_agent, read_attempt, read_class, read_counter,
    read_delivery, read_experience, read_policy, read_task, read_token, read_webhook,
};

const UNREADABLE: &str = "unreadable row";
const MISSING: &str = "missing row";
const ORPHAN: &str = "orphaned row";
const TASK_STATE: &str = "task state";
const WEBHOOK_COUNT: &str = "webhook count";
/// The step of the schema that made the table of experience.
const EXPERIENCE_SCHEMA: usize = 3;
/// The schema that agents have these columns since.
const PEER_SCHEMA: usize = 4;
/// The step of the schema that made the tables of webhooks.
const WEBHOOK_SCHEMA: usize = 5;
const PEER_COLUMNS: &str = "former_sessions, peer";

/// Queries whose every row is a finding: rows that others need and that are not there.
const MISSING_ROWS: &[&str] = &[
    "SELECT 'task ' || id || ' has no body' FROM task \
     WHERE NOT EXISTS (SELECT 1 FROM body WHERE body.task = task.key)",
    "SELECT 'task ' || id || ' is of class ' || class || ', which does not exist' FROM task \
     WHERE NOT EXISTS (SELECT 1 FROM class WHERE class.id = task.class)",
    "SELECT 'task ' || id || ' has ' || notes || ' notes and ' || stored || ' rows of them' FROM \
     (SELECT id, notes, (SELECT count(*) FROM note WHERE note.task = task.key) AS stored FROM task) \
     WHERE notes <> stored",
    "SELECT 'task ' || id || ' has a result that is not there' FROM task WHERE has_result = 1 \
     AND NOT EXISTS (SELECT 1 FROM ending WHERE ending.task = task.key AND ending.result IS NOT NULL)",
    "SELECT 'task ' || id || ' is at attempt ' || attempt || ', which does not exist' FROM task \
     WHERE attempt > 0 \
     AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.task = task.key AND attempt.number = task.attempt)",
    "SELECT 'job ' || id || ' has no attempt ' || number FROM job \
     WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.task = job.task AND attempt.number = job.number) \
     AND EXISTS (SELECT 1 FROM attempt WHERE attempt.task = job.task)",
];

/// Queries whose every row is a finding: rows that belong to nothing.
const ORPHANED_ROWS: &[&str] = &[
    "SELECT 'a body of the task with key ' || task || ', which does not exist' FROM body \
     WHERE NOT EXISTS (SELECT 1 FROM task WHERE key = body.task)",
    "SELECT 'a result of the task with key ' || task || ', which does not exist' FROM ending \
     WHERE NOT EXISTS (SELECT 1 FROM task WHERE key = ending.task)",
    "SELECT 'notes of the task with key ' || task || ', which does not exist' FROM note \
     WHERE NOT EXISTS (SELECT 1 FROM task WHERE key = note.task) GROUP BY task",
    "SELECT 'output of the task with key ' || task || ', which does not exist' FROM output \
     WHERE NOT EXISTS (SELECT 1 FROM task WHERE key = output.task) GROUP BY task",
    "SELECT 'attempt ' || number || ' of task ' || task_id || ', which does not exist' FROM attempt \
     WHERE external = 0 AND NOT EXISTS (SELECT 1 FROM task WHERE key = attempt.task)",
    "SELECT 'attempt ' || attempt.number || ' of task ' || attempt.task_id || ', whose key is that of task ' || task.id \
     FROM attempt JOIN task ON task.key = attempt.task WHERE attempt.task_id <> task.id OR attempt.external = 1",
    "SELECT 'attempt ' || attempt.number || ' of task ' || task.id || ', which is at attempt ' || task.attempt \
     FROM attempt JOIN task ON task.key = attempt.task WHERE attempt.number > task.attempt",
    "SELECT 'attempt ' || number || ' of job ' || task_id || ', which does not exist' FROM attempt \
     WHERE external = 1 AND NOT EXISTS \
     (SELECT 1 FROM job WHERE job.id = attempt.task_id AND job.task = attempt.task AND job.number >= attempt.number)",
    "SELECT 'ledger lines of attempt ' || task || '#' || number || ', which does not exist' FROM line \
     WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.task = line.task AND attempt.number = line.number) \
     GROUP BY task, number",
    "SELECT 'a dependency of the task with key ' || dependent || ' on ' || dependency || ': one does not exist' \
     FROM edge WHERE NOT EXISTS (SELECT 1 FROM task WHERE key = edge.dependency) \
     OR NOT EXISTS (SELECT 1 FROM task WHERE key = edge.dependent)",
];

/// The same for webhooks.
const WEBHOOK_ROWS: &[(&str, &str)] = &[
    (
        ORPHAN,
        "SELECT 'deliveries of the webhook ' || webhook || ', which does not exist' FROM delivery \
         WHERE NOT EXISTS (SELECT 1 FROM webhook WHERE name = delivery.webhook) GROUP BY webhook",
    ),
    (
        WEBHOOK_COUNT,
        "SELECT 'webhook ' || name || ' counts other deliveries than it has' FROM webhook WHERE json_valid(document) AND \
         (json_extract(document, '$.pending') <> \
         (SELECT count(*) FROM delivery WHERE webhook = name AND due_at IS NOT NULL) \
         OR json_extract(document, '$.dead') <> \
         (SELECT count(*) FROM delivery WHERE webhook = name AND due_at IS NULL))",
    ),
];

impl Audit {
    pub(super) fn rows(&mut self, db: &Connection) {
        self.attempt_to(UNREADABLE, |audit| audit.tasks(db));
        self.attempt_to(UNREADABLE, |audit| {
            let sql = format!("SELECT {ATTEMPT} FROM attempt");
            audit.report.attempts = audit.readable(db, "attempt", &sql, |row| read_attempt(row).map(drop))?;
            Ok(())
        });
        let mut agents = format!("SELECT {AGENT} FROM agent");
        if self.schema < PEER_SCHEMA {
            agents = agents.replace(PEER_COLUMNS, "'[]', NULL");
        }
        self.readable_rows(db, "agent", &agents, |row| read_agent(row, Vec::new()).map(drop));
        let policies = "SELECT scope, limits, model_allowlist, max_duration, prices, cooldown FROM policy";
        self.readable_rows(db, "what is set for", policies, |row| read_policy(row).map(drop));
        let counters = format!("SELECT {COUNTER} FROM counter");
        self.readable_rows(db, "the counter of", &counters, |row| read_counter(row).map(drop));
        self.readable_rows(db, "class", "SELECT id, demand FROM class", |row| {
            read_class(row).map(drop)
        });
        if self.schema >= EXPERIENCE_SCHEMA {
            let experience = "SELECT labels, model, samples FROM experience";
            self.readable_rows(db, "what is known of work with labels", experience, |row| {
                read_experience(row).map(drop)
            });
        }
        let tokens = "SELECT name, digest, roles, created_at FROM token";
        self.readable_rows(db, "access token", tokens, |row| read_token(row).map(drop));
        if self.schema >= WEBHOOK_SCHEMA {
            let webhooks = "SELECT name, document FROM webhook";
            self.readable_rows(db, "webhook", webhooks, |row| read_webhook(row).map(drop));
            let deliveries = format!("SELECT {DELIVERY} FROM delivery");
            self.readable_rows(db, "a delivery of the webhook", &deliveries, |row| {
                read_delivery(row).map(drop)
            });
            for (finding, sql) in WEBHOOK_ROWS {
                self.each(db, finding, sql);
            }
        }
        self.attempt_to(MISSING, |audit| {
            let secret = db.query_row("SELECT value FROM meta WHERE name = 'secret'", [], |row| {
                digest(row, 0)
            });
            if let Err(error) = secret {
                audit.wrong(MISSING, format!("the secret of attempt tokens: {error}"));
            }
            Ok(())
        });
        for sql in MISSING_ROWS {
            self.each(db, MISSING, sql);
        }
        for sql in ORPHANED_ROWS {
            self.each(db, ORPHAN, sql);
        }
    }

    fn readable_rows(
        &mut self,
        db: &Connection,
        what: &str,
        sql: &str,
        read: impl Fn(&Row<'_>) -> Result<()>,
    ) {
        self.attempt_to(UNREADABLE, |audit| audit.readable(db, what, sql, read).map(drop));
    }

    /// Reads rows as the program does; the first column names each. Gives their number.
    fn readable(
        &mut self,
        db: &Connection,
        what: &str,
        sql: &str,
        read: impl Fn(&Row<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut count = 0;
        let mut find = db.prepare(sql)?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            if let Err(error) = read(row) {
                let message = format!("{what} {} cannot be read: {error}", name(row));
                self.wrong(UNREADABLE, message);
            }
        }
        Ok(count)
    }

    fn tasks(&mut self, db: &Connection) -> Result<()> {
        // Whether the class is there is another check.
        let any_class = |id| {
            Ok(Arc::new(Class {
                id,
                demand: Demand::default(),
            }))
        };
        let mut find = db.prepare(&format!("SELECT {TASK}, task.wakes_at FROM task"))?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            self.report.tasks += 1;
            let task = match read_task(row, any_class) {
                Ok(task) => task,
                Err(error) => {
                    let id = row.get::<_, String>(1).unwrap_or_else(|_| name(row));
                    self.wrong(UNREADABLE, format!("task {id} cannot be read: {error}"));
                    continue;
                }
            };
            for fault in faults(&task) {
                self.wrong(
                    TASK_STATE,
                    format!("task {} is {} {fault}", task.id, task.status.name()),
                );
            }
            let wakes_at: Option<i64> = row.get(36)?;
            if wakes_at != task.wakes_at().map(adjutant_core::time::Timestamp::as_micros) {
                self.wrong(TASK_STATE, format!("task {} wakes at a wrong time", task.id));
            }
        }
        Ok(())
    }
}

/// What a task in this state cannot be.
fn faults(task: &Task) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let mut hold = |is: bool, fault| {
        if !is {
            faults.push(fault);
        }
    };
    match task.status {
        Status::Pending => {
            hold(task.claimed_by.is_none(), "and claimed");
            hold(!task.held, "and held");
        }
        Status::Blocked => {
            hold(task.claimed_by.is_none(), "and claimed");
            hold(
                task.held || task.unmet > 0,
                "by nothing: it waits for no dependency and is not held",
            );
        }
        Status::InProgress => {
            hold(task.claimed_by.is_some(), "and held by nobody");
            hold(task.attempt > 0, "without an attempt");
        }
        Status::Completed | Status::Failed | Status::Cancelled => {
            hold(task.lease_expires_at.is_none(), "with a lease");
        }
    }
    hold(
        task.unmet <= task.dependencies && task.failed_dependencies <= task.unmet,
        "and counts more dependencies than it has",
    );
    faults
}

/// The first column, whatever it is.
fn name(row: &Row<'_>) -> String {
    match row.get_ref(0) {
        Ok(rusqlite::types::ValueRef::Integer(number)) => number.to_string(),
        Ok(value) => value.as_str().unwrap_or("without a name").to_owned(),
        Err(error) => error.to_string(),
    }
}
