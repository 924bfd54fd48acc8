//! Serving: connections come in, requests go to the router, and all of it ends in good order.
//!
//! A connection costs little, because an agent that waits holds one: a small read buffer, no copy of the router, and
//! a timer only where something is waited for.

mod full;
pub(crate) mod standing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adjutant_engine::{Handle, Refusal};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::access::guard::Peer;
use crate::access::origin::Origins;
use crate::app::App;
use crate::config::Config;
use crate::patience::Patient;
use crate::serve::standing::Standing;
use crate::{peers, webhooks};

/// The most bytes of a request's head, and of what is read of a connection at a time.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// How long to wait when the system has no file or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A peer that does not acknowledge what it was sent for so long is gone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MILLIS: u32 = 60_000;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] Refusal),
}

/// Makes links that sign a browser in to the dashboard, without asking for a token: for who started the server.
#[derive(Clone)]
pub struct SignInLinks(App);

impl SignInLinks {
    /// A link for the token with this name, at a server that is reached by `base`; none where there is no such token.
    ///
    /// # Errors
    /// When the store does not give its tokens.
    pub async fn make(&self, token: &str, base: &str) -> Result<Option<String>, Refusal> {
        let Self(app) = self;
        if app.config.open {
            return Ok(Some(format!("{base}/")));
        }
        let tokens = app.handle.query(|reader| reader.tokens()).await?;
        let Some(found) = tokens.iter().find(|own| &*own.name == token) else {
            return Ok(None);
        };
        let code = app
            .links
            .make(found.digest, Instant::now())
            .map_err(|error| Refusal::Bug(error.to_string()))?;
        let base = app
            .config
            .public_url
            .as_deref()
            .unwrap_or(base)
            .trim_end_matches('/');
        Ok(Some(format!("{base}/sign-in#{code}")))
    }
}

impl Config {
    /// Files that the server itself may have open: one for each connection, and some for telling others that there
    /// is no room.
    pub const fn files(&self) -> usize {
        self.max_connections.saturating_add(full::MAX_TOLD)
    }

    /// Whether it makes sense, as far as that can be said without a store.
    ///
    /// # Errors
    /// [`ServeError::Config`] when it does not.
    pub fn check(&self) -> Result<(), ServeError> {
        Origins::new(self).map(drop).map_err(ServeError::Config)
    }
}

/// A server that is ready: whatever can fail at a start has succeeded.
pub struct Server {
    app: App,
    front: Front,
}

impl Server {
    /// Reads what it needs from the store. What makes sign-in links comes along, for who stands at its terminal.
    ///
    /// # Errors
    /// When the configuration is wrong, or the store does not give its secret and its tokens.
    pub async fn open(
        handle: Handle,
        config: Config,
        shutdown: CancellationToken,
    ) -> Result<(Self, SignInLinks), ServeError> {
        let app = App::open(handle, config.clone(), shutdown.clone()).await?;
        let links = SignInLinks(app.clone());
        let front = Front::new(app.clone().router(), config, shutdown);
        Ok((Self { app, front }, links))
    }

    /// Speaks for the agents that have a URL, until `leaving`: that is to be before the server and the engine are to
    /// stop, so that the next server can take over at once.
    pub fn speak_for_peers(&self, leaving: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        peers::keep(self.app.clone(), leaving)
    }

    /// Tells places of events, until `leaving`: as for peers, that is to be before the engine is to stop.
    pub fn deliver_webhooks(&self, leaving: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        webhooks::keep(self.app.clone(), leaving)
    }

    /// Serves until it is to stop, then answers what is in flight and returns.
    ///
    /// At shutdown no more connections are accepted and idle ones are closed. Calls that wait in the engine are
    /// answered by it once it is told to stop, which the caller does at the same time; what is not answered within
    /// [`Config::shutdown_grace`] is cut off.
    pub async fn run(self, listener: TcpListener) {
        self.front.run(listener).await;
    }
}

/// Connections come in here, and their requests go to the router.
struct Front {
    router: Router,
    tls: Option<TlsAcceptor>,
    /// One for each connection that may be open.
    slots: Arc<Semaphore>,
    /// One for each connection that is being told that there is no slot.
    told: Arc<Semaphore>,
    connections: TaskTracker,
    config: Arc<Config>,
    shutdown: CancellationToken,
    /// Ends what was not answered in time.
    cut_off: CancellationToken,
}

