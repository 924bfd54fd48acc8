//! How values are written that a database knows no type for: the same in every store on disk, so that rows can move
//! from one to another. Reading says what is wrong with a value that this program cannot have written.

use std::collections::BTreeMap;
use std::sync::Arc;

use adjutant_core::access::Role;
use adjutant_core::attempt::{AttemptState, Outcome, StopReason};
use adjutant_core::counter::{Counter, Tally};
use adjutant_core::event::EventKind;
use adjutant_core::experience::Kind;
use adjutant_core::ledger::Line;
use adjutant_core::limit::{Limit, Policy, Prices};
use adjutant_core::money::Money;
use adjutant_core::name::{Label, ModelName};
use adjutant_core::task::{Demand, DependencyState, Gate, Produces, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Lease, Webhook};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) type Read<T> = Result<T, String>;

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    // Our own types have string keys and finite numbers: there is nothing that could fail.
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn read_json<T: DeserializeOwned>(text: &str) -> Read<T> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A list as JSON; nothing when it is empty, as most are.
pub(crate) fn list<T: Serialize>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| json(items))
}

/// Counts fit: they are bounded far below where they enter.
pub(crate) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn uint(count: i64) -> Read<u64> {
    u64::try_from(count).map_err(|_| "a negative count".into())
}

// ---- tasks -----------------------------------------------------------------------------------------------------------

pub(crate) fn gate(gate: Option<&Gate>) -> String {
    match gate {
        None => String::new(),
        Some(Gate::Lock(name)) => format!("lock:{name}"),
        Some(Gate::Fleet) => "fleet".into(),
        Some(Gate::Project(name)) => format!("project:{name}"),
        Some(Gate::Repo(name)) => format!("repo:{name}"),
        Some(Gate::Estimate) => "estimate".into(),
    }
}

pub(crate) fn read_gate(text: &str) -> Read<Option<Gate>> {
    Ok(Some(match text.split_once(':') {
        None if text.is_empty() => return Ok(None),
        None if text == "fleet" => Gate::Fleet,
        None if text == "estimate" => Gate::Estimate,
        Some(("lock", name)) => Gate::Lock(name.into()),
        Some(("project", name)) => Gate::Project(name.into()),
        Some(("repo", name)) => Gate::Repo(name.into()),
        _ => return Err("an unknown gate".into()),
    }))
}

pub(crate) const fn produces(produces: Option<Produces>) -> Option<u8> {
    match produces {
        None => None,
        Some(Produces::PullRequest) => Some(0),
        Some(Produces::Issue) => Some(1),
    }
}

pub(crate) fn read_produces(code: Option<u8>) -> Read<Option<Produces>> {
    match code {
        None => Ok(None),
        Some(0) => Ok(Some(Produces::PullRequest)),
        Some(1) => Ok(Some(Produces::Issue)),
        Some(_) => Err("an unknown product".into()),
    }
}

#[derive(Serialize, Deserialize)]
struct StoredDemand {
    labels: Vec<Label>,
    prefers: Vec<Label>,
    model: Option<ModelName>,
}

pub(crate) fn demand(demand: &Demand) -> String {
    json(&StoredDemand {
        labels: demand.labels.clone(),
        prefers: demand.prefers.clone(),
        model: demand.model.clone(),
    })
}

pub(crate) fn read_demand(text: &str) -> Read<Demand> {
    let StoredDemand {
        labels,
        prefers,
        model,
    } = read_json(text)?;
    Ok(Demand {
        labels,
        prefers,
        model,
    })
}

pub(crate) const fn dependency(state: DependencyState) -> u8 {
    match state {
        DependencyState::Waiting => 0,
        DependencyState::Met => 1,
        DependencyState::Failed => 2,
    }
}

pub(crate) fn read_dependency(code: u8) -> Read<DependencyState> {
    match code {
        0 => Ok(DependencyState::Waiting),
        1 => Ok(DependencyState::Met),
        2 => Ok(DependencyState::Failed),
        _ => Err("an unknown state of a dependency".into()),
    }
}

// ---- webhooks ----------------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct StoredWebhook {
    url: Arc<str>,
    kinds: Vec<EventKind>,
    created_at: i64,
    disabled: Option<Arc<str>>,
    failing_since: Option<i64>,
    cursor: u64,
    lease: Option<(Arc<str>, i64)>,
    pending: u32,
    dead: u32,
    missed: u64,
}

