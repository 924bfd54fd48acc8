//! Rows that belong to a scope or a kind of work: policies, counters, experience.

use std::sync::Arc;

use adjutant_core::counter::{Counter, Tally};
use adjutant_core::experience::{Experience, Kind};
use adjutant_core::limit::{Limit, Policy, Prices, Scope};
use adjutant_core::money::Money;
use adjutant_core::name::Label;
use adjutant_core::time::{Span, Timestamp};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::{broken, int, json, parse, read_list, read_scope, uint};

#[derive(Serialize, Deserialize)]
struct StoredPrices {
    input: i64,
    output: i64,
    cached: i64,
}

pub(in super::super) fn prices(prices: Prices) -> String {
    json(&StoredPrices {
        input: prices.input.as_nanos(),
        output: prices.output.as_nanos(),
        cached: prices.cached.as_nanos(),
    })
}

/// A limit with money in nano-dollars: cents with decimals are for people.
#[derive(Serialize, Deserialize)]
struct StoredLimit {
    #[serde(flatten)]
    limit: Limit,
    cost_nanos: Option<i64>,
}

pub(in super::super) fn limits(limits: &[Limit]) -> String {
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

pub(in super::super) fn read_policy(row: &Row<'_>) -> rusqlite::Result<(Scope, Arc<Policy>)> {
    let limits: Vec<StoredLimit> = read_list(row, 1)?;
    let price_text: String = row.get(4)?;
    let StoredPrices {
        input,
        output,
        cached,
    } = parse(4, &price_text)?;
    let policy = Policy {
        limits: limits
            .into_iter()
            .map(|stored| Limit {
                cost: stored.cost_nanos.map(Money::from_nanos),
                ..stored.limit
            })
            .collect(),
        model_allowlist: read_list(row, 2)?,
        max_job_duration: row.get::<_, Option<i64>>(3)?.map(Span::from_micros),
        prices: Prices {
            input: Money::from_nanos(input),
            output: Money::from_nanos(output),
            cached: Money::from_nanos(cached),
        },
        cooldown_after_failure: Span::from_micros(row.get(5)?),
    };
    Ok((read_scope(row, 0)?, Arc::new(policy)))
}

/// Numbers in a stored tally.
const TALLY: usize = 7;

/// The tallies of a counter as little-endian numbers: they are rewritten in every turn that uses the scope.
pub(in super::super) fn tallies(counter: &Counter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 * TALLY * 8);
    for tally in [&counter.hour, &counter.day, &counter.total] {
        for number in [
            tally.start.as_micros(),
            int(tally.jobs),
            tally.tokens,
            tally.cost.as_nanos(),
            int(tally.pull_requests),
            int(tally.issues),
            i64::from(tally.told),
        ] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes
}

fn read_tallies(bytes: &[u8]) -> Option<[Tally; 3]> {
    let numbers: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|chunk| chunk.try_into().map(i64::from_le_bytes))
        .collect::<Result<_, _>>()
        .ok()?;
    if numbers.len() != 3 * TALLY {
        return None;
    }
    let tally = |numbers: &[i64]| {
        Some(Tally {
            start: Timestamp::from_micros(numbers[0]),
            jobs: u64::try_from(numbers[1]).ok()?,
            tokens: numbers[2],
            cost: Money::from_nanos(numbers[3]),
            pull_requests: u64::try_from(numbers[4]).ok()?,
            issues: u64::try_from(numbers[5]).ok()?,
            told: u16::try_from(numbers[6]).ok()?,
        })
    };
    Some([
        tally(&numbers[..TALLY])?,
        tally(&numbers[TALLY..2 * TALLY])?,
        tally(&numbers[2 * TALLY..])?,
    ])
}

/// The columns of a counter, in the order in which [`read_counter`] takes them.
pub(in super::super) const COUNTER: &str = "scope, resets, tallies, held_tokens, held_cost, held_pull_requests, \
    held_issues, active, cooldown_until";

pub(in super::super) fn read_counter(row: &Row<'_>) -> rusqlite::Result<Arc<Counter>> {
    let [hour, day, total] =
        read_tallies(row.get_ref(2)?.as_blob()?).ok_or_else(|| broken(2, "broken tallies"))?;
    Ok(Arc::new(Counter {
        scope: read_scope(row, 0)?,
        resets: row.get(1)?,
        hour,
        day,
        total,
        held_tokens: uint(row, 3)?,
        held_cost: Money::from_nanos(row.get(4)?),
        held_pull_requests: row.get(5)?,
        held_issues: row.get(6)?,
        active: row.get(7)?,
        cooldown_until: Timestamp::from_micros(row.get(8)?),
    }))
}

/// The columns of what attempts of a kind used, but for the samples.
pub(in super::super) fn kind(kind: &Kind) -> (String, &str) {
    (
        json(&*kind.labels),
        kind.model.as_ref().map_or("", |model| model.as_str()),
    )
}

/// `labels, model, samples`.
pub(in super::super) fn read_experience(row: &Row<'_>) -> rusqlite::Result<(Kind, Arc<Experience>)> {
    let labels: Vec<Label> = parse(0, row.get_ref(0)?.as_str()?)?;
    let model = row.get_ref(1)?.as_str()?;
    let kind = Kind {
        labels: labels.into(),
        model: (!model.is_empty()).then(|| model.into()),
    };
    let samples = parse(2, row.get_ref(2)?.as_str()?)?;
    Ok((kind, Arc::new(Experience { samples })))
}
