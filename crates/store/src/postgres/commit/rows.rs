//! The rows of a turn as columns: one statement for all rows of a kind.

use std::collections::{BTreeMap, HashSet};

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptState};
use adjutant_core::name::AgentId;
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{Gate, Task, TaskKey};
use tokio_postgres::types::ToSql;

use super::super::codec::{agent_state, attempt_state, body, ending, micros, note, rank, task_state};
use super::super::presence::{Heard, Presence, Written};
use super::super::session::Batch;
use super::super::statements::Sql;
use super::Named;
use crate::encoding::{self, int, json};
use crate::{MAX_FORGOTTEN, MAX_OUTPUT_BYTES};

/// Names, and attempts that they lead to.
type Columns = (Vec<String>, Vec<i64>, Vec<i64>);

/// Adds the statements for everything that belongs to no scope. Gives what the agents have said.
pub(super) fn ask(
    changes: &Changes,
    presence: &Presence,
    named: &Named,
    batch: &mut Batch,
) -> Vec<(AgentId, Option<Heard>)> {
    tasks(changes, batch);
    wants(changes, batch);
    texts(changes, batch);
    attempts(changes, batch);
    accounts(changes, batch);
    let heard = agents(changes, presence, batch);
    locks(changes, batch);
    webhooks(changes, batch);
    access(changes, named, batch);
    heard
}

/// Adds a statement over three columns, unless they are empty.
fn ask_three<A, B, C>(sql: Sql, (a, b, c): (Vec<A>, Vec<B>, Vec<C>), batch: &mut Batch)
where
    Vec<A>: ToSql + Sync + 'static,
    Vec<B>: ToSql + Sync + 'static,
    Vec<C>: ToSql + Sync + 'static,
{
    if !a.is_empty() {
        batch.ask(sql, vec![Box::new(a), Box::new(b), Box::new(c)]);
    }
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
    if !new.keys.is_empty() || !changes.bodies.is_empty() {
        let keys: Vec<i64> = changes.bodies.iter().map(|(key, _)| key.0).collect();
        let docs: Vec<String> = changes.bodies.iter().map(|(_, it)| body(it)).collect();
        let payloads: Vec<Option<String>> = changes
            .bodies
            .iter()
            .map(|(_, body)| body.payload.as_deref().map(ToOwned::to_owned))
            .collect();
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
                Box::new(keys),
                Box::new(docs),
                Box::new(payloads),
            ],
        );
    }
    // Of several ends of one task in a turn the last one counts.
    let endings: BTreeMap<i64, String> = changes.endings.iter().map(|it| (it.task.0, ending(it))).collect();
    if !moved.keys.is_empty() || !endings.is_empty() {
        let (ended, docs): (Vec<i64>, Vec<String>) = endings.into_iter().unzip();
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
                Box::new(ended),
                Box::new(docs),
            ],
        );
    }
}