/// All of a webhook but its name.
pub(crate) fn webhook(webhook: &Webhook) -> String {
    json(&StoredWebhook {
        url: Arc::clone(&webhook.url),
        kinds: webhook.kinds.to_vec(),
        created_at: webhook.created_at.as_micros(),
        disabled: webhook.disabled.clone(),
        failing_since: webhook.failing_since.map(Timestamp::as_micros),
        cursor: webhook.cursor,
        lease: webhook
            .lease
            .as_ref()
            .map(|lease| (Arc::clone(&lease.session), lease.until.as_micros())),
        pending: webhook.pending,
        dead: webhook.dead,
        missed: webhook.missed,
    })
}

pub(crate) fn read_webhook(name: &str, text: &str) -> Read<Webhook> {
    let stored: StoredWebhook = read_json(text)?;
    Ok(Webhook {
        name: name.into(),
        url: stored.url,
        kinds: stored.kinds.into(),
        created_at: Timestamp::from_micros(stored.created_at),
        disabled: stored.disabled,
        failing_since: stored.failing_since.map(Timestamp::from_micros),
        cursor: stored.cursor,
        lease: stored.lease.map(|(session, until)| Lease {
            session,
            until: Timestamp::from_micros(until),
        }),
        pending: stored.pending,
        dead: stored.dead,
        missed: stored.missed,
    })
}

// ---- attempts --------------------------------------------------------------------------------------------------------

const OUTCOMES: [Outcome; 6] = [
    Outcome::Completed,
    Outcome::Failed,
    Outcome::Lost,
    Outcome::TimedOut,
    Outcome::Cancelled,
    Outcome::Released,
];
const STOPS: [StopReason; 7] = [
    StopReason::Cancelled,
    StopReason::Timeout,
    StopReason::Limit,
    StopReason::Released,
    StopReason::Lost,
    StopReason::Ended,
    StopReason::Unknown,
];

fn code_in<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter()
        .position(|other| other == one)
        .and_then(|index| u8::try_from(index).ok())
        .unwrap_or(u8::MAX)
}

/// 0 offered, 1 taken, from 2 on the outcomes.
pub(crate) fn state(state: AttemptState) -> u8 {
    match state {
        AttemptState::Offered => 0,
        AttemptState::Taken => 1,
        AttemptState::Ended(outcome) => 2 + code_in(&OUTCOMES, &outcome),
    }
}

pub(crate) fn read_state(code: u8) -> Read<AttemptState> {
    match code {
        0 => Ok(AttemptState::Offered),
        1 => Ok(AttemptState::Taken),
        code => OUTCOMES
            .get(usize::from(code) - 2)
            .map(|outcome| AttemptState::Ended(*outcome))
            .ok_or_else(|| "an unknown outcome".into()),
    }
}

pub(crate) fn stop(stop: Option<StopReason>) -> Option<u8> {
    stop.map(|stop| code_in(&STOPS, &stop))
}

pub(crate) fn read_stop(code: Option<u8>) -> Read<Option<StopReason>> {
    code.map(|code| {
        STOPS
            .get(usize::from(code))
            .copied()
            .ok_or_else(|| "an unknown stop reason".into())
    })
    .transpose()
}

/// The amounts of a ledger line, in the order of the columns of every table that has them.
pub(crate) fn amounts(line: &Line) -> [i64; 8] {
    [
        int(line.jobs),
        int(line.tokens.tokens_in),
        int(line.tokens.tokens_out),
        int(line.tokens.tokens_cached),
        line.cost.as_nanos(),
        int(line.refunded),
        int(line.pull_requests),
        int(line.issues),
    ]
}

// ---- agents and tokens -----------------------------------------------------------------------------------------------

pub(crate) fn paused(models: &BTreeMap<ModelName, Timestamp>) -> String {
    let micros: Vec<(&ModelName, i64)> = models
        .iter()
        .map(|(model, until)| (model, until.as_micros()))
        .collect();
    json(&micros)
}

pub(crate) fn read_paused(text: &str) -> Read<BTreeMap<ModelName, Timestamp>> {
    let paused: Vec<(ModelName, i64)> = read_json(text)?;
    Ok(paused
        .into_iter()
        .map(|(model, until)| (model, Timestamp::from_micros(until)))
        .collect())
}

