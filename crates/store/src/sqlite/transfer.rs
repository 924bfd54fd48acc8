//! Transfers from and to a file.
//!
//! A source is read under the lock that a server takes, by a connection that only reads. A target is written beside its
//! place without a journal or a sync, because nobody sees it; it is synced and renamed when it is whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use adjutant_core::attempt::AttemptKey;
use adjutant_core::event::Event;
use adjutant_core::ledger::Line;
use adjutant_core::limit::Scope;
use adjutant_core::name::{AgentId, LockName};
use adjutant_core::set::rows::{Ending, Replay, ReplayKey};
use adjutant_core::task::{Note, TaskKey};
use adjutant_core::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, Row, params};

use super::backup::{self, CopyError, Part};
use super::codec::{
    AGENT, ATTEMPT, COUNTER, DELIVERY, LINE, TASK, demand, digest, int, read_agent, read_attempt, read_body,
    read_class, read_counter, read_delivery, read_dependency, read_experience, read_json, read_line,
    read_policy, read_scope, read_task, read_token, read_webhook,
};
use super::damage::Alarm;
use super::open::{APPLICATION_ID, Lock, MIGRATIONS, look_for_damage, take_lock};
use super::read::{Classes, read_event};
use super::{OpenError, commit, failed, forget, onlooker, target_of};
use crate::transfer::{
    Accounts, COUNTS, Courier, Head, Moved, Problem, Sink, Stretch, TransferError, compare, from, new, to,
};

/// Page cache of a target, in KiB: rows of one kind go to several indexes.
const CACHE_KIB: i32 = 64 * 1024;
/// The columns of a line of the archive, in the order in which [`read_archived`] takes them.
const ARCHIVE: &str = "scope, resets, hour, jobs, tokens_in, tokens_out, tokens_cached, cost, refunded, pull_requests, \
    issues";

// ---- from ------------------------------------------------------------------------------------------------------------

/// A file that is read.
pub(crate) struct Source {
    db: Connection,
    /// Held so that no server starts on it.
    _lock: Lock,
}

/// Why a source is not read on.
enum Stopped {
    /// It cannot be.
    Unread(rusqlite::Error),
    /// The target does not take it.
    Told(TransferError),
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unread(error)
    }
}

impl From<TransferError> for Stopped {
    fn from(error: TransferError) -> Self {
        Self::Told(error)
    }
}

impl Source {
    /// Opens a file that nobody uses and that has everything that was acknowledged.
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, TransferError> {
        let path = target_of(path);
        let open = || {
            // A lock beside nothing would be left behind.
            if let Err(error) = std::fs::metadata(&path) {
                let (path, why) = (path.clone(), error.to_string());
                return Err(OpenError::Unusable { path, why });
            }
            let lock = take_lock(&path)?;
            let opened = onlooker::open(&path)?;
            look_for_damage(&opened.db, &path, opened.schema)?;
            Ok((lock, opened))
        };
        let (lock, opened) = open().map_err(from)?;
        if opened.schema < MIGRATIONS.len() {
            return Err(from(Problem::Older {
                found: opened.schema,
                known: MIGRATIONS.len(),
            }));
        }
        Ok(Self {
            db: opened.db,
            _lock: lock,
        })
    }

    /// Gives everything.
    pub(crate) fn give(&self, courier: &mut Courier<'_>) -> std::result::Result<(), TransferError> {
        let given = self
            .head(courier)
            .and_then(|()| self.tasks(courier))
            .and_then(|()| self.texts(courier))
            .and_then(|()| self.attempts(courier))
            .and_then(|()| self.scopes(courier))
            .and_then(|()| self.names(courier))
            .and_then(|()| self.history(courier));
        given.map_err(|stopped| match stopped {
            Stopped::Unread(error) => from(failed(&Alarm::default(), &error)),
            Stopped::Told(error) => error,
        })
    }

    /// Gives every row of a query to `take`.
    fn each(
        &self,
        sql: &str,
        mut take: impl FnMut(&Row<'_>) -> std::result::Result<(), Stopped>,
    ) -> std::result::Result<(), Stopped> {
        let mut find = self.db.prepare(sql)?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            take(row)?;
        }
        Ok(())
    }

