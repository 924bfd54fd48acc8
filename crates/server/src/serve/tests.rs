//! Connections, as clients meet them.

use axum::http::Request;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

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
    let server = tokio::spawn(Front::new(router, config, shutdown.clone()).run(listener));
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
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let stream = running.send(&(head + &body)).await;
    assert!(read_all(stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn when_there_is_no_room_a_connection_is_told_so_at_once() {
    let config = Config {
        max_connections: 1,
        ..Config::default()
    };
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = run(waiting(&began, &go), config).await;
    let request = "GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let first = running.send(request).await;
    began.notified().await;
    let refused = read_all(running.send(request).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("Retry-After: 1\r\n"), "{refused}");
    assert!(refused.contains(r#""error":"overloaded""#), "{refused}");
    go.notify_one();
    assert!(read_all(first).await.ends_with("done"));
    // The slot is free again.
    let second = running.send(request).await;
    began.notified().await;
    go.notify_one();
    assert!(read_all(second).await.ends_with("done"));
}

#[tokio::test]
async fn a_connection_that_asks_nothing_or_a_little_at_a_time_is_closed() {
    let config = Config {
        opening_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_mins(1),
        ..Config::default()
    };
    let running = run(Router::new().route("/", get(|| async { "done" })), config).await;
    let silent = running.send("").await;
    let slow = running.send("GET / HTTP/1.1\r\nHo").await;
    // One that has asked may rest for longer.
    let mut asked = running.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(read_all(silent).await, "");
    assert_eq!(read_all(slow).await, "");
    tokio::time::sleep(Duration::from_millis(200)).await;
    asked
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_all(asked).await.matches("HTTP/1.1 200 ").count(), 2);
}

/// A server that speaks TLS, and how to trust it.
async fn run_tls(config: Config) -> (Running, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("crt"), directory.path().join("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let config = Config {
        tls: Some(tls::Tls::read(&certificate, &key).unwrap()),
        ..config
    };
    let router = Router::new().route("/", get(|| async { "done" }));
    (run(router, config).await, Arc::new(client).into())
}

#[tokio::test]
async fn over_tls_requests_are_answered_and_plain_text_is_not() {
    let (running, connector) = run_tls(Config::default()).await;
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut stream = connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.ends_with("done"),
        "{text}"
    );
    let mut plain = running.send(request).await;
    let mut answer = Vec::new();
    // An alert of TLS, or nothing.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"));
}

#[tokio::test]
async fn who_never_agrees_on_tls_holds_up_nobody_and_is_closed() {
    let (running, connector) = run_tls(Config {
        opening_timeout: Duration::from_millis(300),
        ..Config::default()
    })
    .await;
    let silent = running.send("").await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    // While the silent one still may speak.
    connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    assert_eq!(read_all(silent).await, "");
}