pub(crate) fn keys(keys: &[TaskKey]) -> String {
    json(&keys.iter().map(|key| key.0).collect::<Vec<_>>())
}

pub(crate) fn read_keys(text: &str) -> Read<Vec<TaskKey>> {
    Ok(read_json::<Vec<i64>>(text)?.into_iter().map(TaskKey).collect())
}

pub(crate) fn roles(roles: &[Role]) -> String {
    roles
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn read_roles(text: &str) -> Read<Vec<Role>> {
    text.split_whitespace().map(str::parse).collect()
}

// ---- scopes and kinds ------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct StoredPrices {
    input: i64,
    output: i64,
    cached: i64,
}

pub(crate) fn prices(prices: Prices) -> String {
    json(&StoredPrices {
        input: prices.input.as_nanos(),
        output: prices.output.as_nanos(),
        cached: prices.cached.as_nanos(),
    })
}

pub(crate) fn read_prices(text: &str) -> Read<Prices> {
    let StoredPrices {
        input,
        output,
        cached,
    } = read_json(text)?;
    Ok(Prices {
        input: Money::from_nanos(input),
        output: Money::from_nanos(output),
        cached: Money::from_nanos(cached),
    })
}

/// A limit with money in nano-dollars: cents with decimals are for people.
#[derive(Serialize, Deserialize)]
struct StoredLimit {
    #[serde(flatten)]
    limit: Limit,
    cost_nanos: Option<i64>,
}

pub(crate) fn limits(limits: &[Limit]) -> String {
    let stored: Vec<StoredLimit> = limits
        .iter()
        .map(|limit| StoredLimit {
            cost_nanos: limit.cost.map(Money::as_nanos),
            limit: Limit {
                cost: None,
                ..limit.clone()
            },
        })
        .collect();
    json(&stored)
}

pub(crate) fn read_limits(text: &str) -> Read<Vec<Limit>> {
    let stored: Vec<StoredLimit> = read_json(text)?;
    Ok(stored
        .into_iter()
        .map(|stored| Limit {
            cost: stored.cost_nanos.map(Money::from_nanos),
            ..stored.limit
        })
        .collect())
}

/// Numbers in a stored tally.
const TALLY: usize = 7;

/// The tallies of a counter, one number after the other.
pub(crate) fn tallies(counter: &Counter) -> Vec<i64> {
    [&counter.hour, &counter.day, &counter.total]
        .into_iter()
        .flat_map(|tally| {
            [
                tally.start.as_micros(),
                int(tally.jobs),
                tally.tokens,
                tally.cost.as_nanos(),
                int(tally.pull_requests),
                int(tally.issues),
                i64::from(tally.told),
            ]
        })
        .collect()
}

pub(crate) fn read_tallies(numbers: &[i64]) -> Read<[Tally; 3]> {
    if numbers.len() != 3 * TALLY {
        return Err("broken tallies".into());
    }
    let tally = |numbers: &[i64]| {
        Ok::<_, String>(Tally {
            start: Timestamp::from_micros(numbers[0]),
            jobs: uint(numbers[1])?,
            tokens: numbers[2],
            cost: Money::from_nanos(numbers[3]),
            pull_requests: uint(numbers[4])?,
            issues: uint(numbers[5])?,
            told: u16::try_from(numbers[6]).map_err(|error| error.to_string())?,
        })
    };
    Ok([
        tally(&numbers[..TALLY])?,
        tally(&numbers[TALLY..2 * TALLY])?,
        tally(&numbers[2 * TALLY..])?,
    ])
}

/// A kind as two columns: its labels, and its model, empty for none.
pub(crate) fn kind(kind: &Kind) -> (String, &str) {
    (
        json(&*kind.labels),
        kind.model.as_ref().map_or("", |model| model.as_str()),
    )
}

pub(crate) fn read_kind(labels: &str, model: &str) -> Read<Kind> {
    let labels: Vec<Label> = read_json(labels)?;
    Ok(Kind {
        labels: labels.into(),
        model: (!model.is_empty()).then(|| model.into()),
    })
}

/// Whether decisions hang on how much of a scope is used.
pub(crate) fn is_guarded(policy: &Policy) -> bool {
    !policy.limits.is_empty() || !policy.cooldown_after_failure.is_zero()
}