    fn head(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        let secret = self
            .db
            .query_row("SELECT value FROM meta WHERE name = 'secret'", [], |row| {
                digest(row, 0)
            })?;
        let last: i64 = self
            .db
            .query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| row.get(0))?;
        let head = Head {
            secret,
            first_seq: forget::first_event(&self.db)?.unsigned_abs(),
            last_seq: last.unsigned_abs(),
        };
        courier.take(0, |stretch| stretch.head = Some(head))?;
        self.each("SELECT id, demand FROM class ORDER BY id", |row| {
            let class = read_class(row)?;
            Ok(courier.take(row_bytes(row), |stretch| stretch.classes.push(class))?)
        })
    }

    fn tasks(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        let mut classes = Classes::default();
        self.each(&format!("SELECT {TASK} FROM task ORDER BY key"), |row| {
            let task = read_task(row, |class| classes.get(&self.db, class))?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.tasks.push(new(task.key, task));
            })?)
        })?;
        self.each(
            "SELECT dependency, dependent, state FROM edge ORDER BY dependency, dependent",
            |row| {
                let key = (TaskKey(row.get(0)?), TaskKey(row.get(1)?));
                let state = read_dependency(row, 2)?;
                Ok(courier.take(0, |stretch| stretch.changes.edges.push(new(key, state)))?)
            },
        )
    }

    fn texts(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        let bodies = "SELECT task, title, description, payload, files, dependencies FROM body ORDER BY task";
        self.each(bodies, |row| {
            let body = (TaskKey(row.get(0)?), read_body(row)?);
            Ok(courier.take(row_bytes(row), |stretch| stretch.changes.bodies.push(body))?)
        })?;
        self.each(
            "SELECT task, result, fail_reason FROM ending ORDER BY task",
            |row| {
                let ending = Ending {
                    task: TaskKey(row.get(0)?),
                    result: match row.get_ref(1)? {
                        ValueRef::Null => None,
                        _ => Some(read_json(row, 1)?),
                    },
                    fail_reason: row.get(2)?,
                };
                Ok(courier.take(row_bytes(row), |stretch| stretch.changes.endings.push(ending))?)
            },
        )?;
        self.each(
            "SELECT task, at, author, text FROM note ORDER BY task, number",
            |row| {
                let note = Note {
                    at: Timestamp::from_micros(row.get(1)?),
                    author: row.get::<_, String>(2)?.into(),
                    text: row.get(3)?,
                };
                let task = TaskKey(row.get(0)?);
                Ok(courier.take(row_bytes(row), |stretch| stretch.changes.notes.push((task, note)))?)
            },
        )?;
        self.each("SELECT task, text FROM output ORDER BY id", |row| {
            let output = (TaskKey(row.get(0)?), row.get(1)?);
            Ok(courier.take(row_bytes(row), |stretch| stretch.outputs.push(output))?)
        })
    }

    fn attempts(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        self.each(
            &format!("SELECT {ATTEMPT} FROM attempt ORDER BY task, number"),
            |row| {
                let attempt = read_attempt(row)?;
                Ok(courier.take(row_bytes(row), |stretch| {
                    stretch.changes.attempts.push(new(attempt.key, attempt));
                })?)
            },
        )?;
        let mut accounts = Accounts::default();
        let lines = format!("SELECT {LINE} FROM line ORDER BY task, number, scope, hour, resets, model");
        self.each(&lines, |row| {
            let (attempt, line) = read_line(row)?;
            Ok(accounts.take(courier, attempt, line)?)
        })?;
        accounts.end(courier)?;
        // Those that occupy an agent: it is not stored with the agent here.
        let mut places: HashMap<AgentId, Vec<AttemptKey>> = HashMap::new();
        let occupying = "SELECT agent, task, number FROM attempt WHERE occupies = 1 \
                         AND registered = 1 ORDER BY task, number";
        self.each(occupying, |row| {
            let places = places.entry(row.get::<_, String>(0)?.into()).or_default();
            places.push(attempt_key(row, 1)?);
            Ok(())
        })?;
        self.each(&format!("SELECT {AGENT} FROM agent ORDER BY id"), |row| {
            let id = AgentId::from(row.get::<_, String>(0)?);
            let agent = read_agent(row, places.remove(&id).unwrap_or_default())?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.agents.push(new(id, agent));
            })?)
        })
    }

    fn scopes(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        let policies = "SELECT scope, limits, model_allowlist, max_duration, prices, cooldown FROM policy ORDER BY scope";
        self.each(policies, |row| {
            let (scope, policy): (Scope, _) = read_policy(row)?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.policies.push(new(scope, policy));
            })?)
        })?;
        self.each(&format!("SELECT {COUNTER} FROM counter ORDER BY scope"), |row| {
            let counter = read_counter(row)?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.counters.push(new(counter.scope.clone(), counter));
            })?)
        })?;
        self.each(
            "SELECT labels, model, samples FROM experience ORDER BY labels, model",
            |row| {
                let (kind, experience) = read_experience(row)?;
                Ok(courier.take(row_bytes(row), |stretch| {
                    stretch.changes.experiences.push(new(kind, experience));
                })?)
            },
        )?;
        self.each(
            &format!("SELECT {ARCHIVE} FROM archive ORDER BY scope, resets"),
            |row| {
                let line = read_archived(row)?;
                Ok(courier.take(row_bytes(row), |stretch| stretch.archive.push(line))?)
            },
        )
    }

    fn names(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        self.each("SELECT name, task, number FROM lock ORDER BY name", |row| {
            let (name, holder) = (LockName::from(row.get::<_, String>(0)?), attempt_key(row, 1)?);
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.locks.push(new(name, holder));
            })?)
        })?;
        self.each("SELECT id, task, number FROM job ORDER BY id", |row| {
            let job = (row.get::<_, String>(0)?.into(), attempt_key(row, 1)?);
            Ok(courier.take(row_bytes(row), |stretch| stretch.changes.jobs.push(job))?)
        })?;
        self.each(
            "SELECT token, key, digest, at, answer FROM replay ORDER BY token, key",
            |row| {
                let key = ReplayKey {
                    token: row.get::<_, String>(0)?.into(),
                    key: row.get::<_, String>(1)?.into(),
                };
                let replay = Replay {
                    digest: digest(row, 2)?,
                    at: Timestamp::from_micros(row.get(3)?),
                    answer: read_json(row, 4)?,
                };
                Ok(courier.take(row_bytes(row), |stretch| {
                    stretch.changes.idempotency.push((key, replay));
                })?)
            },
        )?;
        self.each(
            "SELECT name, digest, roles, created_at FROM token ORDER BY name",
            |row| {
                let token = read_token(row)?;
                Ok(courier.take(row_bytes(row), |stretch| {
                    stretch.changes.tokens.push((token.name.clone(), Some(token)));
                })?)
            },
        )?;
        self.each("SELECT name, document FROM webhook ORDER BY name", |row| {
            let webhook = read_webhook(row)?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.webhooks.push(new(webhook.name.clone(), webhook));
            })?)
        })?;
        let deliveries = format!("SELECT {DELIVERY} FROM delivery ORDER BY webhook, seq");
        self.each(&deliveries, |row| {
            let (key, delivery) = read_delivery(row)?;
            Ok(courier.take(row_bytes(row), |stretch| {
                stretch.changes.deliveries.push(new(key, delivery));
            })?)
        })
    }

    fn history(&self, courier: &mut Courier<'_>) -> std::result::Result<(), Stopped> {
        let events = "SELECT seq, kind, task, task_id, agent, at, payload FROM event ORDER BY seq";
        self.each(events, |row| {
            let event: Event = read_event(row)?;
            Ok(courier.take(row_bytes(row), |stretch| stretch.events.push(event))?)
        })
    }
}

