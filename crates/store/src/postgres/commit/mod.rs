//! Committing: what a turn changed, in one or two round trips.
//!
//! First everything but what others wait for. Then the rows that nearly every turn of every server writes: what was
//! used of scopes without limits, and the number of the last event. They are locked for as long as a commit takes.
//!
//! Where several servers add to what was used of a scope, it is locked and read before it is written: that takes two
//! journeys. One that is alone finds what it has read, and writes at once, on condition that it does.

mod rows;

pub(super) use rows::outputs;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use adjutant_core::counter::Counter;
use adjutant_core::limit::Scope;
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::set::rows::{Changes, ReplayKey};
use adjutant_core::time::Timestamp;
use tokio_postgres::Row;

use super::codec::{column, counter, policy};
use super::load::read_scope;
use super::presence::{Heard, Presence};
use super::session::{Batch, PATIENT};
use super::statements::Sql;
use super::{Failure, Seen};
use crate::encoding::{self, int, json};
use crate::payload;

/// What a turn writes beside events and what is used of scopes.
pub(super) struct Gathered {
    pub(super) batch: Batch,
    /// What the agents of this turn have said.
    pub(super) heard: Vec<(AgentId, Option<Heard>)>,
    /// Whether there is something to write at all.
    pub(super) is_needed: bool,
}

/// Where the answers of the first part of a commit are.
pub(super) struct Places {
    turn: usize,
    scopes: Option<usize>,
}

/// Whoever has the turn, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author {
    pub(super) server: i64,
    pub(super) turn: i64,
    pub(super) now: Timestamp,
}

/// What was there under names that a turn may write anew. What was not is written as new, so that of two who do so
/// the second one is turned back.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) replays: BTreeSet<ReplayKey>,
    pub(super) jobs: BTreeSet<TaskId>,
}

/// Gathers everything but the events and what is used of scopes.
pub(super) fn gather(changes: &Changes, presence: &Presence, named: &Named) -> Gathered {
    let mut batch = Batch::default();
    let heard = rows::ask(changes, presence, named, &mut batch);
    let is_needed = !batch.is_empty()
        || !changes.events.is_empty()
        || !changes.counters.is_empty()
        || !changes.policies.is_empty()
        || !changes.experiences.is_empty();
    Gathered {
        batch,
        heard,
        is_needed,
    }
}

/// Adds all the rest, if what is used of scopes is known well enough: then one journey does for a commit. It holds only
/// where no other server has written to them since they were read, which is looked at while they are written.
pub(super) fn at_once(
    changes: &Changes,
    author: Author,
    seen: &HashMap<Scope, Seen>,
    batch: &mut Batch,
) -> bool {
    if !changes.policies.is_empty() {
        return false;
    }
    let mut rows: BTreeMap<String, (i64, Option<String>, String)> = BTreeMap::new();
    for change in &changes.counters {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        let Some(seen) = seen.get(&change.key).filter(|seen| seen.exists) else {
            return false;
        };
        if seen.counter != change.before {
            return false;
        }
        let before = change.before.as_deref().map(|before| array(&counter(before)));
        rows.insert(
            change.key.to_string(),
            (seen.version, before, array(&counter(now))),
        );
    }
    let (mut names, mut versions, mut before, mut counters) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // In their order, in which others lock them.
    for (name, (version, was, now)) in rows {
        names.push(name);
        versions.push(version);
        before.push(was);
        counters.push(now);
    }
    batch.ask(
        Sql::TurnAtOnce,
        vec![
            Box::new(author.server),
            Box::new(author.turn),
            Box::new(author.now.as_micros()),
            Box::new(PATIENT),
            Box::new(names),
            Box::new(versions),
            Box::new(before),
            Box::new(counters),
        ],
    );
    experiences(changes, batch);
    events(changes, author, batch);
    true
}

/// Adds what is to be known of scopes before what was used of them can be written.
pub(super) fn look_again(
    changes: &Changes,
    author: Author,
    seen: &HashMap<Scope, Seen>,
    batch: &mut Batch,
) -> Places {
    let turn = batch.ask(
        Sql::Turn,
        vec![
            Box::new(author.server),
            Box::new(author.turn),
            Box::new(author.now.as_micros()),
            Box::new(PATIENT),
        ],
    );
    let all = scopes(changes);
    let new: Vec<String> = all
        .iter()
        .filter(|scope| !seen.get(**scope).is_some_and(|seen| seen.exists))
        .map(ToString::to_string)
        .collect();
    if !new.is_empty() {
        batch.ask(Sql::MakeScopes, vec![Box::new(new)]);
    }
    let open: Vec<String> = all
        .into_iter()
        .filter(|scope| !seen.get(*scope).is_some_and(|seen| seen.locked))
        .map(ToString::to_string)
        .collect();
    let scopes = (!open.is_empty()).then(|| batch.ask(Sql::LockScopes, vec![Box::new(open)]));
    Places { turn, scopes }
}

/// The scopes that a turn writes, in order.
fn scopes(changes: &Changes) -> BTreeSet<&Scope> {
    let policies = changes.policies.iter().map(|change| &change.key);
    policies
        .chain(changes.counters.iter().map(|change| &change.key))
        .collect()
}

