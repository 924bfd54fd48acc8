//! Committing: what a turn changed, in one transaction.

use adjutant_core::agent::Agent;
use adjutant_core::attempt::Attempt;
use adjutant_core::ledger::Account;
use adjutant_core::set::rows::{Changes, NewEvent};
use adjutant_core::set::table::Change;
use adjutant_core::task::{Gate, Task, TaskKey};
use rusqlite::{Connection, Result, params};

use super::codec::{
    dependency, fanout, gate, int, json, keys, kind, limits, list, micros, paused, prices, produces, roles,
    span, state, stop, tallies, webhook,
};
use super::mark::Position;
use crate::{MAX_FORGOTTEN, MAX_OUTPUT_BYTES, encoding, payload};

/// Writes everything but the COMMIT. Gives how far the store is then.
pub(super) fn write(db: &Connection, changes: &Changes, before: Position) -> Result<Position> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    rows(db, changes)?;
    if changes.events.is_empty() {
        return quiet(db, before);
    }
    let seq = events(db, &changes.events, before.seq)?;
    Ok(Position { seq, ..before })
}

/// Writes everything but the events.
pub(super) fn rows(db: &Connection, changes: &Changes) -> Result<()> {
    for change in &changes.tasks {
        task(db, change)?;
    }
    bodies(db, changes)?;
    for change in &changes.attempts {
        attempt(db, change)?;
    }
    for change in &changes.accounts {
        account(db, change)?;
    }
    for change in &changes.agents {
        agent(db, change)?;
    }
    scopes(db, changes)?;
    for change in &changes.experiences {
        if let Some(experience) = change.now.as_deref() {
            let (labels, model) = kind(&change.key);
            db.prepare_cached(
                "INSERT OR REPLACE INTO experience (labels, model, samples) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![labels, model, json(&experience.samples)])?;
        }
    }
    for change in &changes.locks {
        match change.now.as_deref() {
            Some(holder) => db
                .prepare_cached("INSERT OR REPLACE INTO lock (name, task, number) VALUES (?1, ?2, ?3)")?
                .execute(params![change.key.as_str(), holder.task.0, holder.number])?,
            None => db
                .prepare_cached("DELETE FROM lock WHERE name = ?1")?
                .execute([change.key.as_str()])?,
        };
    }
    for change in &changes.edges {
        if let Some(edge) = change.now.as_deref() {
            db.prepare_cached(
                "INSERT OR REPLACE INTO edge (dependency, dependent, state) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![change.key.0.0, change.key.1.0, dependency(*edge)])?;
        }
    }
    webhooks(db, changes)?;
    access(db, changes)
}

/// Counts a commit without events.
pub(super) fn quiet(db: &Connection, before: Position) -> Result<Position> {
    let quiet = before.quiet + 1;
    db.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('quiet', ?1)")?
        .execute([int(quiet)])?;
    Ok(Position { quiet, ..before })
}

fn task(db: &Connection, change: &Change<TaskKey, Task>) -> Result<()> {
    let Some(now) = change.now.as_deref() else {
        return Ok(());
    };
    match change.before.as_deref() {
        None => insert_task(db, now)?,
        Some(before) => update_task(db, before, now)?,
    }
    let wanted = |task: &Task| matches!(task.queue().and_then(|queue| queue.gate), Some(Gate::Lock(_)));
    let (was, is) = (change.before.as_deref().filter(|task| wanted(task)), wanted(now));
    if let Some(before) = was
        && (!is || before.priority != now.priority)
    {
        for lock in &*before.locks {
            db.prepare_cached("DELETE FROM want WHERE lock = ?1 AND priority = ?2 AND task = ?3")?
                .execute(params![lock.as_str(), before.priority.rank(), before.key.0])?;
        }
    }
    if is && was.is_none_or(|before| before.priority != now.priority) {
        for lock in &*now.locks {
            db.prepare_cached("INSERT OR REPLACE INTO want (lock, priority, task) VALUES (?1, ?2, ?3)")?
                .execute(params![lock.as_str(), now.priority.rank(), now.key.0])?;
        }
    }
    Ok(())
}

fn insert_task(db: &Connection, task: &Task) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO task (key, id, class, priority, status, held, gate, delayed_until, wakes_at, claimed_by, \
         project, repo, produces, locks, estimated_tokens, timeout, not_before, max_retries, retry_count, attempt, \
         dependencies, unmet, failed_dependencies, dependents, claimed_at, lease_expires_at, deadline, \
         last_attempt, failed_on, progress, notes, has_result, refusal_told, used, ready_since, updated_at, fanout) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, \
         ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)",
    )?
    .execute(params![
        task.key.0,
        task.id.as_str(),
        task.class.id.0,
        task.priority.rank(),
        task.status.code(),
        task.held,
        gate(task.gate.as_ref()),
        micros(task.delayed_until),
        micros(task.wakes_at()),
        task.claimed_by.as_ref().map(adjutant_core::name::AgentId::as_str),
        task.project.as_ref().map(adjutant_core::name::ProjectName::as_str),
        task.repo.as_ref().map(adjutant_core::name::RepoName::as_str),
        produces(task.produces),
        list(&task.locks),
        int(task.estimated_tokens),
        span(task.timeout),
        micros(task.not_before),
        task.max_retries,
        task.retry_count,
        task.attempt,
        task.dependencies,
        task.unmet,
        task.failed_dependencies,
        task.dependents,
        micros(task.claimed_at),
        micros(task.lease_expires_at),
        micros(task.deadline),
        micros(task.last_attempt),
        list(&task.failed_on),
        task.progress,
        task.notes,
        task.has_result,
        task.refusal_told,
        list(&task.usage),
        task.ready_since.as_micros(),
        task.updated_at.as_micros(),
        fanout(task.fanout),
    ])?;
    Ok(())
}

