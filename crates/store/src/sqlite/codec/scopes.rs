//! Rows that belong to a scope or a kind of work: policies, counters, experience.

use std::sync::Arc;

use adjutant_core::counter::{Counter, Tally};
use adjutant_core::experience::{Experience, Kind};
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::money::Money;
use adjutant_core::time::{Span, Timestamp};
use rusqlite::Row;

use super::{parse, read_list, read_scope, sound, uint};
use crate::encoding::{self, Read};

pub(in super::super) fn read_policy(row: &Row<'_>) -> rusqlite::Result<(Scope, Arc<Policy>)> {
    let policy = Policy {
        limits: sound(1, encoding::read_limits(row.get_ref(1)?.as_str()?))?,
        model_allowlist: read_list(row, 2)?,
        max_job_duration: row.get::<_, Option<i64>>(3)?.map(Span::from_micros),
        prices: sound(4, encoding::read_prices(row.get_ref(4)?.as_str()?))?,
        cooldown_after_failure: Span::from_micros(row.get(5)?),
    };
    Ok((read_scope(row, 0)?, Arc::new(policy)))
}

/// The tallies of a counter as little-endian numbers: they are rewritten in every turn that uses the scope.
pub(in super::super) fn tallies(counter: &Counter) -> Vec<u8> {
    encoding::tallies(counter)
        .into_iter()
        .flat_map(i64::to_le_bytes)
        .collect()
}

fn read_tallies(bytes: &[u8]) -> Read<[Tally; 3]> {
    let numbers: Vec<i64> = bytes
        .chunks(8)
        .map(|chunk| chunk.try_into().map(i64::from_le_bytes))
        .collect::<Result<_, _>>()
        .map_err(|_| "broken tallies".to_owned())?;
    encoding::read_tallies(&numbers)
}

/// The columns of a counter, in the order in which [`read_counter`] takes them.
pub(in super::super) const COUNTER: &str = "scope, resets, tallies, held_tokens, held_cost, held_pull_requests, \
    held_issues, active, cooldown_until";

pub(in super::super) fn read_counter(row: &Row<'_>) -> rusqlite::Result<Arc<Counter>> {
    let [hour, day, total] = sound(2, read_tallies(row.get_ref(2)?.as_blob()?))?;
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

/// `labels, model, samples`.
pub(in super::super) fn read_experience(row: &Row<'_>) -> rusqlite::Result<(Kind, Arc<Experience>)> {
    let kind = sound(
        0,
        encoding::read_kind(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?),
    )?;
    let samples = parse(2, row.get_ref(2)?.as_str()?)?;
    Ok((kind, Arc::new(Experience { samples })))
}
