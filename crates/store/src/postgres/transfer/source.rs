//! Reading a database that is left.

use std::pin::pin;

use adjutant_core::event::Event;
use adjutant_core::experience::Experience;
use adjutant_core::ledger::Line;
use adjutant_core::money::Money;
use adjutant_core::name::LockName;
use adjutant_core::set::rows::{Ending, ReplayKey};
use adjutant_core::task::TaskKey;
use adjutant_core::time::{Span, Timestamp};
use futures_util::TryStreamExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::Failure;
use super::super::codec::{
    Classes, agent_columns, attempt_columns, class_of, column, delivery_columns, digest, line_columns,
    read_agent, read_attempt, read_attempt_key, read_body, read_delivery, read_ending, read_event, read_line,
    read_note, read_output, read_replay, read_task, read_token, read_webhook, scope, task_columns,
};
use super::super::load::read_scope;
use super::super::open::{self, ENTRANCE, unreachable};
use super::super::presence::Presence;
use super::super::session::{Live, Session};
use super::{connect, execute, last_seq, running};
use crate::StoreError;
use crate::encoding;
use crate::transfer::{Accounts, Courier, Head, Problem, TransferError, from, new};

/// A database that is read.
pub(crate) struct Source {
    session: Session,
    last_seq: u64,
}

/// Why a source is not read on.
enum Stopped {
    /// It cannot be.
    Unread(Failure),
    /// The target does not take it.
    Told(TransferError),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Unread(failure)
    }
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Unread(error.into())
    }
}

impl From<TransferError> for Stopped {
    fn from(error: TransferError) -> Self {
        Self::Told(error)
    }
}

impl Source {
    /// Opens a database that no server works on.
    pub(crate) fn open(url: &str) -> Result<Self, TransferError> {
        let session = connect(url).map_err(from)?;
        let config = session.config().clone();
        let told = |failure: Failure| from(unreachable(&config, &failure));
        // Of the session, not of the transaction, which would see what was there before it had the lock.
        let entered = session.go_on(|live| async {
            Ok(live
                .client
                .execute("SELECT pg_advisory_lock($1)", &[&ENTRANCE])
                .await?)
        });
        entered.map_err(told)?;
        let (found, known) = (
            open::identify(&session, &config).map_err(from)?,
            open::MIGRATIONS.len(),
        );
        if found == 0 {
            return Err(from(Problem::Missing(config.place())));
        }
        if found < known {
            return Err(from(Problem::Older { found, known }));
        }
        let servers = session.go_on(running).map_err(told)?;
        if servers > 0 {
            return Err(from(Problem::Running(servers)));
        }
        execute(&session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map_err(told)?;
        let last_seq = session.go_on(last_seq).map_err(told)?;
        Ok(Self { session, last_seq })
    }

    /// Gives everything.
    pub(crate) fn give(&self, courier: &mut Courier<'_>) -> Result<(), TransferError> {
        let given = self.session.go_on(|live| async move {
            let reading = Reading {
                live,
                last_seq: self.last_seq,
            };
            match reading.everything(courier).await {
                Ok(()) => Ok(Ok(())),
                Err(Stopped::Told(error)) => Ok(Err(error)),
                Err(Stopped::Unread(failure)) => Err(failure),
            }
        });
        given.map_err(|failure| from(StoreError::from(failure)))?
    }

    /// Makes sure that what was given is what is there.
    pub(crate) fn finish(self) -> Result<(), TransferError> {
        let there = execute(&self.session, "COMMIT").and_then(|()| {
            self.session
                .go_on(|live| async { Ok((running(live).await?, last_seq(live).await?)) })
        });
        let (servers, last_seq) = there.map_err(|failure| from(StoreError::from(failure)))?;
        if servers > 0 || last_seq != self.last_seq {
            return Err(from(Problem::Disturbed));
        }
        Ok(())
    }
}

/// A source that is being read.
struct Reading<'a> {
    live: &'a Live,
    last_seq: u64,
}