/// The columns of a task that no index stands on.
macro_rules! quiet_columns {
    () => {
        "held = ?2, estimated_tokens = ?3, not_before = ?4, max_retries = ?5, retry_count = ?6, attempt = ?7, \
         unmet = ?8, failed_dependencies = ?9, dependents = ?10, claimed_at = ?11, lease_expires_at = ?12, \
         deadline = ?13, last_attempt = ?14, failed_on = ?15, progress = ?16, notes = ?17, has_result = ?18, \
         refusal_told = ?19, used = ?20, ready_since = ?21, updated_at = ?22, fanout = ?23"
    };
}

/// Updates what may change. Columns that indexes stand on are written only when they did: each costs an index entry.
fn update_task(db: &Connection, before: &Task, now: &Task) -> Result<()> {
    const QUIET: &str = concat!("UPDATE task SET ", quiet_columns!(), " WHERE key = ?1");
    const MOVED: &str = concat!(
        "UPDATE task SET ",
        quiet_columns!(),
        ", status = ?24, gate = ?25, delayed_until = ?26, wakes_at = ?27, claimed_by = ?28 WHERE key = ?1"
    );
    if before.class.id != now.class.id || before.priority != now.priority {
        let (class, priority) = (now.class.id.0, now.priority.rank());
        db.prepare_cached("UPDATE task SET class = ?2, priority = ?3 WHERE key = ?1")?
            .execute(params![now.key.0, class, priority])?;
    }
    let moved = before.status != now.status
        || before.gate != now.gate
        || before.delayed_until != now.delayed_until
        || before.wakes_at() != now.wakes_at()
        || before.claimed_by != now.claimed_by;
    let quiet = params![
        now.key.0,
        now.held,
        int(now.estimated_tokens),
        micros(now.not_before),
        now.max_retries,
        now.retry_count,
        now.attempt,
        now.unmet,
        now.failed_dependencies,
        now.dependents,
        micros(now.claimed_at),
        micros(now.lease_expires_at),
        micros(now.deadline),
        micros(now.last_attempt),
        list(&now.failed_on),
        now.progress,
        now.notes,
        now.has_result,
        now.refusal_told,
        list(&now.usage),
        now.ready_since.as_micros(),
        now.updated_at.as_micros(),
        fanout(now.fanout),
    ];
    if !moved {
        db.prepare_cached(QUIET)?.execute(quiet)?;
        return Ok(());
    }
    let indexed = params![
        now.status.code(),
        gate(now.gate.as_ref()),
        micros(now.delayed_until),
        micros(now.wakes_at()),
        now.claimed_by.as_ref().map(adjutant_core::name::AgentId::as_str),
    ];
    db.prepare_cached(MOVED)?
        .execute([quiet, indexed].concat().as_slice())?;
    Ok(())
}

