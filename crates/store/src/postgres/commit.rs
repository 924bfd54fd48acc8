//! Committing: what a turn changed, in one transaction of two round trips.
//!
//! First everything but what others wait for. Then the rows that nearly every turn of every server writes: what was
//! used of scopes without limits, and the number of the last event. They are locked for as long as a commit takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use adjutant_core::agent::Agent;
use adjutant_core::counter::Counter;
use adjutant_core::limit::Scope;
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::set::rows::{Changes, ReplayKey};
use adjutant_core::task::{Gate, Task};
use adjutant_core::time::Timestamp;
use tokio_postgres::Row;

use super::codec::{
    agent_state, attempt_state, body, column, counter, ending, micros, note, policy, rank, task_state,
};
use super::load::read_scope;
use super::presence::{Heard, Presence, Written};
use super::session::{Batch, PATIENT};
use super::statements::Sql;
use super::{Failure, Seen};
use crate::encoding::{self, int, json};
use crate::{MAX_FORGOTTEN, MAX_OUTPUT_BYTES, payload};

/// Names, and attempts that they lead to.
type Columns = (Vec<String>, Vec<i64>, Vec<i64>);

/// The first part of a commit, and where its answers are.
pub(super) struct Writing {
    pub(super) batch: Batch,
    /// What the agents of this turn have said.
    pub(super) heard: Vec<(AgentId, Option<Heard>)>,
    /// Whether there is something to write at all.
    pub(super) is_needed: bool,
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
pub(super) fn first(
    changes: &Changes,
    presence: &Presence,
    named: &Named,
    seen: &HashMap<Scope, Seen>,
    author: Author,
) -> Writing {
    let mut batch = Batch::default();
    tasks(changes, &mut batch);
    texts(changes, &mut batch);
    attempts(changes, &mut batch);
    accounts(changes, &mut batch);
    let heard = agents(changes, presence, &mut batch);
    locks(changes, &mut batch);
    access(changes, named, &mut batch);
    let is_needed = !batch.is_empty()
        || !changes.events.is_empty()
        || !changes.counters.is_empty()
        || !changes.policies.is_empty()
        || !changes.experiences.is_empty();
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
    let places = (!open.is_empty()).then(|| batch.ask(Sql::LockScopes, vec![Box::new(open)]));
    Writing {
        batch,
        heard,
        is_needed,
        turn,
        scopes: places,
    }
}

/// The scopes that a turn writes, in order.
fn scopes(changes: &Changes) -> BTreeSet<&Scope> {
    let policies = changes.policies.iter().map(|change| &change.key);
    policies
        .chain(changes.counters.iter().map(|change| &change.key))
        .collect()
}

/// The second part: with the scopes as they are now.
pub(super) fn second(
    changes: &Changes,
    author: Author,
    writing: &Writing,
    answers: &[Vec<Row>],
    seen: &HashMap<Scope, Seen>,
) -> Result<Batch, Failure> {
    if answers[writing.turn].is_empty() {
        return Err(Failure::Replaced);
    }
    let mut stored = HashMap::new();
    for row in writing.scopes.map_or(&[][..], |place| &answers[place]) {
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
    Ok(batch)
}

/// Everything but the events, where nobody else is and nothing was before.
pub(super) fn fill(changes: &Changes) -> Result<Batch, Failure> {
    let mut batch = Batch::default();
    tasks(changes, &mut batch);
    texts(changes, &mut batch);
    attempts(changes, &mut batch);
    accounts(changes, &mut batch);
    // No server has heard of the agents.
    agents(changes, &Presence::new(0), &mut batch);
    locks(changes, &mut batch);
    access(changes, &Named::default(), &mut batch);
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

// ---- tasks -----------------------------------------------------------------------------------------------------------

#[derive(Default)]
struct TaskColumns {
    keys: Vec<i64>,
    ids: Vec<String>,
    classes: Vec<i64>,
    priorities: Vec<i16>,
    statuses: Vec<i16>,
    ready: Vec<bool>,
    gates: Vec<String>,
    wakes_at: Vec<Option<i64>>,
    claimed_by: Vec<Option<String>>,
    projects: Vec<Option<String>>,
    states: Vec<String>,
}

impl TaskColumns {
    fn push(&mut self, task: &Task) {
        self.keys.push(task.key.0);
        self.ids.push(task.id.to_string());
        self.classes.push(task.class.id.0);
        self.priorities.push(rank(task.priority));
        self.statuses.push(i16::from(task.status.code()));
        self.ready.push(task.queue().is_some());
        self.gates.push(encoding::gate(task.gate.as_ref()));
        self.wakes_at.push(micros(task.wakes_at()));
        self.claimed_by
            .push(task.claimed_by.as_ref().map(ToString::to_string));
        self.projects.push(task.project.as_ref().map(ToString::to_string));
        self.states.push(task_state(task));
    }
}

fn tasks(changes: &Changes, batch: &mut Batch) {
    let (mut new, mut moved) = (TaskColumns::default(), TaskColumns::default());
    for change in &changes.tasks {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        if change.before.is_some() {
            moved.push(now);
        } else {
            new.push(now);
        }
    }
    if !new.keys.is_empty() {
        batch.ask(
            Sql::InsertTaskIds,
            vec![Box::new(new.ids.clone()), Box::new(new.keys.clone())],
        );
        batch.ask(
            Sql::InsertTasks,
            vec![
                Box::new(new.keys),
                Box::new(new.ids),
                Box::new(new.classes),
                Box::new(new.priorities),
                Box::new(new.statuses),
                Box::new(new.ready),
                Box::new(new.gates),
                Box::new(new.wakes_at),
                Box::new(new.claimed_by),
                Box::new(new.projects),
                Box::new(new.states),
            ],
        );
    }
    if !moved.keys.is_empty() {
        batch.ask(
            Sql::UpdateTasks,
            vec![
                Box::new(moved.keys),
                Box::new(moved.classes),
                Box::new(moved.priorities),
                Box::new(moved.statuses),
                Box::new(moved.ready),
                Box::new(moved.gates),
                Box::new(moved.wakes_at),
                Box::new(moved.claimed_by),
                Box::new(moved.states),
            ],
        );
    }
    wants(changes, batch);
}

/// Parked tasks that want locks.
fn wants(changes: &Changes, batch: &mut Batch) {
    let wants = |task: &Task| matches!(task.queue().and_then(|queue| queue.gate), Some(Gate::Lock(_)));
    let mut old: (Vec<String>, Vec<i16>, Vec<i64>) = Default::default();
    let mut new: (Vec<String>, Vec<i16>, Vec<i64>) = Default::default();
    let add = |to: &mut (Vec<String>, Vec<i16>, Vec<i64>), task: &Task| {
        for lock in task.locks.iter() {
            to.0.push(lock.to_string());
            to.1.push(rank(task.priority));
            to.2.push(task.key.0);
        }
    };
    for change in &changes.tasks {
        let before = change.before.as_deref().filter(|task| wants(task));
        let now = change.now.as_deref().filter(|task| wants(task));
        if before.map(|task| task.priority) == now.map(|task| task.priority) {
            continue;
        }
        if let Some(before) = before {
            add(&mut old, before);
        }
        if let Some(now) = now {
            add(&mut new, now);
        }
    }
    if !old.0.is_empty() {
        batch.ask(
            Sql::DeleteWants,
            vec![Box::new(old.0), Box::new(old.1), Box::new(old.2)],
        );
    }
    if !new.0.is_empty() {
        batch.ask(
            Sql::InsertWants,
            vec![Box::new(new.0), Box::new(new.1), Box::new(new.2)],
        );
    }
}

fn texts(changes: &Changes, batch: &mut Batch) {
    if !changes.bodies.is_empty() {
        let keys: Vec<i64> = changes.bodies.iter().map(|(key, _)| key.0).collect();
        let docs: Vec<String> = changes.bodies.iter().map(|(_, it)| body(it)).collect();
        let payloads: Vec<Option<String>> = changes
            .bodies
            .iter()
            .map(|(_, body)| body.payload.as_deref().map(ToOwned::to_owned))
            .collect();
        batch.ask(
            Sql::InsertBodies,
            vec![Box::new(keys), Box::new(docs), Box::new(payloads)],
        );
    }
    // Of several ends of one task in a turn the last one counts.
    let endings: BTreeMap<i64, String> = changes.endings.iter().map(|it| (it.task.0, ending(it))).collect();
    if !endings.is_empty() {
        let (keys, docs): (Vec<i64>, Vec<String>) = endings.into_iter().unzip();
        batch.ask(Sql::PutEndings, vec![Box::new(keys), Box::new(docs)]);
    }
    if !changes.notes.is_empty() {
        let (keys, docs): (Vec<i64>, Vec<String>) =
            changes.notes.iter().map(|(key, it)| (key.0, note(it))).unzip();
        batch.ask(Sql::InsertNotes, vec![Box::new(keys), Box::new(docs)]);
    }
    if !changes.outputs.is_empty() {
        let keys: Vec<i64> = changes.outputs.iter().map(|(key, _)| key.0).collect();
        let sizes: Vec<i32> = changes
            .outputs
            .iter()
            .map(|(_, text)| i32::try_from(text.len()).unwrap_or(i32::MAX))
            .collect();
        let docs: Vec<String> = changes.outputs.iter().map(|(_, text)| json(&**text)).collect();
        batch.ask(
            Sql::InsertOutputs,
            vec![Box::new(keys.clone()), Box::new(sizes), Box::new(docs)],
        );
        batch.ask(
            Sql::TrimOutputs,
            vec![Box::new(keys), Box::new(int(MAX_OUTPUT_BYTES as u64))],
        );
    }
}

// ---- attempts, accounts ----------------------------------------------------------------------------------------------

fn attempts(changes: &Changes, batch: &mut Batch) {
    #[derive(Default)]
    struct Columns {
        tasks: Vec<i64>,
        numbers: Vec<i64>,
        agents: Vec<String>,
        open: Vec<bool>,
        external: Vec<bool>,
        lingers_until: Vec<Option<i64>>,
        states: Vec<String>,
    }
    let (mut new, mut moved) = (Columns::default(), Columns::default());
    for change in &changes.attempts {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        let to = if change.before.is_some() {
            &mut moved
        } else {
            &mut new
        };
        to.tasks.push(now.key.task.0);
        to.numbers.push(i64::from(now.key.number));
        to.agents.push(now.agent.to_string());
        to.open.push(now.is_live() || now.occupies);
        to.external.push(now.external);
        to.lingers_until.push(micros(now.lingers_until));
        to.states.push(attempt_state(now));
    }
    if !new.tasks.is_empty() {
        batch.ask(
            Sql::InsertAttempts,
            vec![
                Box::new(new.tasks),
                Box::new(new.numbers),
                Box::new(new.agents),
                Box::new(new.open),
                Box::new(new.external),
                Box::new(new.lingers_until),
                Box::new(new.states),
            ],
        );
    }
    if !moved.tasks.is_empty() {
        batch.ask(
            Sql::UpdateAttempts,
            vec![
                Box::new(moved.tasks),
                Box::new(moved.numbers),
                Box::new(moved.open),
                Box::new(moved.lingers_until),
                Box::new(moved.states),
            ],
        );
    }
}

/// Ledger lines that are new or changed. Lines are only ever added or raised.
fn accounts(changes: &Changes, batch: &mut Batch) {
    let (mut tasks, mut numbers, mut indexes, mut resets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut scopes, mut models): (Vec<String>, Vec<String>) = Default::default();
    let mut amounts: [Vec<i64>; 9] = Default::default();
    for change in &changes.accounts {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        let before = change.before.as_deref().map_or(&[][..], |account| &account.lines);
        for (index, line) in now.lines.iter().enumerate() {
            if before.get(index) == Some(line) {
                continue;
            }
            tasks.push(now.attempt.task.0);
            numbers.push(i64::from(now.attempt.number));
            indexes.push(i32::try_from(index).unwrap_or(i32::MAX));
            scopes.push(line.scope.to_string());
            resets.push(i64::from(line.resets));
            models.push(line.model.as_ref().map_or_else(String::new, ToString::to_string));
            let line = [
                line.hour.as_micros(),
                int(line.jobs),
                int(line.tokens.tokens_in),
                int(line.tokens.tokens_out),
                int(line.tokens.tokens_cached),
                line.cost.as_nanos(),
                int(line.refunded),
                int(line.pull_requests),
                int(line.issues),
            ];
            for (column, amount) in amounts.iter_mut().zip(line) {
                column.push(amount);
            }
        }
    }
    if tasks.is_empty() {
        return;
    }
    let [
        hours,
        jobs,
        tokens_in,
        tokens_out,
        cached,
        costs,
        refunded,
        pull_requests,
        issues,
    ] = amounts;
    batch.ask(
        Sql::PutLines,
        vec![
            Box::new(tasks),
            Box::new(numbers),
            Box::new(indexes),
            Box::new(scopes),
            Box::new(hours),
            Box::new(resets),
            Box::new(models),
            Box::new(jobs),
            Box::new(tokens_in),
            Box::new(tokens_out),
            Box::new(cached),
            Box::new(costs),
            Box::new(refunded),
            Box::new(pull_requests),
            Box::new(issues),
        ],
    );
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

// ---- agents, locks ---------------------------------------------------------------------------------------------------

fn agents(changes: &Changes, presence: &Presence, batch: &mut Batch) -> Vec<(AgentId, Option<Heard>)> {
    #[derive(Default)]
    struct Columns {
        ids: Vec<String>,
        room: Vec<bool>,
        offline: Vec<bool>,
        last_seen: Vec<i64>,
        homes: Vec<i64>,
        states: Vec<String>,
    }
    impl Columns {
        fn push(&mut self, agent: &Agent, home: i64) {
            self.ids.push(agent.id.to_string());
            self.room.push(agent.has_room() && !agent.mute);
            self.offline.push(agent.offline);
            self.last_seen.push(agent.last_seen.as_micros());
            self.homes.push(home);
            self.states.push(agent_state(agent));
        }

        fn ask(self, sql: Sql, batch: &mut Batch) {
            if self.ids.is_empty() {
                return;
            }
            batch.ask(
                sql,
                vec![
                    Box::new(self.ids),
                    Box::new(self.room),
                    Box::new(self.offline),
                    Box::new(self.last_seen),
                    Box::new(self.homes),
                    Box::new(self.states),
                ],
            );
        }
    }
    let (mut new, mut moved, mut gone) = (Columns::default(), Columns::default(), Vec::new());
    let mut heard = Vec::new();
    for change in &changes.agents {
        let before = change.before.as_deref();
        let Some(now) = change.now.as_deref() else {
            gone.push(change.key.to_string());
            heard.push((change.key.clone(), None));
            continue;
        };
        let word = Heard {
            at: now.last_seen,
            n: now.last_n,
        };
        if before.is_none_or(|before| now.last_seen > before.last_seen || now.last_n != before.last_n) {
            heard.push((change.key.clone(), Some(word)));
        }
        match presence.place(before, now) {
            Written::Not => {}
            Written::At(home) if before.is_none() => new.push(now, home),
            Written::At(home) => moved.push(now, home),
        }
    }
    new.ask(Sql::InsertAgents, batch);
    moved.ask(Sql::UpdateAgents, batch);
    if !gone.is_empty() {
        batch.ask(Sql::DeleteAgents, vec![Box::new(gone)]);
    }
    heard
}

fn locks(changes: &Changes, batch: &mut Batch) {
    let (mut new, mut moved, mut gone): (Columns, Columns, Vec<String>) = Default::default();
    for change in &changes.locks {
        let name = change.key.to_string();
        match change.now.as_deref() {
            Some(holder) => {
                let to = if change.before.is_some() {
                    &mut moved
                } else {
                    &mut new
                };
                to.0.push(name);
                to.1.push(holder.task.0);
                to.2.push(i64::from(holder.number));
            }
            None => gone.push(name),
        }
    }
    for (sql, columns) in [(Sql::InsertLocks, new), (Sql::UpdateLocks, moved)] {
        if !columns.0.is_empty() {
            batch.ask(
                sql,
                vec![Box::new(columns.0), Box::new(columns.1), Box::new(columns.2)],
            );
        }
    }
    if !gone.is_empty() {
        batch.ask(Sql::DeleteLocks, vec![Box::new(gone)]);
    }
    let (mut dependencies, mut dependents, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for change in &changes.edges {
        let Some(state) = change.now.as_deref() else {
            continue;
        };
        dependencies.push(change.key.0.0);
        dependents.push(change.key.1.0);
        states.push(i16::from(encoding::dependency(*state)));
    }
    if !dependencies.is_empty() {
        batch.ask(
            Sql::PutEdges,
            vec![Box::new(dependencies), Box::new(dependents), Box::new(states)],
        );
    }
}

// ---- access, events --------------------------------------------------------------------------------------------------

fn access(changes: &Changes, named: &Named, batch: &mut Batch) {
    if !changes.idempotency.is_empty() {
        let (mut tokens, mut keys, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        let (mut times, mut answers) = (Vec::new(), Vec::new());
        let (mut old_tokens, mut old_keys) = (Vec::new(), Vec::new());
        for (key, replay) in &changes.idempotency {
            if named.replays.contains(key) {
                old_tokens.push(key.token.to_string());
                old_keys.push(key.key.to_string());
            }
            tokens.push(key.token.to_string());
            keys.push(key.key.to_string());
            digests.push(replay.digest.to_vec());
            times.push(replay.at.as_micros());
            answers.push(json(&replay.answer));
        }
        if !old_keys.is_empty() {
            batch.ask(Sql::DeleteReplays, vec![Box::new(old_tokens), Box::new(old_keys)]);
        }
        batch.ask(
            Sql::InsertReplays,
            vec![
                Box::new(tokens),
                Box::new(keys),
                Box::new(digests),
                Box::new(times),
                Box::new(answers),
            ],
        );
    }
    let (mut new, mut moved): (Columns, Columns) = Default::default();
    for (id, key) in &changes.jobs {
        let to = if named.jobs.contains(id) {
            &mut moved
        } else {
            &mut new
        };
        to.0.push(id.to_string());
        to.1.push(key.task.0);
        to.2.push(i64::from(key.number));
    }
    for (sql, columns) in [(Sql::InsertJobs, new), (Sql::UpdateJobs, moved)] {
        if !columns.0.is_empty() {
            batch.ask(
                sql,
                vec![Box::new(columns.0), Box::new(columns.1), Box::new(columns.2)],
            );
        }
    }
    for (name, token) in &changes.tokens {
        match token {
            Some(token) => batch.ask(
                Sql::PutToken,
                vec![
                    Box::new(name.to_string()),
                    Box::new(token.digest.to_vec()),
                    Box::new(encoding::roles(&token.roles)),
                    Box::new(token.created_at.as_micros()),
                ],
            ),
            None => batch.ask(Sql::DeleteToken, vec![Box::new(name.to_string())]),
        };
    }
    if let Some(before) = changes.forget_before {
        batch.ask(
            Sql::ForgetReplays,
            vec![Box::new(before.as_micros()), Box::new(int(MAX_FORGOTTEN as u64))],
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
