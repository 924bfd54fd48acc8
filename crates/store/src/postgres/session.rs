//! A connection: made when it is needed, and made again when it was lost.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture as BoxFuture, join_all, try_join_all};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::Failure;
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
}

impl Live {
    /// Sends a batch; gives the rows of each statement. Of several failures the first one is the cause.
    pub(super) async fn send(&self, frame: Frame, batch: Batch) -> Result<Vec<Vec<Row>>, Failure> {
        let asked = batch.asked;
        let count = asked.len();
        let begin = async {
            if frame == Frame::Begin {
                self.client.batch_execute("BEGIN").await?;
            }
            Ok(Vec::new())
        };
        let commit = async {
            if frame == Frame::Commit {
                self.client.batch_execute("COMMIT").await?;
            }
            Ok(Vec::new())
        };
        let mut all: Vec<BoxFuture<'_, Result<Vec<Row>, tokio_postgres::Error>>> =
            Vec::with_capacity(count + 2);
        all.push(Box::pin(begin));
        for (sql, values) in &asked {
            let statement = &self.statements[*sql as usize];
            all.push(Box::pin(async move {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
                self.client.query(statement, &values).await
            }));
        }
        all.push(Box::pin(commit));
        // In the order in which they are in the list each is sent when it is looked at first.
        let mut answers = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
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
        })
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the connection is lost, or was never made.
    pub(super) fn is_lost(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.client.is_closed())
    }

    /// Lets the connection go: what it was doing is rolled back.
    pub(super) fn hang_up(&mut self) {
        self.live = None;
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
            self.live = None;
            self.live = Some(self.wait(connect(&self.config, self.prepares))?);
        }
        self.go_on(ask)
    }

    /// Runs something on the connection that is there.
    pub(super) fn go_on<'a, T, F>(&'a self, ask: impl FnOnce(&'a Live) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        match &self.live {
            Some(live) => self.wait(ask(live)),
            None => Err(Failure::Away("the connection is lost".into())),
        }
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => Err(Failure::Away("the connection is closed".into())),
        }
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

async fn connect(config: &Config, prepares: bool) -> Result<Live, Failure> {
    /// Also where a host answers nothing at all.
    const PATIENCE: Duration = Duration::from_secs(5);
    let made = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
    let (client, connection) = made.map_err(|_| Failure::Away("it does not answer".into()))??;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    client.batch_execute(SETTINGS).await?;
    let texts = if prepares { ALL } else { &[] };
    let statements = try_join_all(texts.iter().map(|sql| client.prepare(sql))).await?;
    Ok(Live { client, statements })
}
