//! The store of many servers: one PostgreSQL database, and every server that uses it is as good as any other.
//!
//! There is no leader and nothing to configure: what a turn relies on it locks, and the database is what makes turns of
//! different servers follow one another. `load` says what is locked in which order, `commit` what is written in
//! which order, `presence` why signs of life are not written, `herald` how servers hear of each other's commits.
//!
//! - A turn is a transaction (READ COMMITTED) with two or three round trips, whatever its size.
//! - `now` is the database's, read after the last lock, and never before what was committed last.
//! - A turn that another one was in the way of is [busy](StoreError::Busy): it is taken again.
//! - When the answer to a COMMIT is lost, the number of the turn in this server's row tells what came of it.

mod codec;
mod commit;
mod connect;
mod failure;
mod forget;
mod herald;
mod load;
mod open;
mod presence;
mod read;
mod session;
mod statements;
pub(crate) mod transfer;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adjutant_core::agent::Agent;
use adjutant_core::attempt::AttemptKey;
use adjutant_core::counter::Counter;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::name::AgentId;
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::task::{Body, TaskKey};
use adjutant_core::time::{Span, Timestamp};

pub use open::OpenError;

use self::codec::Classes;
use self::commit::{Author, Gathered, Named};
use self::connect::Config;
use self::failure::Failure;
use self::load::Loading;
use self::presence::{Heard, Presence};
use self::session::{Batch, Frame, Session};
use self::statements::{Sql, digest};
use crate::{CommitError, Forgotten, News, Reader, Store, StoreError};

/// A server says that it is there with each commit, and otherwise when something else brings it to the database; but no
/// more often than that.
const VOUCH_INTERVAL: Span = Span::from_secs(1);
/// How long the outcome of a commit is asked for before the process gives up.
const OUTCOME_PATIENCE: Duration = Duration::from_mins(1);
/// How long each answer to that is waited for: with the wait before it, all of it ends before the lane may be another's.
const OUTCOME_ANSWER: Duration = Duration::from_secs(5);

/// After another server has written to what is used of the same scopes, so many turns expect that of every scope.
const COMPANY_LASTS: u32 = 1_000;

/// A scope as a turn has seen it.
#[derive(Debug, Clone, Default)]
struct Seen {
    version: i64,
    /// Whether there is such a row: that there is none is known as well, and checked at the end.
    exists: bool,
    /// Whether the row is locked until the turn is over.
    locked: bool,
    policy: Option<Arc<Policy>>,
    counter: Option<Arc<Counter>>,
}