/// About how large a row is.
fn row_bytes(row: &Row<'_>) -> usize {
    (0..row.as_ref().column_count())
        .map(|column| match row.get_ref(column) {
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
            _ => size_of::<i64>(),
        })
        .sum()
}

fn attempt_key(row: &Row<'_>, first: usize) -> Result<AttemptKey> {
    Ok(AttemptKey {
        task: TaskKey(row.get(first)?),
        number: row.get(first + 1)?,
    })
}

fn read_archived(row: &Row<'_>) -> Result<Line> {
    let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let hour = Timestamp::from_micros(row.get(2)?);
    let mut line = Line::new(read_scope(row, 0)?, hour, row.get(1)?, None);
    line.jobs = count(3)?;
    line.tokens.tokens_in = count(4)?;
    line.tokens.tokens_out = count(5)?;
    line.tokens.tokens_cached = count(6)?;
    line.cost = adjutant_core::money::Money::from_nanos(row.get(7)?);
    line.refunded = count(8)?;
    line.pull_requests = count(9)?;
    line.issues = count(10)?;
    Ok(line)
}

// ---- to --------------------------------------------------------------------------------------------------------------

/// A file that is made.
pub(crate) struct Target {
    path: PathBuf,
    part: Part,
    db: Connection,
    /// Held so that no server makes a store in its place.
    _lock: Lock,
}

