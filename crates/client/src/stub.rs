//! A scripted HTTP server for tests: it listens on a free port of 127.0.0.1 and answers as the test says.
//!
//! Each request is handed to the test as an [`Exchange`], which answers it, breaks its connection, or leaves it
//! waiting. Only what the clients here need of HTTP is understood.

use std::fmt::Write as _;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The server. It ends when it is dropped.
pub struct Stub {
    /// Where it listens, such as `http://127.0.0.1:34567`.
    pub url: String,
    requests: mpsc::UnboundedReceiver<Exchange>,
    accepting: JoinHandle<()>,
}

/// A request that waits for its answer.
pub struct Exchange {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header lines as they came, in lower case.
    pub headers: String,
    /// The body; null when it is not JSON.
    pub body: Value,
    answer: oneshot::Sender<Answer>,
}

enum Answer {
    Whole(String),
    /// Sent as it is; the connection is closed after it.
    Raw(String),
}

impl Stub {
    /// Starts to listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, sender.clone()));
            }
        });
        Self {
            url,
            requests,
            accepting,
        }
    }

    /// The next request of any kind.
    pub async fn next(&mut self) -> Exchange {
        let wait = tokio::time::timeout(std::time::Duration::from_secs(20), self.requests.recv());
        wait.await
            .expect("a request within 20 s")
            .expect("the stub is running")
    }

    /// The next request, if one is there already.
    pub fn try_next(&mut self) -> Option<Exchange> {
        self.requests.try_recv().ok()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Exchange {
    /// Answers with JSON.
    pub fn json(self, status: u16, body: &Value) {
        self.with_headers(status, "", body);
    }

    /// Answers with JSON and more header lines, each ended by `\r\n`.
    pub fn with_headers(self, status: u16, headers: &str, body: &Value) {
        let body = body.to_string();
        let mut text = String::new();
        write!(
            text,
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a string takes everything");
        self.send(Answer::Whole(text));
    }

    /// Answers with an error of this API.
    pub fn refuse(self, status: u16, slug: &str) {
        let body = serde_json::json!({
            "code": status, "message": format!("refused: {slug}"), "details": "", "error": slug,
            "retryable": matches!(status, 429 | 503),
        });
        self.json(status, &body);
    }

    /// Sends these bytes and closes the connection.
    pub fn raw(self, text: impl Into<String>) {
        self.send(Answer::Raw(text.into()));
    }

    /// Closes the connection without an answer.
    pub fn hang_up(self) {
        drop(self);
    }

    /// Whether whoever asked has given up waiting.
    pub async fn abandoned(mut self) {
        let wait = tokio::time::timeout(std::time::Duration::from_secs(20), self.answer.closed());
        wait.await.expect("the request is abandoned within 20 s");
    }

    fn send(self, answer: Answer) {
        // Whoever asked may have given up: that is for the test to find out.
        drop(self.answer.send(answer));
    }
}

async fn serve(stream: TcpStream, requests: mpsc::UnboundedSender<Exchange>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let head = read_head(&mut stream).await?;
        let (request_line, headers) = head.split_once("\r\n")?;
        let headers = headers.to_lowercase();
        let mut words = request_line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(Some(0), |length| length.trim().parse().ok())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let (answer, answered) = oneshot::channel();
        requests
            .send(Exchange {
                method,
                path,
                headers,
                body: serde_json::from_slice(&body).unwrap_or_default(),
                answer,
            })
            .ok()?;
        let mut byte = [0];
        tokio::select! {
            answer = answered => match answer.ok()? {
                Answer::Whole(text) => stream.write_all(text.as_bytes()).await.ok()?,
                Answer::Raw(text) => {
                    stream.write_all(text.as_bytes()).await.ok()?;
                    return None;
                }
            },
            // The other side closed, or broke the rules: nothing more comes before the answer.
            _ = stream.read(&mut byte) => return None,
        }
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
