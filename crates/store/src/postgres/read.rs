//! Reading: what people and programs ask for beside the turns, and the census.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use adjutant_core::command::AccessToken;
use adjutant_core::event::Event;
use adjutant_core::experience::Experience;
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::set::rows::Rows;
use adjutant_core::task::{ClassId, DependencyState, Priority, Queue, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, Webhook};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Failure;
use super::codec::{
    Classes, agent_columns, attempt_columns, class_of, column, delivery_columns, digest, line_columns, rank,
    read_accounts, read_agent, read_attempt, read_attempt_key, read_body, read_delivery, read_ending,
    read_event, read_note, read_output, read_task, read_token, read_webhook, task_columns,
};
use super::connect::Config;
use super::load::read_scope;
use super::presence::Presence;
use super::session::{Live, Session};
use super::statements::Sql;
use crate::encoding::{self, int};
use crate::{
    Details, MAX_BLOCKERS, MAX_HEADS, MAX_OUTPUT_BYTES, Page, Reader, StoreError, StoredTask, TaskFilter,
};

/// What is asked with several statements is asked of one state.
const FROZEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub(super) struct PostgresReader {
    session: Session,
    classes: Classes,
}

impl PostgresReader {
    pub(super) fn new(config: &Config) -> Result<Self, StoreError> {
        Ok(Self {
            session: Session::plain(config)?,
            classes: Classes::default(),
        })
    }

    fn rows(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        self.session.run(|live| async { query(live, sql, values).await })
    }

    /// Asks one thing.
    fn ask(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        Ok(self.again(|reader| reader.rows(sql, values))?)
    }

    /// Asks once more when the connection turns out to be lost: a question may be repeated.
    fn again<T>(&mut self, ask: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        match ask(self) {
            Err(_) if self.session.is_lost() => ask(self),
            answer => answer,
        }
    }

