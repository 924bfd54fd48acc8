//! A connection: made when it is needed, and made again when it was lost.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture as BoxFuture, join_all, try_join_all};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::Failure;
use super::connect::{Config, connect};
use super::statements::{ALL, Sql};

/// What every connection is told first. Statements go by indexes, whatever the tables looked like when they were
/// prepared; and nobody who stops in the middle of something holds up the others for long.
const SETTINGS: &str = "SET client_min_messages = warning; SET standard_conforming_strings = on; \
    SET lock_timeout = '1s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'; \
    SET jit = off; SET plan_cache_mode = force_generic_plan; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// How long a transaction waits for a lock once the rows that it began with are locked. Those are locked in one order
/// by everybody, and so nobody waits for ever. What is found to be needed later may be held by one who waits for us: so
/// it is hardly waited for, but the turn is taken again, and begins with all of it.
pub(super) const IMPATIENT: &str = "5ms";
/// How long it waits when it has only to write.
pub(super) const PATIENT: &str = "2s";

/// How long an answer is waited for: longer than the database works on a statement (see [`SETTINGS`]), so that only one
/// that is gone, or cannot be reached any more, takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// A value for a statement.
pub(super) type Value = Box<dyn ToSql + Sync>;

/// Statements that are sent together: none waits for the answer of the one before.
#[derive(Default)]
pub(super) struct Batch {
    asked: Vec<(Sql, Vec<Value>)>,
}

impl Batch {
    /// Adds a statement; gives the place of its answer.
    pub(super) fn ask(&mut self, sql: Sql, values: Vec<Value>) -> usize {
        self.asked.push((sql, values));
        self.asked.len() - 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

/// What a batch stands between.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// It begins a transaction.
    Begin,
    /// It is in the middle of one.
    Within,
    /// It ends one.
    Commit,
}

/// A connection that is up.
pub(super) struct Live {
    pub(super) client: Client,
    statements: Vec<Statement>,
    /// What carries its messages.
    carrier: AbortHandle,
}

impl Drop for Live {
    /// A carrier would wait for all answers that are due.
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Live {
    /// Connects, and says what every connection is told.
    async fn begin(config: &Config, prepares: bool) -> Result<Self, Failure> {
        let (client, connection) = connect(config).await?;
        let carrier = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database ended");
            }
        });
        let mut live = Self {
            client,
            statements: Vec::new(),
            carrier: carrier.abort_handle(),
        };
        live.client.batch_execute(SETTINGS).await?;
        let texts = if prepares { ALL } else { &[] };
        live.statements = try_join_all(texts.iter().map(|sql| live.client.prepare(sql))).await?;
        Ok(live)
    }

    /// Sends a batch; gives the rows of each statement. Of several failures the first one is the cause.
    pub(super) async fn send(&self, frame: Frame, batch: Batch) -> Result<Vec<Vec<Row>>, Failure> {
        let asked = batch.asked;
        let count = asked.len();
        let (has_failed, is_committed) = (Cell::new(false), Cell::new(false));
        let begin = async {
            if frame == Frame::Begin {
                self.client.batch_execute("BEGIN").await?;
            }
            Ok(Vec::new())
        };
        // A statement whose values cannot be written as the message says fails before anything of it is sent: the database
        // would know nothing of it, and commit the others.
        let commit = async {
            if frame == Frame::Commit && !has_failed.get() {
                is_committed.set(true);
                self.client.batch_execute("COMMIT").await?;
            }
            Ok(Vec::new())
        };
        let mut all: Vec<BoxFuture<'_, Result<Vec<Row>, tokio_postgres::Error>>> =
            Vec::with_capacity(count + 2);
        all.push(Box::pin(begin));
        for (sql, values) in &asked {
            let statement = &self.statements[*sql as usize];
            let has_failed = &has_failed;
            all.push(Box::pin(async move {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
                let answer = self.client.query(statement, &values).await;
                has_failed.set(has_failed.get() || answer.is_err());
                answer
            }));
        }
        all.push(Box::pin(commit));
        // In the order in which they are in the list each is sent, or found impossible to send, when it is looked at first.
        let answers: Result<Vec<_>, _> = join_all(all).await.into_iter().collect();
        let mut answers = answers.map_err(|error| {
            if frame == Frame::Commit && !is_committed.get() && error.code().is_none() && !error.is_closed() {
                // There is no doubt what came of it.
                return Failure::Broken(Failure::from(error).to_string());
            }
            error.into()
        })?;
        answers.remove(0);
        answers.truncate(count);
        Ok(answers)
    }
}

/// One connection, with the thread that asks.
pub(super) struct Session {
    /// Gone only at the end.
    runtime: Option<Runtime>,
    config: Config,
    prepares: bool,
    live: Option<Live>,
    /// How long an answer is waited for; none where what is asked may take as long as it takes.
    patience: Option<Duration>,
    /// Whether the connection was given up, because an answer did not come.
    is_silent: Cell<bool>,
}

impl Session {
    /// A session that prepares the statements of the turns.
    pub(super) fn of_turns(config: &Config) -> Result<Self, Failure> {
        Self::new(config, true)
    }

    /// A session for anything else.
    pub(super) fn plain(config: &Config) -> Result<Self, Failure> {
        Self::new(config, false)
    }