/// One server's connection to the database.
pub struct Postgres {
    turns: Session,
    /// For what is done beside the turns, or must stay when a turn does not.
    aside: Session,
    classes: Classes,
    presence: Presence,
    server: i64,
    lane: u8,
    turn: i64,
    /// Whether a transaction was begun.
    begun: bool,
    /// How many tasks the agents of this turn could take, as far as is known.
    places: Option<usize>,
    /// Whether the next turn locks also what it usually only reads: the one before was turned back for that.
    careful: bool,
    /// So many turns to come look at what others have used of scopes before they write to it.
    in_company: u32,
    seen: HashMap<Scope, Seen>,
    named: Named,
    /// What agents had in hand when they were last seen. It is asked for together with them, and if it is not so any more
    /// that is found out.
    in_hand: HashMap<AgentId, Vec<AttemptKey>>,
    now: Timestamp,
    vouched_at: Timestamp,
    last_seq: u64,
    walk: forget::Walk,
    herald: herald::Herald,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("server", &self.server)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Opens a database, and makes in it what is missing. The URL is as in
    /// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(url: &str) -> Result<Self, OpenError> {
        let config = Config::read(url)?;
        let mut aside = Session::plain(&config).map_err(|failure| open::unreachable(&config, &failure))?;
        // What is missing in a large database may take its time to be made.
        aside.wait_for(None);
        let opened = open::enter(&mut aside, &config)?;
        aside.wait_for(Some(session::PATIENCE));
        let mut turns = Session::of_turns(&config).map_err(|failure| open::unreachable(&config, &failure))?;
        turns
            .run(|_| std::future::ready(Ok(())))
            .map_err(|failure| open::unreachable(&config, &failure))?;
        let herald = herald::Herald::start(&config, opened.server);
        Ok(Self {
            turns,
            aside,
            classes: Classes::default(),
            presence: Presence::new(opened.server),
            server: opened.server,
            lane: opened.lane,
            turn: 0,
            begun: false,
            places: None,
            careful: false,
            in_company: 0,
            seen: HashMap::new(),
            named: Named::default(),
            in_hand: HashMap::new(),
            now: opened.now,
            vouched_at: opened.now,
            last_seq: opened.last_seq,
            walk: forget::Walk::default(),
            herald,
        })
    }

    /// What time it was in the database at the last turn, or at the opening.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    const fn config(&self) -> &Config {
        self.turns.config()
    }

    /// Classes that are new are made at once, and stay: numbers of what was rolled back must not be remembered.
    fn make_classes(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let new: Vec<String> = wanted
            .demands
            .iter()
            .filter(|demand| self.classes.of(demand).is_none())
            .map(crate::encoding::demand)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows = self.aside.run(|live| async {
            let make = concat!(
                "INSERT INTO class (digest, demand) SELECT digest, demand FROM unnest($1::text[]) AS new (demand) \
                 CROSS JOIN LATERAL ",
                digest!("demand"),
                " AS digest WHERE NOT EXISTS (SELECT FROM class WHERE class.digest = digest.digest) \
                 ORDER BY digest ON CONFLICT DO NOTHING"
            );
            live.client.execute(make, &[&new]).await?;
            let find = concat!(
                "SELECT id, demand FROM class WHERE digest = ANY(ARRAY(SELECT ",
                digest!("demand"),
                " FROM unnest($1::text[]) AS new (demand)))"
            );
            Ok(live.client.query(find, &[&new]).await?)
        })?;
        for row in &rows {
            self.classes.add(row)?;
        }
        Ok(())
    }

    /// With what the agents had in hand when they were last seen: it is sure to be asked for next.
    fn with_what_is_in_hand<'a>(&self, wanted: &'a Wanted) -> Cow<'a, Wanted> {
        let keys = wanted
            .agents
            .iter()
            .filter_map(|id| self.in_hand.get(id))
            .flatten();
        let mut keys = keys.copied().peekable();
        if keys.peek().is_none() {
            return Cow::Borrowed(wanted);
        }
        let mut more = wanted.clone();
        for key in keys {
            more.tasks.insert(key.task);
            more.attempts.insert(key);
            more.accounts.insert(key);
        }
        Cow::Owned(more)
    }

    fn remember_in_hand(&mut self, agent: &Agent) {
        if agent.attempts.is_empty() {
            self.in_hand.remove(&agent.id);
        } else {
            self.in_hand.insert(agent.id.clone(), agent.attempts.clone());
        }
    }

    fn load_rows(&mut self, wanted: &Wanted) -> Result<Rows, Failure> {
        self.make_classes(wanted)?;
        let (frame, wanted) = if !self.begun {
            self.end_turn();
            self.begun = true;
            (Frame::Begin, self.with_what_is_in_hand(wanted))
        } else if self.turns.is_lost() {
            return Err(Failure::Away(
                "the connection was lost in the middle of a turn".into(),
            ));
        } else {
            (Frame::Within, Cow::Borrowed(wanted))
        };
        let rows = Loading {
            session: &mut self.turns,
            classes: &mut self.classes,
            presence: &mut self.presence,
            seen: &mut self.seen,
            careful: self.careful,
            frame,
            now: self.now,
            places: &mut self.places,
            given: BTreeSet::new(),
        }
        .load(&wanted)?;
        for id in &wanted.agents {
            self.in_hand.remove(id);
        }
        for agent in &rows.agents {
            self.remember_in_hand(agent);
        }
        self.named
            .replays
            .extend(rows.idempotency.iter().map(|(key, _)| key.clone()));
        self.named.jobs.extend(rows.jobs.iter().map(|(id, _)| id.clone()));
        self.now = rows.latest.unwrap_or(self.now).max(self.now);
        Ok(rows)
    }

    /// Nothing of the turn is remembered.
    fn end_turn(&mut self) {
        self.begun = false;
        self.places = None;
        self.seen.clear();
        self.named.replays.clear();
        self.named.jobs.clear();
        self.presence.end_turn();
    }

    /// Ends the transaction, with nothing done.
    fn roll_back(&mut self) {
        if !self.begun {
            return;
        }
        let rolled_back = self
            .turns
            .go_on(|live| async { Ok(live.client.batch_execute("ROLLBACK").await?) });
        if rolled_back.is_err() {
            // The database rolls back what a lost connection was doing.
            self.turns.hang_up();
        }
        self.end_turn();
    }

    /// Says that this server is there, now and then.
    fn vouch(&mut self) {
        if self.now < self.vouched_at + VOUCH_INTERVAL {
            return;
        }
        let (server, now) = (self.server, self.now.as_micros());
        let vouched = self.aside.run(|live| async move {
            let vouch = "UPDATE server SET vouched_at = greatest(vouched_at, $2) WHERE id = $1";
            Ok(live.client.execute(vouch, &[&server, &now]).await?)
        });
        match vouched {
            Ok(_) => self.vouched_at = self.now,
            Err(failure) => tracing::warn!(%failure, "the database was not told that this server is there"),
        }
    }

    /// Whether turn `turn` was committed, as far as the database can be asked.
    fn find_outcome(&mut self, turn: i64, failure: &Failure) -> Result<u64, CommitError> {
        tracing::warn!(%failure, "the answer to a commit was lost: the database is asked what came of it");
        self.turns.hang_up();
        let began = Instant::now();
        let server = self.server;
        loop {
            let asked = self.turns.run(|live| async move {
                // The row stays locked by the old connection until what it did is over.
                let find = "SELECT turn FROM server WHERE id = $1 FOR UPDATE";
                let Some(row) = live.client.query_opt(find, &[&server]).await? else {
                    return Ok(None);
                };
                // A statement of its own: one that has waited for a lock sees other rows as they were before. Others may
                // have committed since, and then it is the number of their event. What is told with it is that events
                // up to there can be read, which is true as well.
                let head = live.client.query_one("SELECT seq FROM event_head", &[]).await?;
                let (turn, seq): (i64, i64) = (codec::column(&row, 0)?, codec::column(&head, 0)?);
                Ok(Some((turn, seq)))
            });
            match asked {
                Ok(Some((found, seq))) if found == turn => return Ok(seq.unsigned_abs()),
                Ok(_) => {
                    return Err(StoreError::Busy("a commit was rolled back by the database".into()).into());
                }
                Err(again) if began.elapsed() > OUTCOME_PATIENCE => {
                    return Err(CommitError::Unknown(format!("{failure}; then: {again}")));
                }
                Err(again) => {
                    tracing::debug!(%again, "the outcome of a commit is not known yet");
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    fn write(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        self.turn += 1;
        let author = Author {
            server: self.server,
            turn: self.turn,
            now: self.now,
        };
        let Gathered {
            mut batch,
            heard,
            is_needed,
        } = commit::gather(changes, &self.presence, &self.named);
        if !is_needed {
            self.roll_back();
            self.careful = false;
            self.remember(changes, heard);
            self.vouch();
            return Ok(self.last_seq);
        }
        let is_alone = self.begun && self.in_company == 0;
        self.in_company = self.in_company.saturating_sub(1);
        if !(is_alone && commit::at_once(changes, author, &self.seen, &mut batch)) {
            batch = match self.write_first(changes, author, batch) {
                Ok(batch) => batch,
                Err(failure) => return Err(self.turned_back(failure)),
            };
        }
        let ended = self.turns.go_on(|live| live.send(Frame::Commit, batch));
        let seq = match ended.and_then(|answers| commit::last_seq(&answers)) {
            Ok(seq) => seq,
            Err(failure) if failure.leaves_doubt() => {
                self.turns.wait_for(Some(OUTCOME_ANSWER));
                let outcome = self.find_outcome(author.turn, &failure);
                self.turns.wait_for(Some(session::PATIENCE));
                if outcome.is_err() {
                    self.end_turn();
                }
                outcome?
            }
            Err(failure) if failure.is_unmet_condition() => {
                self.in_company = COMPANY_LASTS;
                return Err(self.turned_back(Failure::Changed("what is used of its scopes".into())));
            }
            Err(failure) => return Err(self.turned_back(failure)),
        };
        self.end_turn();
        self.careful = false;
        self.remember(changes, heard);
        self.vouched_at = self.now;
        self.last_seq = seq;
        self.herald.tell(seq);
        Ok(seq)
    }

    /// Writes all but what others wait for; gives what is left to write.
    fn write_first(&mut self, changes: &Changes, author: Author, mut batch: Batch) -> Result<Batch, Failure> {
        let places = commit::look_again(changes, author, &self.seen, &mut batch);
        let answers = if self.begun {
            self.turns.go_on(|live| live.send(Frame::Within, batch))
        } else {
            self.begun = true;
            self.turns.run(|live| live.send(Frame::Begin, batch))
        };
        let (batch, in_company) = commit::second(changes, author, &places, &answers?, &self.seen)?;
        if in_company {
            self.in_company = COMPANY_LASTS;
        }
        Ok(batch)
    }

    fn turned_back(&mut self, failure: Failure) -> CommitError {
        self.careful = matches!(failure, Failure::Changed(_));
        self.roll_back();
        match failure {
            Failure::Replaced => CommitError::Unknown(failure.to_string()),
            other => StoreError::from(other).into(),
        }
    }

    fn remember(&mut self, changes: &Changes, heard: Vec<(AgentId, Option<Heard>)>) {
        for (id, heard) in heard {
            self.presence.remember(&id, heard);
        }
        for change in &changes.agents {
            match change.now.as_deref() {
                Some(agent) => self.remember_in_hand(agent),
                None => drop(self.in_hand.remove(&change.key)),
            }
        }
    }
}

impl Drop for Postgres {
    /// A clean end gives the lane back. Whoever was heard here is given a full ttl to appear elsewhere all the same.
    fn drop(&mut self) {
        self.roll_back();
        let server = self.server;
        let left = self.aside.run(|live| async move {
            Ok(live
                .client
                .execute("UPDATE server SET lane = NULL WHERE id = $1", &[&server])
                .await?)
        });
        if let Err(failure) = left {
            tracing::debug!(%failure, "the database was not told that this server ends");
        }
    }
}

impl Store for Postgres {
    fn is_shared(&self) -> bool {
        true
    }

    fn lane(&self) -> u8 {
        self.lane
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        let census = read::census(&mut self.aside, &mut self.classes, &mut self.presence, self.now);
        self.presence.end_turn();
        census.map_err(Into::into)
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        self.load_rows(wanted).map_err(|failure| {
            self.roll_back();
            failure.into()
        })
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        if !changes.is_empty() {
            return self.write(changes);
        }
        self.abandon();
        let last = self.aside.run(|live| async {
            let row = live.client.query_one("SELECT seq FROM event_head", &[]).await?;
            codec::column::<i64>(&row, 0)
        });
        Ok(last.map_err(StoreError::from)?.unsigned_abs())
    }

    fn forget(&mut self, retention: &Retention, now: Timestamp) -> Result<Forgotten, CommitError> {
        forget::batch(&mut self.aside, &mut self.walk, retention, now)
            .map_err(|failure| StoreError::from(failure).into())
    }

    fn abandon(&mut self) {
        // A turn that was turned back is over already, and taken again: what it is to lock then is kept.
        if self.begun {
            self.careful = false;
        }
        self.roll_back();
        self.vouch();
    }

    fn bodies(&mut self, tasks: &[TaskKey]) -> Result<Vec<(TaskKey, Arc<Body>)>, StoreError> {
        let keys: Vec<i64> = tasks.iter().map(|task| task.0).collect();
        let mut batch = Batch::default();
        batch.ask(Sql::Bodies, vec![Box::new(keys)]);
        // Without a transaction of its own: it is one statement.
        let answers = self.turns.run(|live| live.send(Frame::Within, batch))?;
        let mut bodies = Vec::with_capacity(tasks.len());
        for row in answers.iter().flatten() {
            let body = codec::read_body(row, 1)?;
            bodies.push((TaskKey(codec::column(row, 0)?), body));
        }
        Ok(bodies)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(read::PostgresReader::new(self.config())?))
    }

    fn listen(&mut self, told: Box<dyn Fn(News) + Send>) {
        self.herald.listen(told);
    }
}