/// Parked tasks that want locks.
fn wants(changes: &Changes, batch: &mut Batch) {
    type Wants = (Vec<String>, Vec<i16>, Vec<i64>);
    let wants = |task: &Task| matches!(task.queue().and_then(|queue| queue.gate), Some(Gate::Lock(_)));
    let (mut old, mut new): (Wants, Wants) = Default::default();
    let add = |to: &mut Wants, task: &Task| {
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
    ask_three(Sql::DeleteWants, old, batch);
    ask_three(Sql::InsertWants, new, batch);
}

fn texts(changes: &Changes, batch: &mut Batch) {
    if !changes.notes.is_empty() {
        let (keys, docs): (Vec<i64>, Vec<String>) =
            changes.notes.iter().map(|(key, it)| (key.0, note(it))).unzip();
        batch.ask(Sql::InsertNotes, vec![Box::new(keys), Box::new(docs)]);
    }
    let pieces = changes.outputs.iter().map(|(task, text)| (*task, &**text));
    let keys = outputs(pieces, batch);
    if !keys.is_empty() {
        batch.ask(
            Sql::TrimOutputs,
            vec![Box::new(keys), Box::new(int(MAX_OUTPUT_BYTES as u64))],
        );
    }
}

/// Pieces of live output; gives the tasks that they are of.
pub(in super::super) fn outputs<'a>(
    pieces: impl Iterator<Item = (TaskKey, &'a str)>,
    batch: &mut Batch,
) -> Vec<i64> {
    let (mut keys, mut sizes, mut docs) = (Vec::new(), Vec::new(), Vec::new());
    for (task, text) in pieces {
        keys.push(task.0);
        sizes.push(i32::try_from(text.len()).unwrap_or(i32::MAX));
        docs.push(json(text));
    }
    ask_three(Sql::InsertOutputs, (keys.clone(), sizes, docs), batch);
    keys
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
        lapses_at: Vec<Option<i64>>,
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
        let is_open = now.is_live() || now.occupies;
        to.open.push(is_open);
        to.external.push(now.external);
        to.lingers_until.push(micros(now.lingers_until));
        to.lapses_at.push(micros(now.lingers_until.filter(|_| is_open)));
        to.states.push(attempt_state(now));
    }
    if !new.tasks.is_empty() || !moved.tasks.is_empty() {
        batch.ask(
            Sql::PutAttempts,
            vec![
                Box::new(new.tasks),
                Box::new(new.numbers),
                Box::new(new.agents),
                Box::new(new.open),
                Box::new(new.external),
                Box::new(new.lingers_until),
                Box::new(new.lapses_at),
                Box::new(new.states),
                Box::new(moved.tasks),
                Box::new(moved.numbers),
                Box::new(moved.open),
                Box::new(moved.lingers_until),
                Box::new(moved.lapses_at),
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
            let line = [line.hour.as_micros()].into_iter().chain(encoding::amounts(line));
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
        fn push(&mut self, agent: &Agent, home: i64, last: Heard) {
            self.ids.push(agent.id.to_string());
            self.room.push(agent.has_room() && !agent.mute);
            self.offline.push(agent.offline);
            self.last_seen.push(last.at.as_micros());
            self.homes.push(home);
            self.states.push(agent_state(agent, last.n));
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
    let is_taken = |attempt: &Attempt| attempt.state == AttemptState::Taken;
    let took: HashSet<&AgentId> = changes
        .attempts
        .iter()
        .filter(|change| !change.before.as_deref().is_some_and(is_taken))
        .filter_map(|change| change.now.as_deref().filter(|now| is_taken(now)))
        .map(|attempt| &attempt.agent)
        .collect();
    for change in &changes.agents {
        let before = change.before.as_deref();
        let Some(now) = change.now.as_deref() else {
            gone.push(change.key.to_string());
            heard.push((change.key.clone(), None));
            continue;
        };
        if before.is_none_or(|before| Presence::spoke(before, now)) {
            heard.push((change.key.clone(), Some(Heard::last_of(now))));
        }
        match presence.place(before, now, took.contains(&now.id)) {
            Written::Not => {}
            Written::At(home, last) if before.is_none() => new.push(now, home, last),
            Written::At(home, last) => moved.push(now, home, last),
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
    ask_three(Sql::InsertLocks, new, batch);
    ask_three(Sql::UpdateLocks, moved, batch);
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

// ---- webhooks --------------------------------------------------------------------------------------------------------

fn webhooks(changes: &Changes, batch: &mut Batch) {
    // First what goes: what is put is of those that stay.
    for change in &changes.webhooks {
        let name = change.key.to_string();
        if crate::is_another(change) {
            batch.ask(Sql::DeleteDeliveriesOf, vec![Box::new(name.clone())]);
        }
        match (&change.before, &change.now) {
            // Of two servers that add one, the second is turned back by the index, and decides again.
            (None, Some(now)) => batch.ask(
                Sql::InsertWebhook,
                vec![Box::new(name), Box::new(encoding::webhook(now))],
            ),
            (Some(_), Some(now)) => batch.ask(
                Sql::UpdateWebhook,
                vec![Box::new(name), Box::new(encoding::webhook(now))],
            ),
            (_, None) => batch.ask(Sql::DeleteWebhook, vec![Box::new(name)]),
        };
    }
    deliveries(changes, batch);
}

fn deliveries(changes: &Changes, batch: &mut Batch) {
    let (mut names, mut seqs, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    let (mut old_names, mut old_seqs) = (Vec::new(), Vec::new());
    for change in &changes.deliveries {
        let (name, seq) = (change.key.webhook.to_string(), int(change.key.seq));
        let Some(now) = change.now.as_deref() else {
            old_names.push(name);
            old_seqs.push(seq);
            continue;
        };
        names.push(name);
        seqs.push(seq);
        attempts.push(i64::from(now.attempts));
        times.push(micros(now.due_at));
        errors.push(now.error.to_string());
    }
    if !names.is_empty() {
        batch.ask(
            Sql::PutDeliveries,
            vec![
                Box::new(names),
                Box::new(seqs),
                Box::new(attempts),
                Box::new(times),
                Box::new(errors),
            ],
        );
    }
    if !old_names.is_empty() {
        batch.ask(
            Sql::DeleteDeliveries,
            vec![Box::new(old_names), Box::new(old_seqs)],
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
    ask_three(Sql::InsertJobs, new, batch);
    ask_three(Sql::UpdateJobs, moved, batch);
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