impl Front {
    fn new(router: Router, config: Config, shutdown: CancellationToken) -> Self {
        Self {
            router,
            tls: config.tls.as_ref().map(tls::Tls::acceptor),
            slots: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            told: Arc::new(Semaphore::new(full::MAX_TOLD)),
            connections: TaskTracker::new(),
            config: Arc::new(config),
            shutdown,
            cut_off: CancellationToken::new(),
        }
    }

    async fn run(self, listener: TcpListener) {
        self.accept(&listener).await;
        drop(listener);
        self.finish().await;
    }

    /// Accepts connections until the server is to stop.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, peer)| prepare(&stream).map(|()| (stream, peer))) {
                Ok((stream, peer)) => self.welcome(stream, peer),
                Err(error) => {
                    // Mostly a peer that left again, or no file descriptors for now: neither ends a server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            tracing::debug!(%peer, "there is no room for a connection");
            if self.tls.is_none() {
                full::turn_away(&self.told, stream);
            }
            // Nothing can be said before TLS is agreed on, which is work that a full server does not take on.
            return;
        };
        let line = Line {
            router: self.router.clone(),
            config: Arc::clone(&self.config),
            peer,
            shutdown: self.shutdown.clone(),
            cut_off: self.cut_off.clone(),
        };
        match self.tls.clone() {
            None => {
                self.connections.spawn(async move {
                    line.serve(stream).await;
                    drop(slot);
                });
            }
            Some(acceptor) => {
                self.connections.spawn(async move {
                    // Beside the other connections: a peer that is slow to agree holds up nobody.
                    if let Some(stream) = line.agree(&acceptor, stream).await {
                        line.serve(stream).await;
                    }
                    drop(slot);
                });
            }
        }
    }

    /// Waits for what is in flight.
    async fn finish(self) {
        self.connections.close();
        let grace = self.config.shutdown_grace;
        if tokio::time::timeout(grace, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = self.connections.len(),
                "some requests were not answered in time and are cut off"
            );
            self.cut_off.cancel();
            self.connections.wait().await;
        }
    }
}

/// Answers are small and awaited: sending them at once is what matters. And a peer that is gone without a word is
/// given up when it has not acknowledged anything for a while; the system's own patience is a quarter of an hour.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MILLIS)?;
    Ok(())
}

/// One connection.
struct Line {
    router: Router,
    config: Arc<Config>,
    peer: SocketAddr,
    shutdown: CancellationToken,
    cut_off: CancellationToken,
}

impl Line {
    /// Agrees on TLS; none when that fails or takes too long.
    async fn agree(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
    ) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(self.config.opening_timeout, acceptor.accept(stream)) => agreed,
            () = self.shutdown.cancelled() => return None,
        };
        let error = match agreed {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error,
            Err(_) => std::io::ErrorKind::TimedOut.into(),
        };
        tracing::debug!(%error, peer = %self.peer, "no agreement on TLS");
        None
    }

    /// Answers requests until the connection ends.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let Self {
            router, config, peer, ..
        } = self;
        let standing = Arc::new(Standing::default());
        let origin = Peer {
            address: peer.ip(),
            standing: Arc::clone(&standing),
        };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            origin.standing.note_request();
            request.extensions_mut().insert(origin.clone());
            router.clone().call(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.idle_timeout)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(TokioIo::new(Patient::new(stream, config.stall_timeout)), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = never_asked(&standing, config.opening_timeout) => {
                tracing::debug!(%peer, "a connection asked nothing in time");
                return;
            }
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection.as_mut() => result,
                    () = self.cut_off.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    }
}

/// Ends when no request has come by then. A connection that was opened and says nothing, or a little at a time, is
/// not given the time that one between two requests has.
async fn never_asked(standing: &Standing, patience: Duration) {
    // In a box of its own, so that it takes no room once it is over.
    Box::pin(tokio::time::sleep(patience)).await;
    if standing.has_asked() {
        std::future::pending::<()>().await;
    }
}
