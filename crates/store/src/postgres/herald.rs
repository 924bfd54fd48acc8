//! Word of commits: what one server commits, the others hear of within milliseconds.
//!
//! NOTIFY inside a transaction makes commits wait for each other, so it is sent after the commit, on a connection of
//! its own, and at most every two milliseconds: the number of the last event is all that must be known. A word that is
//! lost is made good by the next one, by the look after a new connection, and by one every five seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adjutant_core::name::AgentId;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{AsyncMessage, Client};

use super::Failure;
use super::codec::column;
use super::connect::{Config, connect};
use crate::News;

/// The shortest time between two words.
const PACE: Duration = Duration::from_millis(2);
/// How long after a lost connection a new one is tried.
const PAUSE: Duration = Duration::from_millis(500);
/// So often it is looked at what others have committed, whatever was heard: a word may be lost, and what stands between may
/// keep the connection open to one side only.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// More agents than that are not named: then it is everybody.
const MAX_NAMED: usize = 1_000;

type Listener = Box<dyn Fn(News) + Send>;

struct Shared {
    /// The last event that this server has committed.
    committed: AtomicU64,
    wake: Notify,
}

/// Tells others, and listens to them. Ends with its value.
pub(super) struct Herald {
    shared: Arc<Shared>,
    listeners: mpsc::UnboundedSender<Listener>,
}

impl Herald {
    pub(super) fn start(config: &Config, server: i64) -> Self {
        let shared = Arc::new(Shared {
            committed: AtomicU64::new(0),
            wake: Notify::new(),
        });
        let (listeners, arriving) = mpsc::unbounded_channel();
        let herald = Self {
            shared: Arc::clone(&shared),
            listeners,
        };
        let work = Work {
            config: config.clone(),
            server,
            shared,
            arriving,
            listener: None,
            told: 0,
            heard: 0,
            looked_at: Instant::now(),
        };
        let spawned = std::thread::Builder::new().name("herald".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(work.run()),
                Err(error) => {
                    tracing::error!(%error, "servers do not hear of each other's commits: they sweep");
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "servers do not hear of each other's commits: they sweep");
        }
        herald
    }

    /// Events up to this one are committed.
    pub(super) fn tell(&self, seq: u64) {
        self.shared.committed.fetch_max(seq, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    /// Has somebody told of what others commit.
    pub(super) fn listen(&self, listener: Listener) {
        if self.listeners.send(listener).is_err() {
            tracing::error!("servers do not hear of each other's commits: they sweep");
        }
    }
}

/// An answer, unless the database is gone without a word.
async fn in_time<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answered = tokio::time::timeout(PATIENCE, answer).await;
    answered.map_err(|_| Failure::Away(format!("it gave no answer for {PATIENCE:?}")))?
}

struct Work {
    config: Config,
    server: i64,
    shared: Arc<Shared>,
    arriving: mpsc::UnboundedReceiver<Listener>,
    listener: Option<Listener>,
    /// The last event that others were told of.
    told: u64,
    /// The last event that was looked at.
    heard: u64,
    /// When it was looked last.
    looked_at: Instant,
}

impl Work {
    async fn run(mut self) {
        // Before the first listener there is nobody to tell.
        loop {
            match self.serve().await {
                Ok(()) => return,
                Err(failure) => {
                    tracing::debug!(%failure, "the connection on which servers hear of each other is lost");
                }
            }
            tokio::time::sleep(PAUSE).await;
            if self.arriving.is_closed() {
                return;
            }
        }
    }

    /// Serves on one connection. Ends without a failure when its owner is gone.
    async fn serve(&mut self) -> Result<(), Failure> {
        let (client, mut connection) = connect(&self.config).await?;
        let (words, mut word) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = poll_fn(|context| connection.poll_message(context));
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => {
                        if words.send(notification.payload().to_owned()).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the connection on which servers hear of each other ended");
                        return;
                    }
                }
            }
        });
        in_time(async { Ok(client.batch_execute("LISTEN adjutant").await?) }).await?;
        // What was to be told when the last connection broke may not have been.
        self.shared.wake.notify_one();
        if self.heard == 0 {
            let row =
                in_time(async { Ok(client.query_one("SELECT seq FROM event_head", &[]).await?) }).await?;
            self.heard = column::<i64>(&row, 0)?.unsigned_abs();
        }
        // What was committed while nobody listened.
        self.look(&client).await?;
        loop {
            tokio::select! {
                listener = self.arriving.recv() => match listener {
                    Some(listener) => self.listener = Some(listener),
                    None => return Ok(()),
                },
                payload = word.recv() => {
                    let Some(payload) = payload else {
                        return Err(Failure::Away("the connection ended".into()));
                    };
                    let mut others = !self.is_own(&payload);
                    // Several that came at once are one.
                    while let Ok(payload) = word.try_recv() {
                        others |= !self.is_own(&payload);
                    }
                    if others {
                        self.look(&client).await?;
                    }
                }
                () = sleep_until(self.looked_at + LOOK_INTERVAL) => self.look(&client).await?,
                () = self.shared.wake.notified() => {
                    let committed = self.shared.committed.load(Ordering::Relaxed);
                    if committed > self.told {
                        let payload = format!("{} {committed}", self.server);
                        let notify = "SELECT pg_notify('adjutant', $1)";
                        in_time(async { Ok(client.execute(notify, &[&payload]).await?) }).await?;
                        self.told = committed;
                        tokio::time::sleep(PACE).await;
                    }
                }
            }
        }
    }

    fn is_own(&self, payload: &str) -> bool {
        payload
            .split_once(' ')
            .is_some_and(|(server, _)| server.parse() == Ok(self.server))
    }

    /// Looks at what others have committed, and tells it.
    async fn look(&mut self, client: &Client) -> Result<(), Failure> {
        self.looked_at = Instant::now();
        let since = i64::try_from(self.heard).unwrap_or(i64::MAX);
        // This server's own events are passed over too, so that the next look begins behind them.
        let find = "SELECT coalesce(max(seq), $1), \
                    array_agg(DISTINCT agent) FILTER (WHERE agent IS NOT NULL AND origin <> $2), \
                    coalesce(bool_or(starts_with(kind, 'quota')) FILTER (WHERE origin <> $2), false), \
                    coalesce(bool_or(origin <> $2), false) FROM event WHERE seq > $1";
        let row = in_time(async { Ok(client.query_one(find, &[&since, &self.server]).await?) }).await?;
        let last = column::<i64>(&row, 0)?.unsigned_abs();
        let are_others_among_them = column::<bool>(&row, 3)?;
        if !are_others_among_them {
            self.heard = last;
            return Ok(());
        }
        let agents: Vec<String> = column::<Option<Vec<String>>>(&row, 1)?.unwrap_or_default();
        let everybody = column::<bool>(&row, 2)? || agents.len() > MAX_NAMED;
        self.heard = last;
        if let Some(listener) = &self.listener {
            listener(News {
                seq: last,
                agents: (!everybody).then(|| agents.into_iter().map(AgentId::from).collect()),
            });
        }
        Ok(())
    }
}
