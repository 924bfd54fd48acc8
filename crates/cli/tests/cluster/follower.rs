//! Somebody who follows the events of one server as a stream, until one of the two goes away.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::api::Api;

/// A stream of events that is open.
pub(crate) struct Follower {
    stream: TcpStream,
    events: Receiver<(u64, Value)>,
}

impl Follower {
    /// Follows what happened after an event. A server that takes no connections, or none of these, is an error.
    pub(crate) fn after(api: &Api, last: u64) -> io::Result<Self> {
        let mut stream = TcpStream::connect(&api.address)?;
        // HTTP 1.0 has no chunks: what comes behind the head is the stream itself.
        write!(
            stream,
            "GET /api/events HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\
             Last-Event-ID: {last}\r\n\r\n",
            api.address, api.token
        )?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        if !first.contains(" 200 ") {
            return Err(io::Error::new(ErrorKind::ConnectionRefused, first));
        }
        let (send, events) = channel();
        thread::spawn(move || read(lines.map_while(Result::ok), &send));
        Ok(Self { stream, events })
    }

    /// The next event with the id of its message; none when the stream has ended, and an error when it is silent.
    pub(crate) fn next(&self, patience: Duration) -> Result<Option<(u64, Value)>, Duration> {
        match self.events.recv_timeout(patience) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(patience),
        }
    }
}

impl Drop for Follower {
    /// Its thread ends with the connection.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Gives each message once it is there to its end.
fn read(lines: impl Iterator<Item = String>, events: &Sender<(u64, Value)>) {
    let (mut id, mut data) = (None, None);
    for line in lines {
        if let Some(text) = line.strip_prefix("id: ") {
            id = Some(text.parse().unwrap());
        } else if let Some(text) = line.strip_prefix("data: ") {
            data = Some(serde_json::from_str(text).unwrap());
        } else if line.is_empty()
            && let (Some(id), Some(data)) = (id.take(), data.take())
            && events.send((id, data)).is_err()
        {
            return;
        }
    }
}
