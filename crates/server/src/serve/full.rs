//! When there is no room for one more connection: it is told so at once, instead of being left to wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adjutant_core::rejection::{Rejection, Slug};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::failure::error_body;

/// Connections that are being told; beyond that they are just closed. Each has a file descriptor of its own.
pub(super) const MAX_TOLD: usize = 64;
/// How long telling may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of the request before it is answered: closing a connection with unread bytes would lose the answer.
const MAX_READ_BYTES: usize = 16 << 10;

/// Tells a connection that there is no room, beside everything else.
pub(super) fn turn_away(told: &Arc<Semaphore>, mut stream: TcpStream) {
    let Ok(place) = Arc::clone(told).try_acquire_owned() else {
        return;
    };
    tokio::spawn(async move {
        // Whoever does not listen is left alone.
        let _ = timeout(PATIENCE, tell(&mut stream)).await;
        drop(place);
    });
}

async fn tell(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut read = Vec::with_capacity(1 << 10);
    while read.len() < MAX_READ_BYTES && !read.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer().as_bytes()).await?;
    stream.shutdown().await?;
    // Until the peer closes as well.
    while stream.read_buf(&mut read).await? > 0 && read.len() < 4 * MAX_READ_BYTES {}
    Ok(())
}

fn answer() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let no = Rejection::new(
            Slug::Overloaded,
            "the server has as many connections as it can serve",
        );
        let body = serde_json::to_string(&error_body(no)).unwrap_or_default();
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Retry-After: 1\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    })
}
