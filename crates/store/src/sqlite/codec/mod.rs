//! Rows of SQLite and rows of the core, one into the other.

mod scopes;

pub(super) use scopes::{COUNTER, read_counter, read_experience, read_policy, tallies};

use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey, Hold, ModelUsage, Tokens};
use adjutant_core::command::AccessToken;
use adjutant_core::ledger::Line;
use adjutant_core::limit::Scope;
use adjutant_core::money::Money;
use adjutant_core::name::{AgentId, LockName};
use adjutant_core::task::{
    Body, Class, ClassId, DependencyState, DispatchOrder, Fanout, Gate, Priority, Produces, Status, Task,
    TaskKey,
};
use adjutant_core::time::{Span, Timestamp};
use adjutant_core::webhook::{Delivery, DeliveryKey, Webhook};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::de::DeserializeOwned;

use crate::encoding::{self, Read};
pub(super) use crate::encoding::{
    demand, dependency, gate, int, json, keys, kind, limits, list, paused, prices, produces, roles, state,
    stop, webhook,
};

/// A value that cannot be what this program wrote.
fn broken(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, what.to_owned().into())
}

fn sound<T>(column: usize, read: Read<T>) -> rusqlite::Result<T> {
    read.map_err(|why| broken(column, &why))
}

fn read_list<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(Vec::new()),
        Some(text) => parse(column, text),
    }
}

fn parse<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    sound(column, encoding::read_json(text))
}

fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    sound(column, encoding::uint(row.get(column)?))
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

