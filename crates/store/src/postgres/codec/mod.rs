//! Rows of PostgreSQL and rows of the core, one into the other.
//!
//! Columns are what statements look at; the rest of a row is one JSON text, which costs less to bind, to send and to
//! store than some dozens of columns, and takes in a new field without a migration.

mod tasks;

pub(super) use tasks::{
    body, class_of, ending, note, order_of, rank, read_body, read_ending, read_note, read_order, read_output,
    read_task, task_columns, task_state,
};

use std::collections::HashMap;
use std::sync::Arc;

use adjutant_core::agent::{Agent, Peer};
use adjutant_core::attempt::{Attempt, AttemptKey, Hold, ModelUsage, Tokens};
use adjutant_core::command::AccessToken;
use adjutant_core::counter::Counter;
use adjutant_core::event::{Event, EventKind};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::money::Money;
use adjutant_core::name::{Label, LockName, ModelName, ProjectName, RepoName, TaskId};
use adjutant_core::set::rows::Replay;
use adjutant_core::task::{Class, ClassId, TaskKey};
use adjutant_core::time::{Span, Timestamp};
use adjutant_core::webhook::{Delivery, DeliveryKey, Webhook};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::Failure;
use crate::encoding::{self, Read, int, json, read_json, uint};

type Result<T> = std::result::Result<T, Failure>;

/// A value that cannot be what this program wrote.
fn sound<T>(what: &str, read: Read<T>) -> Result<T> {
    read.map_err(|why| Failure::Broken(format!("{what}: {why}")))
}

/// A column, which may be of another type only in a database that something else made.
pub(super) fn column<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T> {
    Ok(row.try_get(index)?)
}

fn time(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Classes that are known to be stored: they never change, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Classes {
    by_id: HashMap<ClassId, Arc<Class>>,
}

impl Classes {
    pub(super) fn find(&self, id: ClassId) -> Option<&Arc<Class>> {
        self.by_id.get(&id)
    }

    pub(super) fn of(&self, demand: &adjutant_core::task::Demand) -> Option<&Arc<Class>> {
        self.by_id.values().find(|class| class.demand == *demand)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.by_id.values()
    }

    /// `id, demand`.
    pub(super) fn add(&mut self, row: &Row) -> Result<Arc<Class>> {
        let class = Arc::new(Class {
            id: ClassId(column(row, 0)?),
            demand: sound("class.demand", encoding::read_demand(row.try_get(1)?))?,
        });
        self.by_id.insert(class.id, Arc::clone(&class));
        Ok(class)
    }
}

// ---- attempts and their accounts -------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct AttemptRest {
    task_id: TaskId,
    #[serde(default, skip_serializing_if = "is_default")]
    registered: bool,
    state: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    occupies: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    model: Option<ModelName>,
    #[serde(default, skip_serializing_if = "is_default")]
    project: Option<ProjectName>,
    #[serde(default, skip_serializing_if = "is_default")]
    repo: Option<RepoName>,
    #[serde(default, skip_serializing_if = "is_default")]
    produces: Option<u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    locks: Arc<[LockName]>,
    started_at: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    ended_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    delivered_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    hold_tokens: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    hold_cost: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    usage: Vec<ModelUsage>,
    #[serde(default, skip_serializing_if = "is_default")]
    stop: Option<u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    stop_told: bool,
}

pub(super) fn attempt_state(attempt: &Attempt) -> String {
    json(&AttemptRest {
        task_id: attempt.task_id.clone(),
        registered: attempt.registered,
        state: encoding::state(attempt.state),
        occupies: attempt.occupies,
        model: attempt.model.clone(),
        project: attempt.project.clone(),
        repo: attempt.repo.clone(),
        produces: encoding::produces(attempt.produces),
        locks: Arc::clone(&attempt.locks),
        started_at: attempt.started_at.as_micros(),
        ended_at: micros(attempt.ended_at),
        delivered_at: micros(attempt.delivered_at),
        timeout: attempt.timeout.map(Span::as_micros),
        hold_tokens: attempt.hold.tokens,
        hold_cost: attempt.hold.cost.as_nanos(),
        usage: attempt.usage.clone(),
        stop: encoding::stop(attempt.stop),
        stop_told: attempt.stop_told,
    })
}

/// The columns of an attempt, in the order in which [`read_attempt`] takes them.
macro_rules! attempt_columns {
    () => {
        "attempt.task, attempt.number, attempt.agent, attempt.external, attempt.lingers_until, attempt.state"
    };
}
pub(super) use attempt_columns;