    /// Asks several things of one state of the database.
    fn consistently<T>(&mut self, ask: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<T, StoreError> {
        let answer = self.again(|reader| {
            let answer = reader
                .session
                .run(|live| async { Ok(live.client.batch_execute(FROZEN).await?) })
                .and_then(|()| ask(reader));
            let ended = reader
                .session
                .go_on(|live| async { Ok(live.client.batch_execute("ROLLBACK").await?) });
            if ended.is_err() {
                reader.session.hang_up();
            }
            answer
        });
        Ok(answer?)
    }

    fn tasks_of(&mut self, rows: &[Row]) -> Result<Vec<Arc<Task>>, Failure> {
        learn_classes(&mut self.session, &mut self.classes, rows)?;
        rows.iter().map(|row| task_of(&self.classes, row)).collect()
    }

    /// What decisions do not need of tasks: one question of each kind for all of them.
    fn details_of(&mut self, tasks: &[Arc<Task>]) -> Result<Vec<Details>, Failure> {
        let keys: Vec<i64> = tasks.iter().map(|task| task.key.0).collect();
        let mut details: BTreeMap<i64, Details> = keys.iter().map(|key| (*key, Details::default())).collect();
        let mut each = |rows: Vec<Row>, set: &mut dyn FnMut(&mut Details, &Row) -> Result<(), Failure>| {
            for row in &rows {
                if let Some(details) = details.get_mut(&column::<i64>(row, 0)?) {
                    set(details, row)?;
                }
            }
            Ok::<_, Failure>(())
        };
        let bodies = self.rows(Sql::Bodies.text(), &[&keys])?;
        each(bodies, &mut |details, row| {
            details.body = read_body(row, 1)?;
            Ok(())
        })?;
        let ended: Vec<i64> = tasks
            .iter()
            .filter(|task| task.has_result || task.retry_count > 0 || task.status.is_terminal())
            .map(|task| task.key.0)
            .collect();
        if !ended.is_empty() {
            let endings = self.rows(
                "SELECT task, doc FROM ending WHERE task = ANY($1::bigint[])",
                &[&ended],
            )?;
            each(endings, &mut |details, row| {
                (details.result, details.fail_reason) = read_ending(row.try_get(1)?)?;
                Ok(())
            })?;
        }
        let noted: Vec<i64> = tasks
            .iter()
            .filter(|task| task.notes > 0)
            .map(|task| task.key.0)
            .collect();
        if !noted.is_empty() {
            let remarks = self.rows(
                "SELECT task, doc FROM note WHERE task = ANY($1::bigint[]) ORDER BY task, number",
                &[&noted],
            )?;
            each(remarks, &mut |details, row| {
                details.notes.push(read_note(row.try_get(1)?)?);
                Ok(())
            })?;
        }
        let awaited: Vec<i64> = tasks
            .iter()
            .filter(|task| task.dependents > 0)
            .map(|task| task.key.0)
            .collect();
        if !awaited.is_empty() {
            let met = i16::from(encoding::dependency(DependencyState::Met));
            let blocked = i16::from(Status::Blocked.code());
            let blockers = self.rows(
                "SELECT named.task, blocked.id FROM unnest($1::bigint[]) AS named (task) CROSS JOIN LATERAL \
                 (SELECT task.id, edge.dependent FROM edge JOIN task ON task.key = edge.dependent \
                 WHERE edge.dependency = named.task AND edge.state <> $2 AND task.status = $3 \
                 ORDER BY edge.dependent LIMIT $4) AS blocked ORDER BY named.task, blocked.dependent",
                &[&awaited, &met, &blocked, &int(MAX_BLOCKERS as u64)],
            )?;
            each(blockers, &mut |details, row| {
                details.blockers.push(TaskId::from(row.try_get::<_, &str>(1)?));
                details.blockers_count += 1;
                Ok(())
            })?;
            let full: Vec<i64> = details
                .iter()
                .filter(|(_, details)| details.blockers.len() == MAX_BLOCKERS)
                .map(|(key, _)| *key)
                .collect();
            if !full.is_empty() {
                let counts = self.rows(
                    "SELECT edge.dependency, count(*) FROM edge JOIN task ON task.key = edge.dependent \
                     WHERE edge.dependency = ANY($1::bigint[]) AND edge.state <> $2 AND task.status = $3 \
                     GROUP BY edge.dependency",
                    &[&full, &met, &blocked],
                )?;
                for row in &counts {
                    if let Some(details) = details.get_mut(&column::<i64>(row, 0)?) {
                        details.blockers_count = u32::try_from(column::<i64>(row, 1)?).unwrap_or(u32::MAX);
                    }
                }
            }
        }
        Ok(keys
            .iter()
            .map(|key| details.get(key).cloned().unwrap_or_default())
            .collect())
    }

    /// One page of tasks. With `pending` in order of dispatch, otherwise newest first.
    fn page(&mut self, filter: &TaskFilter) -> Result<Page, Failure> {
        let mut sql = concat!("SELECT ", task_columns!(), " FROM task WHERE true").to_owned();
        let mut values: Vec<Box<dyn ToSql + Sync>> = Vec::new();
        let mut bind = |sql: &mut String, condition: &str, value: Box<dyn ToSql + Sync>| {
            values.push(value);
            // Writing to a string cannot fail.
            let _ = write!(
                sql,
                " AND {}",
                condition.replace('?', &format!("${}", values.len()))
            );
        };
        if let Some(status) = filter.status {
            // The index on what is pending is chosen by what the statement says, not by a value that it is given.
            bind(&mut sql, "status = ?", Box::new(i16::from(status.code())));
            if status == Status::Pending {
                sql.push_str(" AND status = 0");
            }
        }
        if let Some(priority) = filter.priority {
            bind(&mut sql, "priority = ?", Box::new(rank(priority)));
        }
        if let Some(project) = &filter.project {
            bind(&mut sql, "project = ?", Box::new(project.to_string()));
        }
        if let Some(agent) = &filter.claimed_by {
            bind(&mut sql, "claimed_by = ?", Box::new(agent.to_string()));
        }
        let by_dispatch = filter.status == Some(Status::Pending);
        match filter.after {
            Some((priority, key)) if by_dispatch => {
                bind(&mut sql, "priority >= ?", Box::new(rank(priority)));
                let condition = format!("(priority, key) > ({}::smallint, ?)", rank(priority));
                bind(&mut sql, &condition, Box::new(key.0));
            }
            Some((_, key)) => bind(&mut sql, "key < ?", Box::new(key.0)),
            None => {}
        }
        if !filter.labels.is_empty() {
            // Few classes, many tasks: labels are looked up among the classes.
            let classes = self.classes_with(filter)?;
            bind(&mut sql, "class = ANY(?::bigint[])", Box::new(classes));
        }
        sql.push_str(if by_dispatch {
            " ORDER BY priority, key"
        } else {
            " ORDER BY key DESC"
        });
        let _ = write!(sql, " LIMIT {}", int(filter.limit as u64).saturating_add(1));
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
        let found = self.rows(&sql, &values)?;
        let mut tasks = self.tasks_of(&found)?;
        let more = tasks.len() > filter.limit;
        tasks.truncate(filter.limit);
        let next: Option<(Priority, TaskKey)> = tasks
            .last()
            .filter(|_| more)
            .map(|last| (last.priority, last.key));
        let details = self.details_of(&tasks)?;
        let tasks = tasks
            .into_iter()
            .zip(details)
            .map(|(task, details)| StoredTask { task, details })
            .collect();
        Ok(Page { tasks, next })
    }

    fn classes_with(&mut self, filter: &TaskFilter) -> Result<Vec<i64>, Failure> {
        for row in self.rows("SELECT id, demand FROM class", &[])? {
            self.classes.add(&row)?;
        }
        let has_all =
            |labels: &[adjutant_core::name::Label]| filter.labels.iter().all(|label| labels.contains(label));
        Ok(self
            .classes
            .all()
            .filter(|class| has_all(&class.demand.labels))
            .map(|class| class.id.0)
            .collect())
    }
}

async fn query(live: &Live, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
    Ok(live.client.query(sql, values).await?)
}

/// Makes sure that the classes of these tasks are known.
fn learn_classes(session: &mut Session, classes: &mut Classes, tasks: &[Row]) -> Result<(), Failure> {
    let mut unknown = Vec::new();
    for row in tasks {
        let class = class_of(row)?;
        if classes.find(class).is_none() {
            unknown.push(class.0);
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let find = "SELECT id, demand FROM class WHERE id = ANY($1::bigint[])";
    let found = session.run(|live| async { query(live, find, &[&unknown]).await })?;
    for row in &found {
        classes.add(row)?;
    }
    Ok(())
}

fn task_of(classes: &Classes, row: &Row) -> Result<Arc<Task>, Failure> {
    let class = class_of(row)?;
    let class = classes
        .find(class)
        .ok_or_else(|| Failure::Broken(format!("task.class: there is no class {}", class.0)))?;
    read_task(row, class)
}

impl Reader for PostgresReader {
    fn task(&mut self, id: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        let sql = concat!(
            "SELECT ",
            task_columns!(),
            " FROM task JOIN task_id ON task_id.task = task.key WHERE task_id.id = $1"
        );
        self.consistently(|reader| {
            let found = reader.rows(sql, &[&id.as_str()])?;
            let Some(task) = reader.tasks_of(&found)?.pop() else {
                return Ok(None);
            };
            let details = reader
                .details_of(std::slice::from_ref(&task))?
                .pop()
                .unwrap_or_default();
            Ok(Some(StoredTask { task, details }))
        })
    }

    fn tasks(&mut self, filter: &TaskFilter) -> Result<Page, StoreError> {
        self.consistently(|reader| reader.page(filter))
    }

    fn details(&mut self, tasks: &[Arc<Task>]) -> Result<Vec<Details>, StoreError> {
        self.consistently(|reader| reader.details_of(tasks))
    }

    fn events(&mut self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let rows = self.ask(
            "SELECT seq, kind, task, task_id, agent, at, payload FROM event WHERE seq > $1 ORDER BY seq LIMIT $2",
            &[&int(since), &int(limit as u64)],
        )?;
        Ok(rows.iter().map(read_event).collect::<Result<_, _>>()?)
    }

    fn task_events(&mut self, task: TaskKey, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let rows = self.ask(
            "SELECT seq, kind, task, task_id, agent, at, payload FROM event WHERE task = $1 AND seq > $2 \
             ORDER BY seq LIMIT $3",
            &[&task.0, &int(since), &int(limit as u64)],
        )?;
        Ok(rows.iter().map(read_event).collect::<Result<_, _>>()?)
    }

    fn task_events_before(
        &mut self,
        task: TaskKey,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = self.ask(
            "SELECT seq, kind, task, task_id, agent, at, payload FROM event WHERE task = $1 AND seq < $2 \
             ORDER BY seq DESC LIMIT $3",
            &[&task.0, &int(before), &int(limit as u64)],
        )?;
        Ok(rows.iter().map(read_event).collect::<Result<_, _>>()?)
    }

    fn output(&mut self, task: TaskKey) -> Result<String, StoreError> {
        let mut text = String::new();
        for row in self.ask("SELECT doc FROM output WHERE task = $1 ORDER BY id", &[&task.0])? {
            text.push_str(&read_output(row.try_get(0).map_err(Failure::from)?)?);
        }
        let mut excess = text.len().saturating_sub(MAX_OUTPUT_BYTES);
        while !text.is_char_boundary(excess) {
            excess += 1;
        }
        Ok(text.split_off(excess))
    }

    fn counts(&mut self) -> Result<[u64; 6], StoreError> {
        let mut counts = [0; 6];
        for row in self.ask("SELECT status, count(*) FROM task GROUP BY status", &[])? {
            let status = u8::try_from(column::<i16>(&row, 0)?)
                .ok()
                .and_then(Status::from_code);
            if let Some(status) = status {
                counts[usize::from(status.code())] = column::<i64>(&row, 1)?.unsigned_abs();
            }
        }
        Ok(counts)
    }

    fn ready_since(&mut self) -> Result<[Option<Timestamp>; 4], StoreError> {
        const FIRST: &str = concat!(
            "SELECT ",
            task_columns!(),
            " FROM task WHERE status = 0 AND priority = $1 ORDER BY key LIMIT $2"
        );
        self.consistently(|reader| {
            let mut since = [None; 4];
            for priority in Priority::ALL {
                let rank = priority.rank();
                let rows = reader.rows(FIRST, &[&i16::from(rank), &int(MAX_HEADS as u64)])?;
                since[usize::from(rank)] = reader
                    .tasks_of(&rows)?
                    .iter()
                    .filter(|task| task.delayed_until.is_none())
                    .map(|task| task.ready_since)
                    .min();
            }
            Ok(since)
        })
    }

    fn last_seq(&mut self) -> Result<u64, StoreError> {
        let rows = self.ask("SELECT seq FROM event_head", &[])?;
        Ok(rows
            .first()
            .map_or(Ok(0), |row| column::<i64>(row, 0))?
            .unsigned_abs())
    }

    fn peers(&mut self) -> Result<Vec<AgentId>, StoreError> {
        // The state is JSON: others may have these letters in a text, and none that is meant is without them.
        let rows = self.ask("SELECT id FROM agent WHERE strpos(state, '\"peer\":{') > 0", &[])?;
        let id = |row: &Row| Ok::<AgentId, Failure>(row.try_get::<_, &str>(0)?.into());
        Ok(rows.iter().map(id).collect::<Result<_, _>>()?)
    }

    fn tokens(&mut self) -> Result<Vec<AccessToken>, StoreError> {
        let rows = self.ask(
            "SELECT name, digest, roles, created_at FROM token ORDER BY name",
            &[],
        )?;
        Ok(rows.iter().map(read_token).collect::<Result<_, _>>()?)
    }

    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        let rows = self.ask("SELECT name, document FROM webhook ORDER BY name", &[])?;
        Ok(rows.iter().map(read_webhook).collect::<Result<_, _>>()?)
    }

    fn deliveries(
        &mut self,
        webhook: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Delivery)>, StoreError> {
        let sql = concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM delivery WHERE webhook = $1 AND seq > $2 ORDER BY seq LIMIT $3"
        );
        of_webhook(&self.ask(sql, &[&webhook, &int(after), &int(limit as u64)])?)
    }

    fn due_deliveries(&mut self, webhook: &str, limit: usize) -> Result<Vec<(u64, Delivery)>, StoreError> {
        let sql = concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM delivery WHERE webhook = $1 AND due_at IS NOT NULL ORDER BY due_at, seq LIMIT $2"
        );
        of_webhook(&self.ask(sql, &[&webhook, &int(limit as u64)])?)
    }

