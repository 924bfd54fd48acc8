//! Filling a database that is empty.

use adjutant_core::event::Event;
use adjutant_core::name::AgentId;
use tokio_postgres::types::ToSql;

use super::super::codec::column;
use super::super::open::{self, unreachable};
use super::super::session::{Batch, Frame, Live, Session};
use super::super::statements::digest;
use super::super::{Failure, commit, forget};
use super::{connect, execute, last_seq, running};
use crate::StoreError;
use crate::encoding::{self, int};
use crate::transfer::{COUNTS, Moved, Problem, Sink, Stretch, TransferError, compare, to};

/// Tables that are empty in an empty store, and what is in them.
const CONTENT: [(&str, &str); 11] = [
    ("task", "tasks"),
    ("agent", "agents"),
    ("event", "events"),
    ("token", "tokens"),
    ("attempt", "attempts"),
    ("scope", "limits"),
    ("archive", "a ledger"),
    ("experience", "experience"),
    ("replay", "idempotency keys"),
    ("job", "jobs"),
    ("webhook", "webhooks"),
];

/// A database that is filled.
pub(crate) struct Target {
    session: Session,
}

impl Target {
    /// Begins with a database that has no store, or an empty one.
    pub(crate) fn open(url: &str) -> Result<Self, TransferError> {
        let mut session = connect(url).map_err(to)?;
        let config = session.config().clone();
        let told = |failure: Failure| to(unreachable(&config, &failure));
        execute(&session, "BEGIN").map_err(told)?;
        open::migrate(&session, &config).map_err(to)?;
        let servers = session.go_on(running).map_err(told)?;
        if servers > 0 {
            return Err(to(Problem::Running(servers)));
        }
        let content = session.go_on(content).map_err(told)?;
        if !content.is_empty() {
            return Err(to(Problem::NotEmpty(content.join(", "))));
        }
        // A server that was silent for long and comes back must not go on with what it knows of an empty store.
        execute(&session, "DELETE FROM class; UPDATE server SET lane = NULL").map_err(told)?;
        session.prepare().map_err(told)?;
        Ok(Self { session })
    }

    /// Commits, if everything is there.
    pub(crate) fn finish(self, moved: &Moved) -> Result<(), TransferError> {
        let counted = self.session.go_on(|live| async {
            let numbers = "SELECT setval(pg_get_serial_sequence('class', 'id'), max(id)) FROM class HAVING count(*) > 0";
            live.client.execute(numbers, &[]).await?;
            let row = live.client.query_one(COUNTS, &[]).await?;
            let count = |index| column::<i64>(&row, index).map(i64::unsigned_abs);
            Ok([count(0)?, count(1)?, count(2)?, count(3)?, count(4)?])
        });
        compare(moved, counted.map_err(unwritten)?)?;
        execute(&self.session, "ANALYZE").map_err(unwritten)?;
        execute(&self.session, "COMMIT").map_err(|failure| {
            if failure.leaves_doubt() {
                to(Problem::Unknown(failure.to_string()))
            } else {
                unwritten(failure)
            }
        })
    }
}

/// What there is in a database that is to be empty.
async fn content(live: &Live) -> Result<Vec<&'static str>, Failure> {
    let mut found = Vec::new();
    for (table, what) in CONTENT {
        let any = format!("SELECT EXISTS (SELECT FROM {table})");
        if column(&live.client.query_one(&any, &[]).await?, 0)? {
            found.push(what);
        }
    }
    if found.is_empty() && last_seq(live).await? > 0 {
        found.push("events");
    }
    Ok(found)
}

fn unwritten(failure: Failure) -> TransferError {
    to(StoreError::from(failure))
}

impl Sink for Target {
    fn write(&mut self, stretch: &Stretch) -> Result<(), TransferError> {
        let written = self.session.go_on(|live| async {
            let batch = commit::fill(&stretch.changes)?;
            live.send(Frame::Within, batch).await?;
            write_rest(live, stretch).await
        });
        written.map_err(unwritten)
    }
}

/// Writes what no turn writes, or writes otherwise.
async fn write_rest(live: &Live, stretch: &Stretch) -> Result<(), Failure> {
    let client = &live.client;
    if let Some(head) = &stretch.head {
        let secret = "INSERT INTO meta (name, value) VALUES ('secret', $1) \
                      ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        client.execute(secret, &[&head.secret.as_slice()]).await?;
        client
            .execute("UPDATE event_head SET seq = $1", &[&int(head.last_seq)])
            .await?;
    }
    if !stretch.classes.is_empty() {
        let ids: Vec<i64> = stretch.classes.iter().map(|class| class.id.0).collect();
        let demands: Vec<String> = stretch
            .classes
            .iter()
            .map(|class| encoding::demand(&class.demand))
            .collect();
        let put = concat!(
            "INSERT INTO class (id, digest, demand) OVERRIDING SYSTEM VALUE SELECT id, ",
            digest!("demand"),
            ", demand FROM unnest($1::bigint[], $2::text[]) AS new (id, demand)"
        );
        client.execute(put, &[&ids, &demands]).await?;
    }
    let mut batch = Batch::default();
    let pieces = stretch.outputs.iter().map(|(task, text)| (*task, text.as_str()));
    commit::outputs(pieces, &mut batch);
    if !batch.is_empty() {
        live.send(Frame::Within, batch).await?;
    }
    for line in &stretch.archive {
        forget::put_archived(client, line).await?;
    }
    write_events(live, &stretch.events).await
}

async fn write_events(live: &Live, events: &[Event]) -> Result<(), Failure> {
    let Some(latest) = events.iter().map(|event| event.at.as_micros()).max() else {
        return Ok(());
    };
    let seqs: Vec<i64> = events.iter().map(|event| int(event.seq)).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
    let tasks: Vec<Option<i64>> = events
        .iter()
        .map(|event| event.task.as_ref().map(|(key, _)| key.0))
        .collect();
    let ids: Vec<Option<&str>> = events
        .iter()
        .map(|event| event.task.as_ref().map(|(_, id)| id.as_str()))
        .collect();
    let agents: Vec<Option<&str>> = events
        .iter()
        .map(|event| event.agent.as_ref().map(AgentId::as_str))
        .collect();
    let times: Vec<i64> = events.iter().map(|event| event.at.as_micros()).collect();
    let payloads: Vec<Option<&str>> = events.iter().map(|event| event.payload.as_deref()).collect();
    // No server wrote them: their origin is none.
    let put = "INSERT INTO event (seq, kind, task, task_id, agent, at, origin, payload) \
               SELECT seq, kind, task, task_id, agent, at, 0, payload FROM unnest($1::bigint[], $2::text[], \
               $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
               AS new (seq, kind, task, task_id, agent, at, payload)";
    let values: [&(dyn ToSql + Sync); 7] = [&seqs, &kinds, &tasks, &ids, &agents, &times, &payloads];
    live.client.execute(put, &values).await?;
    live.client
        .execute("UPDATE event_head SET at = greatest(at, $1)", &[&latest])
        .await?;
    Ok(())
}