fn bodies(db: &Connection, changes: &Changes) -> Result<()> {
    for (key, body) in &changes.bodies {
        db.prepare_cached(
            "INSERT INTO body (task, title, description, payload, files, dependencies) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            key.0,
            body.title,
            body.description,
            body.payload.as_deref(),
            list(&body.files),
            list(&body.dependencies),
        ])?;
    }
    for ending in &changes.endings {
        db.prepare_cached(
            "INSERT INTO ending (task, result, fail_reason) VALUES (?1, ?2, ?3) \
             ON CONFLICT (task) DO UPDATE SET result = excluded.result, fail_reason = excluded.fail_reason",
        )?
        .execute(params![
            ending.task.0,
            ending.result.as_ref().map(json),
            ending.fail_reason
        ])?;
    }
    for (key, note) in &changes.notes {
        db.prepare_cached(
            "INSERT INTO note (task, number, at, author, text) \
             VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM note WHERE task = ?1), ?2, ?3, ?4)",
        )?
        .execute(params![key.0, note.at.as_micros(), &*note.author, note.text])?;
    }
    for (key, text) in &changes.outputs {
        db.prepare_cached("INSERT INTO output (task, text) VALUES (?1, ?2)")?
            .execute(params![key.0, &**text])?;
        // The newest pieces that make up the bound stay; older ones go.
        db.prepare_cached(
            "DELETE FROM output WHERE task = ?1 AND id <= (SELECT id FROM (SELECT id, sum(length(CAST(text AS BLOB))) \
             OVER (ORDER BY id DESC) AS kept FROM output WHERE task = ?1) WHERE kept - ?2 >= 0 \
             ORDER BY id DESC LIMIT 1 OFFSET 1)",
        )?
        .execute(params![key.0, int(MAX_OUTPUT_BYTES as u64)])?;
    }
    Ok(())
}

fn attempt(db: &Connection, change: &Change<adjutant_core::attempt::AttemptKey, Attempt>) -> Result<()> {
    let Some(now) = change.now.as_deref() else {
        return Ok(());
    };
    let key = now.key;
    if change.before.is_some() {
        db.prepare_cached(
            "UPDATE attempt SET state = ?3, occupies = ?4, ended_at = ?5, hold_tokens = ?6, hold_cost = ?7, \
             used = ?8, stop = ?9, lingers_until = ?10, registered = ?11 WHERE task = ?1 AND number = ?2",
        )?
        .execute(params![
            key.task.0,
            key.number,
            state(now.state),
            now.occupies,
            micros(now.ended_at),
            int(now.hold.tokens),
            now.hold.cost.as_nanos(),
            list(&now.usage),
            stop(now.stop),
            micros(now.lingers_until),
            now.registered,
        ])?;
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO attempt (task, number, task_id, external, agent, registered, state, occupies, model, project, \
         repo, produces, locks, started_at, ended_at, timeout, hold_tokens, hold_cost, used, stop, lingers_until) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
    )?
    .execute(params![
        key.task.0,
        key.number,
        now.task_id.as_str(),
        now.external,
        now.agent.as_str(),
        now.registered,
        state(now.state),
        now.occupies,
        now.model.as_ref().map(adjutant_core::name::ModelName::as_str),
        now.project.as_ref().map(adjutant_core::name::ProjectName::as_str),
        now.repo.as_ref().map(adjutant_core::name::RepoName::as_str),
        produces(now.produces),
        list(&now.locks),
        now.started_at.as_micros(),
        micros(now.ended_at),
        span(now.timeout),
        int(now.hold.tokens),
        now.hold.cost.as_nanos(),
        list(&now.usage),
        stop(now.stop),
        micros(now.lingers_until),
    ])?;
    Ok(())
}