    fn new(config: &Config, prepares: bool) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Away(format!("no connection can be made: {error}")))?;
        Ok(Self {
            runtime: Some(runtime),
            config: config.clone(),
            prepares,
            live: None,
            patience: Some(PATIENCE),
            is_silent: Cell::new(false),
        })
    }

    /// Sets how long an answer is waited for; without a limit, as long as it takes.
    pub(super) const fn wait_for(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the connection is lost, or was never made.
    pub(super) fn is_lost(&self) -> bool {
        self.is_silent.get() || self.live.as_ref().is_none_or(|live| live.client.is_closed())
    }

    /// Lets the connection go: what it was doing is rolled back.
    pub(super) fn hang_up(&mut self) {
        self.is_silent.set(false);
        if self.live.take().is_some()
            && let Some(runtime) = &self.runtime
        {
            // The carrier ends, and closes the connection, only when it has its turn.
            runtime.block_on(tokio::task::yield_now());
        }
    }

    /// Prepares the statements of the turns on a connection that was made before there were tables.
    pub(super) fn prepare(&mut self) -> Result<(), Failure> {
        let statements = self.go_on(|live| async {
            let prepared = ALL.iter().map(|sql| live.client.prepare(sql));
            Ok(try_join_all(prepared).await?)
        })?;
        if let Some(live) = &mut self.live {
            live.statements = statements;
        }
        Ok(())
    }

    /// Runs something on the connection, which is made if it must be.
    pub(super) fn run<'a, T, F>(&'a mut self, ask: impl FnOnce(&'a Live) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        if self.is_lost() {
            self.hang_up();
            let made = self.wait(Live::begin(&self.config, self.prepares));
            self.live = Some(made.map_err(|failure| failure.of_connecting_to(self.config.place()))?);
        }
        self.go_on(ask)
    }

    /// Runs something on the connection that is there.
    pub(super) fn go_on<'a, T, F>(&'a self, ask: impl FnOnce(&'a Live) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        match &self.live {
            Some(live) if !self.is_silent.get() => self.wait(ask(live)),
            _ => Err(Failure::Away("the connection is lost".into())),
        }
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(runtime) = &self.runtime else {
            return Err(Failure::Away("the connection is closed".into()));
        };
        runtime.block_on(async {
            let Some(patience) = self.patience else {
                return future.await;
            };
            tokio::time::timeout(patience, future).await.unwrap_or_else(|_| {
                self.is_silent.set(true);
                Err(Failure::Away(format!("it gave no answer for {patience:?}")))
            })
        })
    }
}

impl Drop for Session {
    /// Whoever drops it may be in the middle of something asynchronous, where a runtime must not be waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use adjutant_postgres_fixture::Database;

    use super::super::Postgres;
    use super::*;

    fn session() -> Option<(Database, Session)> {
        let database = adjutant_postgres_fixture::shared()?.database();
        drop(Postgres::open(database.url()).expect("the tables are made"));
        let config = Config::read(database.url()).expect("the URL is read");
        let session = Session::of_turns(&config).expect("a session is made");
        Some((database, session))
    }

    #[test]
    fn nothing_is_committed_without_a_statement_that_cannot_be_sent() {
        let Some((database, mut session)) = session() else {
            return;
        };
        let mut batch = Batch::default();
        batch.ask(Sql::MakeScopes, vec![Box::new(vec!["fleet".to_owned()])]);
        session
            .run(|live| live.send(Frame::Begin, batch))
            .expect("it is written");
        // Names are texts, and so this one is not sent; enough others are that they are looked at in turns.
        let mut batch = Batch::default();
        batch.ask(Sql::DeleteLocks, vec![Box::new(1_i64)]);
        for _ in 0..40 {
            batch.ask(Sql::DeleteLocks, vec![Box::new(vec!["lock".to_owned()])]);
        }
        let ended = session.go_on(|live| live.send(Frame::Commit, batch));
        let Err(Failure::Broken(why)) = ended else {
            panic!("there is no doubt what came of it");
        };
        assert!(why.contains("serializing"), "{why}");
        session.hang_up();
        assert_eq!(database.sql("SELECT count(*) FROM scope"), "0");
    }

    #[test]
    fn a_database_that_gives_no_answer_is_not_waited_for() {
        let Some((_database, mut session)) = session() else {
            return;
        };
        let ask = |session: &mut Session, seconds: f64| {
            session.run(|live| async move {
                let sleep = "SELECT pg_sleep($1)";
                Ok(live.client.query_one(sleep, &[&seconds]).await.map(drop)?)
            })
        };
        ask(&mut session, 0.0).expect("it answers");
        session.patience = Some(Duration::from_millis(200));
        let silent = ask(&mut session, 20.0).expect_err("it does not answer in time");
        assert!(matches!(silent, Failure::Away(_)), "{silent}");
        assert!(silent.leaves_doubt(), "if it was a COMMIT");
        assert!(session.is_lost());
        let over = session.go_on(|live| async { Ok(live.client.batch_execute("COMMIT").await?) });
        assert!(matches!(over, Err(Failure::Away(_))), "an answer may still come");
        session.patience = Some(PATIENCE);
        ask(&mut session, 0.0).expect("it answers on a new connection");
    }
}
