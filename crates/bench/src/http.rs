//! HTTP/1.1 on one connection that stays open: as little as a measurement needs.
//!
//! Answers must say their length, as those of the server do. One request at a time.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most bytes of an answer: a batch of tasks is the largest.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// A buffer that grew beyond this is not kept: thousands of connections are open at a time.
const KEPT_BYTES: usize = 16 << 10;

/// A connection to the server.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What every request says.
    common: Box<str>,
    written: Vec<u8>,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let common = format!(
            " HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        );
        Ok(Self {
            stream,
            common: common.into(),
            written: Vec::new(),
            read: Vec::new(),
        })
    }

    /// Sends a request and waits for its answer, which must be a success.
    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<&[u8]> {
        self.send(path, body).await?;
        self.receive(path).await
    }

    /// Puts something in place.
    pub(crate) async fn put(&mut self, path: &str, body: &[u8]) -> io::Result<&[u8]> {
        self.send_by("PUT", path, body).await?;
        self.receive(path).await
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, path: &str, body: &[u8]) -> io::Result<()> {
        self.send_by("POST", path, body).await
    }

    /// Asks for something, with more header lines, and waits for its answer, which must be a success.
    pub(crate) async fn get(&mut self, path: &str, headers: &str) -> io::Result<&[u8]> {
        self.ask(path, headers).await?;
        self.receive(path).await
    }

    /// Opens an event stream. Nothing else can be asked on this connection any more.
    pub(crate) async fn listen(&mut self, path: &str) -> io::Result<()> {
        self.ask(path, "").await?;
        self.read.clear();
        Ok(())
    }

    /// Waits for the next event of the stream.
    pub(crate) async fn beat(&mut self) -> io::Result<()> {
        loop {
            if let Some(event) = find(&self.read, b"data:") {
                self.read.drain(..event + 5);
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn ask(&mut self, path: &str, headers: &str) -> io::Result<()> {
        self.written.clear();
        write!(self.written, "GET {path}{}{headers}\r\n", self.common)?;
        self.stream.write_all(&self.written).await
    }

    async fn send_by(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        self.written.clear();
        write!(
            self.written,
            "{method} {path}{}Content-Length: {}\r\n\r\n",
            self.common,
            body.len()
        )?;
        self.written.extend_from_slice(body);
        self.stream.write_all(&self.written).await?;
        self.written.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Sends a request and waits for its answer, which may be a refusal; gives its status.
    pub(crate) async fn offer(&mut self, path: &str, body: &[u8]) -> io::Result<u16> {
        self.send(path, body).await?;
        self.read_answer().await?;
        let status = self
            .read
            .get(9..12)
            .and_then(|status| std::str::from_utf8(status).ok());
        status
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::other("an answer has no status"))
    }

    async fn receive(&mut self, path: &str) -> io::Result<&[u8]> {
        let (head, length) = self.read_answer().await?;
        if !self.read.starts_with(b"HTTP/1.1 2") {
            let answer = String::from_utf8_lossy(&self.read);
            let status = answer.lines().next().unwrap_or_default();
            let body = answer.get(head..).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{path} was answered with {status}: {body}"
            )));
        }
        Ok(&self.read[head..head + length])
    }

    /// Reads one answer whole; gives where its body begins and how long it is.
    async fn read_answer(&mut self) -> io::Result<(usize, usize)> {
        self.read.clear();
        self.read.shrink_to(KEPT_BYTES);
        let (head, length) = loop {
            if let Some(head) = find(&self.read, b"\r\n\r\n") {
                break (head + 4, content_length(&self.read[..head])?);
            }
            self.fill().await?;
        };
        while self.read.len() < head + length {
            self.fill().await?;
        }
        Ok((head, length))
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.read.len() > MAX_ANSWER_BYTES {
            return Err(io::Error::other("an answer is too long"));
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::Error::other(format!(
                "the server closed a connection, after {} bytes of an answer",
                self.read.len()
            ))),
            _ => Ok(()),
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    std::str::from_utf8(head)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .ok_or_else(|| io::Error::other("an answer does not say its length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_in_the_head() {
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: y").unwrap(),
            12
        );
        assert!(content_length(b"HTTP/1.1 200 OK\r\nx: content-length").is_err());
        assert_eq!(find(b"a\r\n\r\nb", b"\r\n\r\n"), Some(1));
    }
}