pub(super) fn read_attempt_key(row: &Row, first: usize) -> Result<AttemptKey> {
    Ok(AttemptKey {
        task: TaskKey(column(row, first)?),
        number: u32::try_from(column::<i64>(row, first + 1)?)
            .map_err(|_| Failure::Broken("attempt.number: negative".into()))?,
    })
}

pub(super) fn read_attempt(row: &Row) -> Result<Arc<Attempt>> {
    let rest: AttemptRest = sound("attempt.state", read_json(row.try_get(5)?))?;
    Ok(Arc::new(Attempt {
        key: read_attempt_key(row, 0)?,
        task_id: rest.task_id,
        external: column(row, 3)?,
        agent: row.try_get::<_, &str>(2)?.into(),
        registered: rest.registered,
        state: sound("attempt.state", encoding::read_state(rest.state))?,
        occupies: rest.occupies,
        model: rest.model,
        project: rest.project,
        repo: rest.repo,
        produces: sound("attempt.state", encoding::read_produces(rest.produces))?,
        locks: rest.locks,
        started_at: Timestamp::from_micros(rest.started_at),
        ended_at: time(rest.ended_at),
        delivered_at: time(rest.delivered_at),
        timeout: rest.timeout.map(Span::from_micros),
        hold: Hold {
            tokens: rest.hold_tokens,
            cost: Money::from_nanos(rest.hold_cost),
        },
        usage: rest.usage,
        stop: sound("attempt.state", encoding::read_stop(rest.stop))?,
        stop_told: rest.stop_told,
        lingers_until: time(column(row, 4)?),
    }))
}

/// The columns of a ledger line, in the order in which [`read_line`] takes them.
macro_rules! line_columns {
    () => {
        "line.task, line.number, line.scope, line.hour, line.resets, line.model, line.jobs, line.tokens_in, \
         line.tokens_out, line.tokens_cached, line.cost, line.refunded, line.pull_requests, line.issues"
    };
}
pub(super) use line_columns;

pub(super) fn read_line(row: &Row) -> Result<(AttemptKey, Line)> {
    let count = |index| sound("line", uint(column(row, index)?));
    let model: &str = row.try_get(5)?;
    Ok((
        read_attempt_key(row, 0)?,
        Line {
            scope: scope(row.try_get(2)?)?,
            hour: Timestamp::from_micros(column(row, 3)?),
            resets: u32::try_from(column::<i64>(row, 4)?)
                .map_err(|_| Failure::Broken("line.resets: negative".into()))?,
            model: (!model.is_empty()).then(|| model.into()),
            jobs: count(6)?,
            tokens: Tokens {
                tokens_in: count(7)?,
                tokens_out: count(8)?,
                tokens_cached: count(9)?,
            },
            cost: Money::from_nanos(column(row, 10)?),
            refunded: count(11)?,
            pull_requests: count(12)?,
            issues: count(13)?,
        },
    ))
}

/// Ledger lines, in order, as the accounts of their attempts.
pub(super) fn read_accounts(rows: &[Row]) -> Result<Vec<Arc<Account>>> {
    let mut accounts: Vec<Account> = Vec::new();
    for row in rows {
        let (attempt, line) = read_line(row)?;
        match accounts.last_mut().filter(|account| account.attempt == attempt) {
            Some(account) => account.lines.push(line),
            None => accounts.push(Account {
                attempt,
                lines: vec![line],
            }),
        }
    }
    Ok(accounts.into_iter().map(Arc::new).collect())
}

// ---- agents ----------------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct AgentState {
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    capabilities: Arc<[Label]>,
    #[serde(default, skip_serializing_if = "is_default")]
    models: Arc<[ModelName]>,
    max_load: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    metadata: Option<Box<str>>,
    registered_at: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    session: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    former_sessions: Arc<[Arc<str>]>,
    #[serde(default, skip_serializing_if = "is_default")]
    peer: Option<Arc<Peer>>,
    #[serde(default, skip_serializing_if = "is_default")]
    draining: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    paused_until: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    paused_models: Vec<(ModelName, i64)>,
    #[serde(default, skip_serializing_if = "is_default")]
    quarantined_until: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    quarantines: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    fast_failures: Vec<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    mute: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    last_n: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    attempts: Vec<(i64, u32)>,
}