    fn secret(&mut self) -> Result<[u8; 32], StoreError> {
        let rows = self.ask("SELECT value FROM meta WHERE name = 'secret'", &[])?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Broken("the secret is not there".into()))?;
        Ok(digest(row.try_get(0).map_err(Failure::from)?)?)
    }
}

fn of_webhook(rows: &[Row]) -> Result<Vec<(u64, Delivery)>, StoreError> {
    let deliveries = rows.iter().map(|row| {
        let (key, delivery) = read_delivery(row)?;
        Ok((key.seq, delivery))
    });
    Ok(deliveries.collect::<Result<_, Failure>>()?)
}

/// Everything that a complete working set starts with, unlocked.
pub(super) fn census(
    session: &mut Session,
    classes: &mut Classes,
    presence: &mut Presence,
    now: Timestamp,
) -> Result<Rows, Failure> {
    let mut ask = |sql: &str| session.run(|live| async { query(live, sql, &[]).await });
    let mut rows = Rows::default();
    for row in ask("SELECT id, demand FROM class ORDER BY id")? {
        rows.classes.push(classes.add(&row)?);
    }
    for row in ask("SELECT name, version, policy, counter FROM scope ORDER BY name")? {
        let (scope, seen) = read_scope(&row)?;
        rows.policies
            .extend(seen.policy.map(|policy| (scope.clone(), policy)));
        rows.counters.extend(seen.counter);
    }
    for row in ask(concat!("SELECT ", agent_columns!(), " FROM agent ORDER BY id"))? {
        let (agent, home, vouched_at) = read_agent(&row)?;
        rows.agents
            .push(Arc::new(presence.meet(agent, home, vouched_at, now)));
    }
    let attempts = concat!(
        "SELECT ",
        attempt_columns!(),
        " FROM attempt WHERE open ORDER BY task, number"
    );
    for row in ask(attempts)? {
        rows.attempts.push(read_attempt(&row)?);
    }
    let lines = concat!(
        "SELECT ",
        line_columns!(),
        " FROM line JOIN attempt USING (task, number) WHERE open ORDER BY line.task, line.number, line.index"
    );
    rows.accounts = read_accounts(&ask(lines)?)?;
    let live: HashMap<_, _> = rows
        .attempts
        .iter()
        .filter(|attempt| attempt.is_live())
        .map(|attempt| (attempt.key, attempt.key.task))
        .collect();
    rows.accounts
        .retain(|account| live.contains_key(&account.attempt));
    let tasks = ask(concat!(
        "SELECT ",
        task_columns!(),
        " FROM task WHERE key IN (SELECT task FROM attempt WHERE open) ORDER BY key"
    ))?;
    for row in ask("SELECT labels, model, samples FROM experience")? {
        let broken = |why| Failure::Broken(format!("experience: {why}"));
        let kind = encoding::read_kind(row.try_get(0)?, row.try_get(1)?).map_err(broken)?;
        let samples = encoding::read_json(row.try_get(2)?).map_err(broken)?;
        rows.experiences.push((kind, Arc::new(Experience { samples })));
    }
    for row in ask("SELECT name, task, number FROM lock ORDER BY name")? {
        rows.locks
            .push((row.try_get::<_, &str>(0)?.into(), read_attempt_key(&row, 1)?));
    }
    for row in ask("SELECT lock, count(*) FROM want GROUP BY lock ORDER BY lock")? {
        rows.wants.push((
            row.try_get::<_, &str>(0)?.into(),
            column::<i64>(&row, 1)?.unsigned_abs(),
        ));
    }
    for row in
        ask("SELECT class, gate, count(*) FROM task WHERE ready GROUP BY class, gate ORDER BY class, gate")?
    {
        let queue = Queue {
            class: ClassId(column(&row, 0)?),
            gate: encoding::read_gate(row.try_get(1)?).map_err(Failure::Broken)?,
        };
        rows.queues.push((queue, column::<i64>(&row, 2)?.unsigned_abs()));
    }
    let newest = "SELECT coalesce(greatest((SELECT max(key) FROM task), (SELECT max(task) FROM attempt)), 0)";
    for row in ask(newest)? {
        rows.newest = Some(TaskKey(column(&row, 0)?));
    }
    for row in ask("SELECT at FROM event ORDER BY seq DESC LIMIT 1")? {
        rows.latest = Some(Timestamp::from_micros(column(&row, 0)?));
    }
    learn_classes(session, classes, &tasks)?;
    for row in &tasks {
        let task = task_of(classes, row)?;
        if live.values().any(|key| *key == task.key) {
            rows.tasks.push(task);
        }
    }
    Ok(rows)
}