/// The second part: with the scopes as they are now. Says also whether another server has written to them.
pub(super) fn second(
    changes: &Changes,
    author: Author,
    places: &Places,
    answers: &[Vec<Row>],
    seen: &HashMap<Scope, Seen>,
) -> Result<(Batch, bool), Failure> {
    if answers[places.turn].is_empty() {
        return Err(Failure::Replaced);
    }
    let mut stored = HashMap::new();
    for row in places.scopes.map_or(&[][..], |place| &answers[place]) {
        let (scope, now) = read_scope(row)?;
        let before = seen.get(&scope);
        if before.is_some_and(|before| before.version != now.version) {
            return Err(Failure::Changed(format!("what is set for {scope}")));
        }
        stored.insert(scope, now);
    }
    let mut batch = Batch::default();
    set_policies(changes, seen, &stored, &mut batch)?;
    let (mut names, mut counters) = (Vec::new(), Vec::new());
    let mut in_company = false;
    for change in &changes.counters {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        let before = change
            .before
            .as_deref()
            .cloned()
            .unwrap_or_else(|| Counter::new(change.key.clone()));
        let locked = seen.get(&change.key).filter(|seen| seen.locked);
        let current = locked
            .or_else(|| stored.get(&change.key))
            .and_then(|stored| stored.counter.as_deref().cloned())
            .unwrap_or_else(|| Counter::new(change.key.clone()));
        let merged = if current == before {
            now.clone()
        } else if locked.is_some() || is_guarded(&change.key, stored.get(&change.key)) {
            return Err(Failure::Changed(format!("what is used of {}", change.key)));
        } else {
            in_company = true;
            now.rebased(&before, &current)
                .ok_or_else(|| Failure::Changed(format!("the periods of {}", change.key)))?
        };
        names.push(change.key.to_string());
        counters.push(array(&counter(&merged)));
    }
    if !names.is_empty() {
        batch.ask(Sql::UpdateCounters, vec![Box::new(names), Box::new(counters)]);
    }
    experiences(changes, &mut batch);
    events(changes, author, &mut batch);
    Ok((batch, in_company))
}

/// Everything but the events, where nobody else is and nothing was before.
pub(super) fn fill(changes: &Changes) -> Result<Batch, Failure> {
    let mut batch = Batch::default();
    // No server has heard of the agents, and nothing was there before.
    rows::ask(changes, &Presence::new(0), &Named::default(), &mut batch);
    let names: Vec<String> = scopes(changes).into_iter().map(ToString::to_string).collect();
    if !names.is_empty() {
        batch.ask(Sql::MakeScopes, vec![Box::new(names)]);
    }
    set_policies(changes, &HashMap::new(), &HashMap::new(), &mut batch)?;
    let counters = changes.counters.iter().filter_map(|change| change.now.as_deref());
    let (names, counters): (Vec<String>, Vec<String>) = counters
        .map(|now| (now.scope.to_string(), array(&counter(now))))
        .unzip();
    if !names.is_empty() {
        batch.ask(Sql::UpdateCounters, vec![Box::new(names), Box::new(counters)]);
    }
    experiences(changes, &mut batch);
    Ok(batch)
}

/// Whether decisions hang on what is used of a scope. For agents there may be a default that is not stored.
fn is_guarded(scope: &Scope, seen: Option<&Seen>) -> bool {
    matches!(scope, Scope::Agent(_))
        || seen
            .and_then(|seen| seen.policy.as_deref())
            .is_some_and(encoding::is_guarded)
}

fn set_policies(
    changes: &Changes,
    seen: &HashMap<Scope, Seen>,
    stored: &HashMap<Scope, Seen>,
    batch: &mut Batch,
) -> Result<(), Failure> {
    let (mut names, mut guarded, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for change in &changes.policies {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        // What was set hangs on what was used: it was looked at, and must be the same still.
        if let (Some(before), Some(current)) = (seen.get(&change.key), stored.get(&change.key))
            && before.counter != current.counter
        {
            return Err(Failure::Changed(format!("what is used of {}", change.key)));
        }
        names.push(change.key.to_string());
        guarded.push(encoding::is_guarded(now) || matches!(change.key, Scope::Agent(_)));
        policies.push(policy(now));
    }
    if !names.is_empty() {
        batch.ask(
            Sql::UpdatePolicies,
            vec![Box::new(names), Box::new(guarded), Box::new(policies)],
        );
    }
    Ok(())
}

/// Numbers as the text of an array.
fn array(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

fn experiences(changes: &Changes, batch: &mut Batch) {
    let (mut labels, mut models, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for change in &changes.experiences {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        let (of_labels, model) = encoding::kind(&change.key);
        labels.push(of_labels);
        models.push(model.to_owned());
        samples.push(json(&now.samples));
    }
    if !labels.is_empty() {
        batch.ask(
            Sql::PutExperiences,
            vec![Box::new(labels), Box::new(models), Box::new(samples)],
        );
    }
}

/// Numbers and writes what happened.
fn events(changes: &Changes, author: Author, batch: &mut Batch) {
    let (mut kinds, mut keys, mut ids, mut agents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut payloads) = (Vec::new(), Vec::new());
    for event in &changes.events {
        kinds.push(event.kind.name().to_owned());
        keys.push(event.task.as_ref().map(|(key, _)| key.0));
        ids.push(event.task.as_ref().map(|(_, id)| id.to_string()));
        agents.push(event.agent.as_ref().map(ToString::to_string));
        times.push(event.at.as_micros());
        payloads.push(payload::to_json(event));
    }
    batch.ask(
        Sql::Events,
        vec![
            Box::new(int(changes.events.len() as u64)),
            Box::new(author.now.as_micros()),
            Box::new(author.server),
            Box::new(kinds),
            Box::new(keys),
            Box::new(ids),
            Box::new(agents),
            Box::new(times),
            Box::new(payloads),
        ],
    );
}

/// The number of the last event, as the second part of a commit has answered.
pub(super) fn last_seq(answers: &[Vec<Row>]) -> Result<u64, Failure> {
    match answers.last().map(Vec::as_slice) {
        Some([row]) => Ok(column::<i64>(row, 0)?.unsigned_abs()),
        _ => Err(Failure::Broken("event_head: it is not there".into())),
    }
}