/// The rest of an agent, with the number of the last sync that its row is to tell.
pub(super) fn agent_state(agent: &Agent, last_n: Option<u64>) -> String {
    json(&AgentState {
        name: agent.name.clone(),
        capabilities: Arc::clone(&agent.capabilities),
        models: Arc::clone(&agent.models),
        max_load: agent.max_load,
        metadata: agent.metadata.clone(),
        registered_at: agent.registered_at.as_micros(),
        session: agent.session.clone(),
        former_sessions: Arc::clone(&agent.former_sessions),
        peer: agent.peer.clone(),
        draining: agent.draining,
        paused_until: micros(agent.paused_until),
        paused_models: agent
            .paused_models
            .iter()
            .map(|(model, until)| (model.clone(), until.as_micros()))
            .collect(),
        quarantined_until: micros(agent.quarantined_until),
        quarantines: agent.quarantines,
        fast_failures: agent.fast_failures.iter().map(|key| key.0).collect(),
        mute: agent.mute,
        last_n,
        attempts: agent
            .attempts
            .iter()
            .map(|key| (key.task.0, key.number))
            .collect(),
    })
}

/// The columns of an agent, in the order in which [`read_agent`] takes them: the last one is when its home server has
/// vouched for it, nothing where that server is gone.
macro_rules! agent_columns {
    () => {
        "agent.id, agent.offline, agent.last_seen, agent.home, agent.state, \
         (SELECT server.vouched_at FROM server WHERE server.id = agent.home)"
    };
}
pub(super) use agent_columns;

/// An agent, its home, and when that server has vouched for it.
pub(super) fn read_agent(row: &Row) -> Result<(Agent, i64, Option<Timestamp>)> {
    let state: AgentState = sound("agent.state", read_json(row.try_get(4)?))?;
    let agent = Agent {
        id: row.try_get::<_, &str>(0)?.into(),
        name: state.name,
        capabilities: state.capabilities,
        models: state.models,
        max_load: state.max_load,
        metadata: state.metadata,
        registered_at: Timestamp::from_micros(state.registered_at),
        session: state.session,
        former_sessions: state.former_sessions,
        peer: state.peer,
        offline: column(row, 1)?,
        draining: state.draining,
        paused_until: time(state.paused_until),
        paused_models: state
            .paused_models
            .into_iter()
            .map(|(model, until)| (model, Timestamp::from_micros(until)))
            .collect(),
        quarantined_until: time(state.quarantined_until),
        quarantines: state.quarantines,
        fast_failures: state.fast_failures.into_iter().map(TaskKey).collect(),
        mute: state.mute,
        last_seen: Timestamp::from_micros(column(row, 2)?),
        last_n: state.last_n,
        attempts: state
            .attempts
            .into_iter()
            .map(|(task, number)| AttemptKey {
                task: TaskKey(task),
                number,
            })
            .collect(),
    };
    Ok((agent, column(row, 3)?, time(column(row, 5)?)))
}

// ---- scopes ----------------------------------------------------------------------------------------------------------

pub(super) fn scope(text: &str) -> Result<Scope> {
    sound("scope", text.parse())
}

#[derive(Serialize, Deserialize)]
struct StoredPolicy {
    limits: String,
    model_allowlist: Vec<ModelName>,
    max_duration: Option<i64>,
    prices: String,
    cooldown: i64,
}

pub(super) fn policy(policy: &Policy) -> String {
    json(&StoredPolicy {
        limits: encoding::limits(&policy.limits),
        model_allowlist: policy.model_allowlist.clone(),
        max_duration: policy.max_job_duration.map(Span::as_micros),
        prices: encoding::prices(policy.prices),
        cooldown: policy.cooldown_after_failure.as_micros(),
    })
}

pub(super) fn read_policy(text: &str) -> Result<Arc<Policy>> {
    let stored: StoredPolicy = sound("scope.policy", read_json(text))?;
    Ok(Arc::new(Policy {
        limits: sound("scope.policy", encoding::read_limits(&stored.limits))?,
        model_allowlist: stored.model_allowlist,
        max_job_duration: stored.max_duration.map(Span::from_micros),
        prices: sound("scope.policy", encoding::read_prices(&stored.prices))?,
        cooldown_after_failure: Span::from_micros(stored.cooldown),
    }))
}