pub(super) fn span(span: Option<Span>) -> Option<i64> {
    span.map(Span::as_micros)
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

pub(super) fn read_gate(column: usize, text: &str) -> rusqlite::Result<Option<Gate>> {
    sound(column, encoding::read_gate(text))
}

fn read_produces(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Produces>> {
    sound(column, encoding::read_produces(row.get(column)?))
}

pub(super) fn read_class(row: &Row<'_>) -> rusqlite::Result<Arc<Class>> {
    Ok(Arc::new(Class {
        id: ClassId(row.get(0)?),
        demand: sound(1, encoding::read_demand(row.get_ref(1)?.as_str()?))?,
    }))
}

pub(super) fn fanout(fanout: Option<Fanout>) -> Option<String> {
    fanout.map(|fanout| json(&(fanout.after.0, fanout.cascade)))
}

/// The columns of a task, in the order in which [`read_task`] takes them.
pub(super) const TASK: &str = "task.key, task.id, task.class, task.priority, task.status, task.held, task.gate, \
    task.delayed_until, task.claimed_by, task.project, task.repo, task.produces, task.locks, \
    task.estimated_tokens, task.timeout, task.not_before, task.max_retries, task.retry_count, task.attempt, \
    task.dependencies, task.unmet, task.failed_dependencies, task.dependents, task.claimed_at, \
    task.lease_expires_at, task.deadline, task.last_attempt, task.failed_on, task.progress, task.notes, \
    task.has_result, task.refusal_told, task.used, task.ready_since, task.updated_at, task.fanout";

/// A task, with the class that its number stands for.
pub(super) fn read_task(
    row: &Row<'_>,
    class: impl FnOnce(ClassId) -> rusqlite::Result<Arc<Class>>,
) -> rusqlite::Result<Arc<Task>> {
    let fanout = match row.get_ref(35)?.as_str_or_null()? {
        None => None,
        Some(text) => {
            let (after, cascade) = parse(35, text)?;
            Some(Fanout {
                after: TaskKey(after),
                cascade,
            })
        }
    };
    Ok(Arc::new(Task {
        key: TaskKey(row.get(0)?),
        id: row.get::<_, String>(1)?.into(),
        class: class(ClassId(row.get(2)?))?,
        priority: Priority::from_rank(row.get(3)?).ok_or_else(|| broken(3, "an unknown priority"))?,
        status: Status::from_code(row.get(4)?).ok_or_else(|| broken(4, "an unknown status"))?,
        held: row.get(5)?,
        gate: read_gate(6, row.get_ref(6)?.as_str()?)?,
        delayed_until: time(row, 7)?,
        claimed_by: row.get::<_, Option<String>>(8)?.map(AgentId::from),
        project: row.get::<_, Option<String>>(9)?.map(Into::into),
        repo: row.get::<_, Option<String>>(10)?.map(Into::into),
        produces: read_produces(row, 11)?,
        locks: read_list::<LockName>(row, 12)?.into(),
        estimated_tokens: uint(row, 13)?,
        timeout: row.get::<_, Option<i64>>(14)?.map(Span::from_micros),
        not_before: time(row, 15)?,
        max_retries: row.get(16)?,
        retry_count: row.get(17)?,
        attempt: row.get(18)?,
        dependencies: row.get(19)?,
        unmet: row.get(20)?,
        failed_dependencies: row.get(21)?,
        dependents: row.get(22)?,
        claimed_at: time(row, 23)?,
        lease_expires_at: time(row, 24)?,
        deadline: time(row, 25)?,
        last_attempt: time(row, 26)?,
        failed_on: read_list::<AgentId>(row, 27)?.into(),
        progress: row.get(28)?,
        notes: row.get(29)?,
        has_result: row.get(30)?,
        refusal_told: row.get(31)?,
        usage: read_list::<ModelUsage>(row, 32)?.into(),
        ready_since: Timestamp::from_micros(row.get(33)?),
        updated_at: Timestamp::from_micros(row.get(34)?),
        fanout,
    }))
}

pub(super) fn read_order(row: &Row<'_>) -> rusqlite::Result<DispatchOrder> {
    Ok(DispatchOrder {
        priority: Priority::from_rank(row.get(0)?).ok_or_else(|| broken(0, "an unknown priority"))?,
        key: TaskKey(row.get(1)?),
    })
}

pub(super) fn read_body(row: &Row<'_>) -> rusqlite::Result<Arc<Body>> {
    Ok(Arc::new(Body {
        title: row.get(1)?,
        description: row.get(2)?,
        payload: row.get::<_, Option<String>>(3)?.map(Into::into),
        files: read_list(row, 4)?,
        dependencies: read_list(row, 5)?,
    }))
}

/// The columns of an attempt, in the order in which [`read_attempt`] takes them.
pub(super) const ATTEMPT: &str = "task, number, task_id, external, agent, registered, state, occupies, model, \
    project, repo, produces, locks, started_at, ended_at, timeout, hold_tokens, hold_cost, used, stop, lingers_until";

pub(super) fn read_attempt(row: &Row<'_>) -> rusqlite::Result<Arc<Attempt>> {
    Ok(Arc::new(Attempt {
        key: AttemptKey {
            task: TaskKey(row.get(0)?),
            number: row.get(1)?,
        },
        task_id: row.get::<_, String>(2)?.into(),
        external: row.get(3)?,
        agent: row.get::<_, String>(4)?.into(),
        registered: row.get(5)?,
        state: sound(6, encoding::read_state(row.get(6)?))?,
        occupies: row.get(7)?,
        model: row.get::<_, Option<String>>(8)?.map(Into::into),
        project: row.get::<_, Option<String>>(9)?.map(Into::into),
        repo: row.get::<_, Option<String>>(10)?.map(Into::into),
        produces: read_produces(row, 11)?,
        locks: read_list::<LockName>(row, 12)?.into(),
        started_at: Timestamp::from_micros(row.get(13)?),
        ended_at: time(row, 14)?,
        delivered_at: None,
        timeout: row.get::<_, Option<i64>>(15)?.map(Span::from_micros),
        hold: Hold {
            tokens: uint(row, 16)?,
            cost: Money::from_nanos(row.get(17)?),
        },
        usage: read_list(row, 18)?,
        stop: sound(19, encoding::read_stop(row.get(19)?))?,
        stop_told: false,
        lingers_until: time(row, 20)?,
    }))
}

/// The columns of a ledger line, in the order in which [`read_line`] takes them.
pub(super) const LINE: &str = "task, number, scope, hour, resets, model, jobs, tokens_in, tokens_out, \
    tokens_cached, cost, refunded, pull_requests, issues";

pub(super) fn read_line(row: &Row<'_>) -> rusqlite::Result<(AttemptKey, Line)> {
    let key = AttemptKey {
        task: TaskKey(row.get(0)?),
        number: row.get(1)?,
    };
    let model = row.get_ref(5)?.as_str()?;
    Ok((
        key,
        Line {
            scope: read_scope(row, 2)?,
            hour: Timestamp::from_micros(row.get(3)?),
            resets: row.get(4)?,
            model: (!model.is_empty()).then(|| model.into()),
            jobs: uint(row, 6)?,
            tokens: Tokens {
                tokens_in: uint(row, 7)?,
                tokens_out: uint(row, 8)?,
                tokens_cached: uint(row, 9)?,
            },
            cost: Money::from_nanos(row.get(10)?),
            refunded: uint(row, 11)?,
            pull_requests: uint(row, 12)?,
            issues: uint(row, 13)?,
        },
    ))
}

pub(super) fn read_scope(row: &Row<'_>, column: usize) -> rusqlite::Result<Scope> {
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|why: String| broken(column, &why))
}

/// The columns of an agent, in the order in which [`read_agent`] takes them.
pub(super) const AGENT: &str = "id, name, capabilities, models, max_load, metadata, registered_at, session, \
    offline, draining, paused_until, paused_models, quarantined_until, quarantines, fast_failures, last_seen, \
    former_sessions, peer";

pub(super) fn read_agent(row: &Row<'_>, attempts: Vec<AttemptKey>) -> rusqlite::Result<Arc<Agent>> {
    Ok(Arc::new(Agent {
        id: row.get::<_, String>(0)?.into(),
        name: row.get(1)?,
        capabilities: read_list(row, 2)?.into(),
        models: read_list(row, 3)?.into(),
        max_load: row.get(4)?,
        metadata: row.get::<_, Option<String>>(5)?.map(Into::into),
        registered_at: Timestamp::from_micros(row.get(6)?),
        session: row.get::<_, Option<String>>(7)?.map(Into::into),
        former_sessions: read_json(row, 16)?,
        peer: row
            .get_ref(17)?
            .as_str_or_null()?
            .map(|text| parse(17, text))
            .transpose()?,
        offline: row.get(8)?,
        draining: row.get(9)?,
        paused_until: time(row, 10)?,
        paused_models: sound(11, encoding::read_paused(row.get_ref(11)?.as_str()?))?,
        quarantined_until: time(row, 12)?,
        quarantines: row.get(13)?,
        fast_failures: sound(14, encoding::read_keys(row.get_ref(14)?.as_str()?))?,
        mute: false,
        last_seen: Timestamp::from_micros(row.get(15)?),
        last_n: None,
        attempts,
    }))
}

pub(super) fn read_dependency(row: &Row<'_>, column: usize) -> rusqlite::Result<DependencyState> {
    sound(column, encoding::read_dependency(row.get(column)?))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    row.get_ref(column)?
        .as_blob()?
        .try_into()
        .map_err(|_| broken(column, "a digest of a wrong length"))
}

pub(super) fn read_token(row: &Row<'_>) -> rusqlite::Result<AccessToken> {
    Ok(AccessToken {
        name: row.get::<_, String>(0)?.into(),
        digest: digest(row, 1)?,
        roles: sound(2, encoding::read_roles(row.get_ref(2)?.as_str()?))?.into(),
        created_at: Timestamp::from_micros(row.get(3)?),
    })
}

/// `name, document`.
pub(super) fn read_webhook(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let (name, text) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
    sound(1, encoding::read_webhook(name, text))
}

pub(super) const DELIVERY: &str = "webhook, seq, attempts, due_at, error";

pub(super) fn read_delivery(row: &Row<'_>) -> rusqlite::Result<(DeliveryKey, Delivery)> {
    let key = DeliveryKey {
        webhook: row.get::<_, String>(0)?.into(),
        seq: uint(row, 1)?,
    };
    let delivery = Delivery {
        attempts: row.get(2)?,
        due_at: time(row, 3)?,
        error: row.get::<_, String>(4)?.into(),
    };
    Ok((key, delivery))
}

pub(super) fn read_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parse(column, row.get_ref(column)?.as_str()?)
}