/// Writes the ledger lines that are new or changed. Lines are only ever added or raised.
fn account(db: &Connection, change: &Change<adjutant_core::attempt::AttemptKey, Account>) -> Result<()> {
    let Some(now) = change.now.as_deref() else {
        return Ok(());
    };
    let before = change.before.as_deref().map_or(&[][..], |account| &account.lines);
    for (index, line) in now.lines.iter().enumerate() {
        if before.get(index) == Some(line) {
            continue;
        }
        let [
            jobs,
            tokens_in,
            tokens_out,
            tokens_cached,
            cost,
            refunded,
            pull_requests,
            issues,
        ] = encoding::amounts(line);
        db.prepare_cached(
            "INSERT OR REPLACE INTO line (task, number, scope, hour, resets, model, jobs, tokens_in, tokens_out, \
             tokens_cached, cost, refunded, pull_requests, issues) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            now.attempt.task.0,
            now.attempt.number,
            line.scope.to_string(),
            line.hour.as_micros(),
            line.resets,
            line.model.as_ref().map_or("", |name| name.as_str()),
            jobs,
            tokens_in,
            tokens_out,
            tokens_cached,
            cost,
            refunded,
            pull_requests,
            issues,
        ])?;
    }
    Ok(())
}

fn agent(db: &Connection, change: &Change<adjutant_core::name::AgentId, Agent>) -> Result<()> {
    let Some(now) = change.now.as_deref() else {
        db.prepare_cached("DELETE FROM agent WHERE id = ?1")?
            .execute([change.key.as_str()])?;
        return Ok(());
    };
    db.prepare_cached(
        "INSERT OR REPLACE INTO agent (id, name, capabilities, models, max_load, metadata, registered_at, session, \
         offline, draining, paused_until, paused_models, quarantined_until, quarantines, fast_failures, last_seen, \
         former_sessions, peer) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?
    .execute(params![
        now.id.as_str(),
        now.name,
        json(&*now.capabilities),
        json(&*now.models),
        now.max_load,
        now.metadata.as_deref(),
        now.registered_at.as_micros(),
        now.session.as_deref(),
        now.offline,
        now.draining,
        micros(now.paused_until),
        paused(&now.paused_models),
        micros(now.quarantined_until),
        now.quarantines,
        keys(&now.fast_failures),
        now.last_seen.as_micros(),
        json(&*now.former_sessions),
        now.peer.as_deref().map(json),
    ])?;
    Ok(())
}

fn scopes(db: &Connection, changes: &Changes) -> Result<()> {
    for change in &changes.policies {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        db.prepare_cached(
            "INSERT OR REPLACE INTO policy (scope, limits, model_allowlist, max_duration, prices, cooldown) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            change.key.to_string(),
            limits(&now.limits),
            json(&now.model_allowlist),
            span(now.max_job_duration),
            prices(now.prices),
            now.cooldown_after_failure.as_micros(),
        ])?;
    }
    for change in &changes.counters {
        let Some(now) = change.now.as_deref() else {
            continue;
        };
        db.prepare_cached(
            "INSERT INTO counter (scope, resets, tallies, held_tokens, held_cost, held_pull_requests, held_issues, \
             active, cooldown_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (scope) DO UPDATE SET resets = excluded.resets, tallies = excluded.tallies, \
             held_tokens = excluded.held_tokens, held_cost = excluded.held_cost, \
             held_pull_requests = excluded.held_pull_requests, held_issues = excluded.held_issues, \
             active = excluded.active, cooldown_until = excluded.cooldown_until",
        )?
        .execute(params![
            now.scope.to_string(),
            now.resets,
            tallies(now),
            int(now.held_tokens),
            now.held_cost.as_nanos(),
            now.held_pull_requests,
            now.held_issues,
            now.active,
            now.cooldown_until.as_micros(),
        ])?;
    }
    Ok(())
}