/// The numbers of a counter as an array.
pub(super) fn counter(counter: &Counter) -> Vec<i64> {
    let mut numbers = vec![
        i64::from(counter.resets),
        int(counter.held_tokens),
        counter.held_cost.as_nanos(),
        i64::from(counter.held_pull_requests),
        i64::from(counter.held_issues),
        i64::from(counter.active),
        counter.cooldown_until.as_micros(),
    ];
    numbers.extend(encoding::tallies(counter));
    numbers
}

pub(super) fn read_counter(scope: &Scope, numbers: &[i64]) -> Result<Arc<Counter>> {
    let small =
        |number: i64| u32::try_from(number).map_err(|_| Failure::Broken("scope.counter: negative".into()));
    let [
        resets,
        held_tokens,
        held_cost,
        held_pull_requests,
        held_issues,
        active,
        cooldown_until,
        tallies @ ..,
    ] = numbers
    else {
        return Err(Failure::Broken("scope.counter: too short".into()));
    };
    let [hour, day, total] = sound("scope.counter", encoding::read_tallies(tallies))?;
    Ok(Arc::new(Counter {
        scope: scope.clone(),
        resets: small(*resets)?,
        hour,
        day,
        total,
        held_tokens: sound("scope.counter", uint(*held_tokens))?,
        held_cost: Money::from_nanos(*held_cost),
        held_pull_requests: small(*held_pull_requests)?,
        held_issues: small(*held_issues)?,
        active: small(*active)?,
        cooldown_until: Timestamp::from_micros(*cooldown_until),
    }))
}

// ---- the rest --------------------------------------------------------------------------------------------------------

pub(super) fn digest(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes
        .try_into()
        .map_err(|_| Failure::Broken("a digest of a wrong length".into()))
}

/// `digest, at, answer` from the column `first` on.
pub(super) fn read_replay(row: &Row, first: usize) -> Result<Replay> {
    Ok(Replay {
        digest: digest(row.try_get(first)?)?,
        at: Timestamp::from_micros(column(row, first + 1)?),
        answer: sound("replay.answer", read_json(row.try_get(first + 2)?))?,
    })
}

/// `name, digest, roles, created_at`.
pub(super) fn read_token(row: &Row) -> Result<AccessToken> {
    Ok(AccessToken {
        name: row.try_get::<_, &str>(0)?.into(),
        digest: digest(row.try_get(1)?)?,
        roles: sound("token.roles", encoding::read_roles(row.try_get(2)?))?.into(),
        created_at: Timestamp::from_micros(column(row, 3)?),
    })
}

/// `name, document`.
pub(super) fn read_webhook(row: &Row) -> Result<Webhook> {
    sound(
        "webhook.document",
        encoding::read_webhook(row.try_get(0)?, row.try_get(1)?),
    )
}

macro_rules! delivery_columns {
    () => {
        "webhook, seq, attempts, due_at, error"
    };
}
pub(super) use delivery_columns;

/// [`delivery_columns`].
pub(super) fn read_delivery(row: &Row) -> Result<(DeliveryKey, Delivery)> {
    let key = DeliveryKey {
        webhook: row.try_get::<_, &str>(0)?.into(),
        seq: column::<i64>(row, 1)?.unsigned_abs(),
    };
    let attempts = u32::try_from(column::<i64>(row, 2)?);
    let delivery = Delivery {
        attempts: attempts.map_err(|_| Failure::Broken("delivery.attempts: out of range".into()))?,
        due_at: time(column(row, 3)?),
        error: row.try_get::<_, &str>(4)?.into(),
    };
    Ok((key, delivery))
}

/// `seq, kind, task, task_id, agent, at, payload`.
pub(super) fn read_event(row: &Row) -> Result<Event> {
    let kind: &str = row.try_get(1)?;
    let task = match (column::<Option<i64>>(row, 2)?, row.try_get::<_, Option<&str>>(3)?) {
        (Some(key), Some(id)) => Some((TaskKey(key), id.into())),
        _ => None,
    };
    Ok(Event {
        seq: column::<i64>(row, 0)?.unsigned_abs(),
        kind: EventKind::from_name(kind).ok_or_else(|| Failure::Broken(format!("event.kind: {kind}")))?,
        task,
        agent: row.try_get::<_, Option<&str>>(4)?.map(Into::into),
        at: Timestamp::from_micros(column(row, 5)?),
        payload: row.try_get::<_, Option<&str>>(6)?.map(Into::into),
    })
}
