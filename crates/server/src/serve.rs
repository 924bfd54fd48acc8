//! Serving: connections come in, requests go to the router, and all of it ends in good order.
//!
//! A connection costs little, because an agent that waits holds one: a small read buffer, no copy of the router, and
//! a timer only where something is waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adjutant_engine::{Handle, Refusal};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use crate::access::guard::Peer;
use crate::app::App;
use crate::config::Config;
use crate::patience::Patient;

/// The most bytes of a request's head, and of what is read of a connection at a time.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// How long to wait when the system has no file or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Serves until `shutdown`, then answers what is in flight and returns.
///
/// At shutdown no more connections are accepted and idle ones are closed. Calls that wait in the engine are answered
/// by it once it is told to stop, which the caller does at the same time; what is not answered within
/// [`Config::shutdown_grace`] is cut off.
///
/// # Errors
/// When it cannot start: the configuration is wrong, or the store does not give its secret and its tokens.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let app = App::open(handle, config.clone(), shutdown.clone()).await?;
    Server::new(app.router(), config, shutdown).run(listener).await;
    Ok(())
}

struct Server {
    router: Router,
    /// One for each connection that may be open.
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    config: Config,
    shutdown: CancellationToken,
    /// Ends what was not answered in time.
    cut_off: CancellationToken,
}

impl Server {
    fn new(router: Router, config: Config, shutdown: CancellationToken) -> Self {
        Self {
            router,
            slots: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            connections: TaskTracker::new(),
            config,
            shutdown,
            cut_off: CancellationToken::new(),
        }
    }

    /// Serves until the server is to stop, and what is in flight then.
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
                accepted = self.next(listener) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => self.connect(stream, peer, slot),
                Err(error) => {
                    // Mostly a peer that left again, or no file descriptors for now: neither ends a server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(std::io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        // Answers are small and awaited: sending them at once is what matters.
        stream.set_nodelay(true)?;
        Ok((stream, peer, slot))
    }

    fn connect(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let router = self.router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            router.clone().call(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.idle_timeout)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(
                TokioIo::new(Patient::new(stream, self.config.stall_timeout)),
                service,
            );
        let (shutdown, cut_off) = (self.shutdown.clone(), self.cut_off.clone());
        self.connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = connection.as_mut() => result,
                        () = cut_off.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(slot);
        });
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

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::body::BodyBounds;
    use crate::failure::Failure;

    struct Running {
        address: SocketAddr,
        shutdown: CancellationToken,
        server: JoinHandle<()>,
    }

    async fn run(router: Router, config: Config) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(Server::new(router, config, shutdown.clone()).run(listener));
        Running {
            address,
            shutdown,
            server,
        }
    }

    impl Running {
        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }
    }

    async fn read_all(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// A router whose handler says that it began, and answers when it is let go.
    fn waiting(began: &Arc<Notify>, go: &Arc<Notify>) -> Router {
        let (began, go) = (Arc::clone(began), Arc::clone(go));
        let handler = move || async move {
            began.notify_one();
            go.notified().await;
            "done"
        };
        Router::new().route("/wait", get(handler))
    }

    #[tokio::test]
    async fn what_is_in_flight_at_shutdown_is_answered() {
        let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let running = run(waiting(&began, &go), Config::default()).await;
        let idle = running.send("").await;
        let asked = running.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        began.notified().await;
        running.shutdown.cancel();
        // An idle connection ends at once, while the other still waits for its answer.
        assert_eq!(read_all(idle).await, "");
        go.notify_one();
        assert!(read_all(asked).await.ends_with("done"));
        running.server.await.unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn what_hangs_at_shutdown_is_cut_off_after_the_grace() {
        let (began, never) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let config = Config {
            shutdown_grace: Duration::from_millis(20),
            ..Config::default()
        };
        let running = run(waiting(&began, &never), config).await;
        let asked = running.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        began.notified().await;
        running.shutdown.cancel();
        running.server.await.unwrap();
        assert_eq!(read_all(asked).await, "");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let running = run(Router::new(), Config::default()).await;
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            "x".repeat(MAX_BUFFER_BYTES)
        );
        assert!(
            read_all(running.send(&head).await)
                .await
                .starts_with("HTTP/1.1 431 ")
        );
    }

    #[tokio::test]
    async fn who_sends_too_much_still_sees_the_answer() {
        let bounds = Arc::new(BodyBounds::new(1 << 30, Duration::from_secs(5)));
        let handler = move |request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            bounds
                .read(&parts.headers, body, 1_000)
                .await
                .map(|_| ())
                .map_err(Failure)
        };
        let running = run(Router::new().route("/", post(handler)), Config::default()).await;
        let body = "x".repeat(8 << 20);
        let length = body.len();
        let head =
            format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let stream = running.send(&(head + &body)).await;
        assert!(read_all(stream).await.starts_with("HTTP/1.1 413 "));
    }
}