fn webhooks(db: &Connection, changes: &Changes) -> Result<()> {
    // First what goes: what is put is of those that stay.
    for change in &changes.webhooks {
        if crate::is_another(change) {
            db.prepare_cached("DELETE FROM delivery WHERE webhook = ?1")?
                .execute([&*change.key])?;
        }
        match change.now.as_deref() {
            Some(now) => db
                .prepare_cached("INSERT OR REPLACE INTO webhook (name, document) VALUES (?1, ?2)")?
                .execute(params![&*change.key, webhook(now)])?,
            None => db
                .prepare_cached("DELETE FROM webhook WHERE name = ?1")?
                .execute([&*change.key])?,
        };
    }
    for change in &changes.deliveries {
        let (webhook, seq) = (&*change.key.webhook, int(change.key.seq));
        match change.now.as_deref() {
            Some(now) => db
                .prepare_cached(
                    "INSERT OR REPLACE INTO delivery (webhook, seq, attempts, due_at, error) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    webhook,
                    seq,
                    now.attempts,
                    micros(now.due_at),
                    &*now.error
                ])?,
            None => db
                .prepare_cached("DELETE FROM delivery WHERE webhook = ?1 AND seq = ?2")?
                .execute(params![webhook, seq])?,
        };
    }
    Ok(())
}

fn access(db: &Connection, changes: &Changes) -> Result<()> {
    for (key, replay) in &changes.idempotency {
        db.prepare_cached(
            "INSERT OR REPLACE INTO replay (token, key, digest, at, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            &*key.token,
            &*key.key,
            replay.digest.as_slice(),
            replay.at.as_micros(),
            json(&replay.answer)
        ])?;
    }
    for (id, key) in &changes.jobs {
        db.prepare_cached("INSERT OR REPLACE INTO job (id, task, number) VALUES (?1, ?2, ?3)")?
            .execute(params![id.as_str(), key.task.0, key.number])?;
    }
    for (name, token) in &changes.tokens {
        match token {
            Some(token) => db
                .prepare_cached(
                    "INSERT OR REPLACE INTO token (name, digest, roles, created_at) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    &**name,
                    token.digest.as_slice(),
                    roles(&token.roles),
                    token.created_at.as_micros()
                ])?,
            None => db
                .prepare_cached("DELETE FROM token WHERE name = ?1")?
                .execute([&**name])?,
        };
    }
    if let Some(before) = changes.forget_before {
        db.prepare_cached(
            "DELETE FROM replay WHERE (token, key) IN (SELECT token, key FROM replay WHERE at < ?1 LIMIT ?2)",
        )?
        .execute(params![before.as_micros(), int(MAX_FORGOTTEN as u64)])?;
    }
    Ok(())
}

/// Numbers and writes what happened.
fn events(db: &Connection, events: &[NewEvent], last_seq: u64) -> Result<u64> {
    let mut seq = last_seq;
    for event in events {
        seq += 1;
        db.prepare_cached(
            "INSERT INTO event (seq, kind, task, task_id, agent, at, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            int(seq),
            event.kind.name(),
            event.task.as_ref().map(|(key, _)| key.0),
            event.task.as_ref().map(|(_, id)| id.as_str()),
            event.agent.as_ref().map(adjutant_core::name::AgentId::as_str),
            event.at.as_micros(),
            payload::to_json(event),
        ])?;
    }
    Ok(seq)
}