impl Reading<'_> {
    async fn everything(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        let classes = self.head(courier).await?;
        self.tasks(courier, &classes).await?;
        self.texts(courier).await?;
        self.attempts(courier).await?;
        self.scopes(courier).await?;
        self.names(courier).await?;
        self.history(courier).await
    }

    /// Gives every row of a query to `take`, as they come.
    async fn each(
        &self,
        sql: &str,
        mut take: impl FnMut(&Row) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let nothing: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = pin!(self.live.client.query_raw(sql, nothing).await?);
        while let Some(row) = rows.try_next().await? {
            take(&row)?;
        }
        Ok(())
    }

    async fn head(&self, courier: &mut Courier<'_>) -> Result<Classes, Stopped> {
        let client = &self.live.client;
        let secret = client
            .query_one("SELECT value FROM meta WHERE name = 'secret'", &[])
            .await?;
        let first: Option<i64> = column(&client.query_one("SELECT min(seq) FROM event", &[]).await?, 0)?;
        let head = Head {
            secret: digest(secret.try_get(0)?)?,
            first_seq: first.map_or(self.last_seq + 1, i64::unsigned_abs),
            last_seq: self.last_seq,
        };
        courier.take(0, |stretch| stretch.head = Some(head))?;
        let mut classes = Classes::default();
        self.each("SELECT id, demand FROM class ORDER BY id", |row| {
            let class = classes.add(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.classes.push(class))?)
        })
        .await?;
        Ok(classes)
    }

    async fn tasks(&self, courier: &mut Courier<'_>, classes: &Classes) -> Result<(), Stopped> {
        let tasks = concat!("SELECT ", task_columns!(), " FROM task ORDER BY key");
        self.each(tasks, |row| {
            let id = class_of(row)?;
            let class = classes
                .find(id)
                .ok_or_else(|| Failure::Broken(format!("task.class: there is no class {}", id.0)))?;
            let task = read_task(row, class)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.tasks.push(new(task.key, task));
            })?)
        })
        .await?;
        let edges = "SELECT dependency, dependent, state FROM edge ORDER BY dependency, dependent";
        self.each(edges, |row| {
            let key = (TaskKey(column(row, 0)?), TaskKey(column(row, 1)?));
            let state = u8::try_from(column::<i16>(row, 2)?).unwrap_or(u8::MAX);
            let state = encoding::read_dependency(state).map_err(Failure::Broken)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.edges.push(new(key, state));
            })?)
        })
        .await
    }

    async fn texts(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        self.each("SELECT task, doc, payload FROM body ORDER BY task", |row| {
            let body = (TaskKey(column(row, 0)?), read_body(row, 1)?);
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.changes.bodies.push(body))?)
        })
        .await?;
        self.each("SELECT task, doc FROM ending ORDER BY task", |row| {
            let (result, fail_reason) = read_ending(row.try_get(1)?)?;
            let ending = Ending {
                task: TaskKey(column(row, 0)?),
                result,
                fail_reason,
            };
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.endings.push(ending);
            })?)
        })
        .await?;
        self.each("SELECT task, doc FROM note ORDER BY task, number", |row| {
            let note = (TaskKey(column(row, 0)?), read_note(row.try_get(1)?)?);
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.changes.notes.push(note))?)
        })
        .await?;
        self.each("SELECT task, doc FROM output ORDER BY id", |row| {
            let output = (TaskKey(column(row, 0)?), read_output(row.try_get(1)?)?);
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.outputs.push(output))?)
        })
        .await
    }

    async fn attempts(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        let attempts = concat!(
            "SELECT ",
            attempt_columns!(),
            " FROM attempt ORDER BY task, number"
        );
        self.each(attempts, |row| {
            let attempt = read_attempt(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.attempts.push(new(attempt.key, attempt));
            })?)
        })
        .await?;
        let mut accounts = Accounts::default();
        let lines = concat!(
            "SELECT ",
            line_columns!(),
            " FROM line ORDER BY task, number, index"
        );
        self.each(lines, |row| {
            let (attempt, line) = read_line(row)?;
            Ok(accounts.take(courier, attempt, line)?)
        })
        .await?;
        accounts.end(courier)?;
        // What the homes of agents have vouched for is written with the agents: elsewhere nobody knows these servers.
        let mut presence = Presence::new(0);
        self.each(
            concat!("SELECT ", agent_columns!(), " FROM agent ORDER BY id"),
            |row| {
                let (agent, home, vouched_at) = read_agent(row)?;
                // All of them have ended: nobody counts on what they might still vouch for.
                let now = vouched_at.map_or(agent.last_seen, |at| at + Span::from_micros(1));
                let agent = presence.meet(agent, home, vouched_at, now);
                Ok(courier.take(row.raw_size_bytes(), |stretch| {
                    stretch.changes.agents.push(new(agent.id.clone(), agent));
                })?)
            },
        )
        .await
    }

    async fn scopes(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        self.each(
            "SELECT name, version, policy, counter FROM scope ORDER BY name",
            |row| {
                let (scope, stored) = read_scope(row)?;
                Ok(courier.take(row.raw_size_bytes(), |stretch| {
                    let changes = &mut stretch.changes;
                    changes
                        .policies
                        .extend(stored.policy.map(|policy| new(scope.clone(), policy)));
                    changes
                        .counters
                        .extend(stored.counter.map(|counter| new(scope, counter)));
                })?)
            },
        )
        .await?;
        self.each(
            "SELECT labels, model, samples FROM experience ORDER BY labels, model",
            |row| {
                let broken = |why| Failure::Broken(format!("experience: {why}"));
                let kind = encoding::read_kind(row.try_get(0)?, row.try_get(1)?).map_err(broken)?;
                let samples = encoding::read_json(row.try_get(2)?).map_err(broken)?;
                Ok(courier.take(row.raw_size_bytes(), |stretch| {
                    stretch
                        .changes
                        .experiences
                        .push(new(kind, Experience { samples }));
                })?)
            },
        )
        .await?;
        let archive = "SELECT scope, resets, hour, jobs, tokens_in, tokens_out, tokens_cached, cost, refunded, \
                       pull_requests, issues FROM archive ORDER BY scope, resets";
        self.each(archive, |row| {
            let line = read_archived(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.archive.push(line))?)
        })
        .await
    }

    async fn names(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        self.each("SELECT name, task, number FROM lock ORDER BY name", |row| {
            let (name, holder) = (
                LockName::from(row.try_get::<_, &str>(0)?),
                read_attempt_key(row, 1)?,
            );
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.locks.push(new(name, holder));
            })?)
        })
        .await?;
        self.each("SELECT id, task, number FROM job ORDER BY id", |row| {
            let job = (row.try_get::<_, &str>(0)?.into(), read_attempt_key(row, 1)?);
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.changes.jobs.push(job))?)
        })
        .await?;
        self.each(
            "SELECT token, key, digest, at, answer FROM replay ORDER BY token, key",
            |row| {
                let key = ReplayKey {
                    token: row.try_get::<_, &str>(0)?.into(),
                    key: row.try_get::<_, &str>(1)?.into(),
                };
                let replay = read_replay(row, 2)?;
                Ok(courier.take(row.raw_size_bytes(), |stretch| {
                    stretch.changes.idempotency.push((key, replay));
                })?)
            },
        )
        .await?;
        self.each(
            "SELECT name, digest, roles, created_at FROM token ORDER BY name",
            |row| {
                let token = read_token(row)?;
                Ok(courier.take(row.raw_size_bytes(), |stretch| {
                    stretch.changes.tokens.push((token.name.clone(), Some(token)));
                })?)
            },
        )
        .await?;
        self.each("SELECT name, document FROM webhook ORDER BY name", |row| {
            let webhook = read_webhook(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.webhooks.push(new(webhook.name.clone(), webhook));
            })?)
        })
        .await?;
        let deliveries = concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM delivery ORDER BY webhook, seq"
        );
        self.each(deliveries, |row| {
            let (key, delivery) = read_delivery(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| {
                stretch.changes.deliveries.push(new(key, delivery));
            })?)
        })
        .await
    }

    async fn history(&self, courier: &mut Courier<'_>) -> Result<(), Stopped> {
        let events = "SELECT seq, kind, task, task_id, agent, at, payload FROM event ORDER BY seq";
        self.each(events, |row| {
            let event: Event = read_event(row)?;
            Ok(courier.take(row.raw_size_bytes(), |stretch| stretch.events.push(event))?)
        })
        .await
    }
}

fn read_archived(row: &Row) -> Result<Line, Failure> {
    let count = |index| column::<i64>(row, index).map(i64::unsigned_abs);
    let resets = u32::try_from(column::<i64>(row, 1)?)
        .map_err(|_| Failure::Broken("archive.resets: negative".into()))?;
    let hour = Timestamp::from_micros(column(row, 2)?);
    let mut line = Line::new(scope(row.try_get(0)?)?, hour, resets, None);
    line.jobs = count(3)?;
    line.tokens.tokens_in = count(4)?;
    line.tokens.tokens_out = count(5)?;
    line.tokens.tokens_cached = count(6)?;
    line.cost = Money::from_nanos(column(row, 7)?);
    line.refunded = count(8)?;
    line.pull_requests = count(9)?;
    line.issues = count(10)?;
    Ok(line)
}