impl Target {
    /// Begins a file where there is none.
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, TransferError> {
        let path = target_of(path);
        let lock = take_lock(&path).map_err(to)?;
        backup::make_room(&path).map_err(to)?;
        let unwritable = |why: String| {
            let path = path.clone();
            to(CopyError::Unwritable { path, why })
        };
        let name = backup::part_of(&path).ok_or_else(|| unwritable("it names no file".into()))?;
        let part = Part::begin(name).map_err(to)?;
        let db = begin(&part.path).map_err(|error| unwritable(error.to_string()))?;
        Ok(Self {
            path,
            part,
            db,
            _lock: lock,
        })
    }

    /// Puts the file in its place, if it has everything.
    pub(crate) fn finish(self, moved: &Moved) -> std::result::Result<(), TransferError> {
        let counts = self.db.query_row(COUNTS, [], |row| {
            let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok([count(0)?, count(1)?, count(2)?, count(3)?, count(4)?])
        });
        compare(moved, counts.map_err(|error| unwritten(&error))?)?;
        self.db
            .execute_batch("COMMIT")
            .map_err(|error| unwritten(&error))?;
        self.db.close().map_err(|(_, error)| unwritten(&error))?;
        let placed = self.part.file.sync_all();
        placed
            .and_then(|()| backup::put(&self.part.path, &self.path, false))
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => to(CopyError::Exists {
                    path: self.path.clone(),
                }),
                _ => to(CopyError::Unwritable {
                    path: self.path.clone(),
                    why: error.to_string(),
                }),
            })
    }
}

/// Makes an empty store, in one transaction that goes on.
fn begin(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    // What a crash leaves of it is thrown away.
    db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.set_prepared_statement_cache_capacity(64);
    db.execute_batch("BEGIN")?;
    for step in MIGRATIONS {
        db.execute_batch(step)?;
    }
    db.pragma_update(
        None,
        "user_version",
        i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
    )?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(db)
}

fn unwritten(error: &rusqlite::Error) -> TransferError {
    to(failed(&Alarm::default(), error))
}

impl Sink for Target {
    fn write(&mut self, stretch: &Stretch) -> std::result::Result<(), TransferError> {
        write(&self.db, stretch).map_err(|error| unwritten(&error))
    }
}

fn write(db: &Connection, stretch: &Stretch) -> Result<()> {
    if let Some(head) = &stretch.head {
        let put = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
        db.execute(put, params!["secret", head.secret.as_slice()])?;
        if head.first_seq > 1 {
            db.execute(put, params!["first_event", int(head.first_seq)])?;
        }
    }
    for class in &stretch.classes {
        db.prepare_cached("INSERT INTO class (id, demand) VALUES (?1, ?2)")?
            .execute(params![class.id.0, demand(&class.demand)])?;
    }
    commit::rows(db, &stretch.changes)?;
    for (task, text) in &stretch.outputs {
        db.prepare_cached("INSERT INTO output (task, text) VALUES (?1, ?2)")?
            .execute(params![task.0, text])?;
    }
    for line in &stretch.archive {
        forget::put_archived(db, line)?;
    }
    for event in &stretch.events {
        db.prepare_cached(
            "INSERT INTO event (seq, kind, task, task_id, agent, at, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            int(event.seq),
            event.kind.name(),
            event.task.as_ref().map(|(key, _)| key.0),
            event.task.as_ref().map(|(_, id)| id.as_str()),
            event.agent.as_ref().map(AgentId::as_str),
            event.at.as_micros(),
            event.payload.as_deref(),
        ])?;
    }
    Ok(())
}
