//! Events: a page of them, or all that come, over any number of connections.

use std::collections::VecDeque;
use std::time::Duration;

use adjutant_wire::Event;
use futures_util::Stream;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, Url};

use crate::request::refusal;
use crate::sse::Parser;
use crate::{Backoff, Client, Error};

/// A connection on which nothing came for so long, not even a comment, is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// The first attempt to connect again waits about this long.
const RECONNECT_BASE: Duration = Duration::from_millis(200);
/// Attempts to connect again are at most so far apart.
const RECONNECT_CAP: Duration = Duration::from_secs(5);

impl Client {
    /// Up to `limit` events after `since` (0 for the first), oldest first.
    pub async fn events(&self, since: u64, limit: Option<u32>) -> Result<Vec<Event>, Error> {
        self.call(Method::GET, &["api", "events"])
            .query("since", since.to_string())
            .maybe_query("limit", limit.map(|limit| limit.to_string()))
            .json()
            .await
    }

    /// All events after `since`, as they happen, each once and in order, without an end.
    ///
    /// When the connection breaks the stream waits and goes on where it stopped. It ends after an error: when the
    /// server cannot be reached at the start, and whenever it refuses for good.
    pub fn follow_events(&self, since: u64) -> impl Stream<Item = Result<Event, Error>> + Send + use<> {
        let follower = Follower {
            client: self.clone(),
            last: since,
            connection: None,
            ready: VecDeque::new(),
            backoff: Backoff::new(RECONNECT_BASE, RECONNECT_CAP),
            connected_once: false,
        };
        futures_util::stream::unfold(Some(follower), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Ok(event) => Some((Ok(event), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Follower {
    client: Client,
    /// The last event that was given out.
    last: u64,
    connection: Option<Connection>,
    ready: VecDeque<Event>,
    backoff: Backoff,
    connected_once: bool,
}

struct Connection {
    url: Url,
    response: Response,
    parser: Parser,
}

impl Follower {
    async fn next(&mut self) -> Result<Event, Error> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                // After a reconnect the server may begin earlier than asked.
                if event.seq > self.last {
                    self.last = event.seq;
                    return Ok(event);
                }
            }
            let step = match &mut self.connection {
                Some(connection) => connection.read().await,
                None => self.connect().await.map(|()| Vec::new()),
            };
            match step {
                Ok(events) => {
                    if !events.is_empty() {
                        self.backoff.reset();
                    }
                    self.ready.extend(events);
                }
                Err(error) if self.connected_once && error.is_retryable() => {
                    self.connection = None;
                    let wait = error
                        .retry_after()
                        .unwrap_or_default()
                        .clamp(self.backoff.next_wait(), RECONNECT_CAP);
                    tracing::warn!(%error, ?wait, "the event stream broke; connecting again");
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let inner = &self.client.inner;
        let mut url = inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "events"]);
        }
        let last = self.last.to_string();
        url.query_pairs_mut().append_pair("since", &last);
        let request = inner
            .http
            .get(url.clone())
            .header(ACCEPT, "text/event-stream")
            .header("Last-Event-ID", last)
            .send();
        let response = tokio::time::timeout(inner.timeout, request)
            .await
            .map_err(|_| silent(&url))?
            .map_err(|error| Error::transport(&url, error))?;
        if !response.status().is_success() {
            return Err(refusal(response, &url).await);
        }
        self.connected_once = true;
        self.connection = Some(Connection {
            url,
            response,
            parser: Parser::default(),
        });
        Ok(())
    }
}

impl Connection {
    async fn read(&mut self) -> Result<Vec<Event>, Error> {
        let chunk = tokio::time::timeout(SILENCE, self.response.chunk())
            .await
            .map_err(|_| silent(&self.url))?
            .map_err(|error| Error::transport(&self.url, error))?
            .ok_or_else(|| Error::Transport {
                what: format!(
                    "{} ended the event stream",
                    self.url.origin().ascii_serialization()
                ),
                unreachable: false,
                source: None,
            })?;
        let texts = self
            .parser
            .push(&chunk)
            .map_err(|_| Error::unexpected(&self.url, "an event is too large"))?;
        texts
            .iter()
            .map(|text| {
                serde_json::from_str(text).map_err(|error| {
                    Error::unexpected(&self.url, format!("an event cannot be read: {error}"))
                })
            })
            .collect()
    }
}

fn silent(url: &Url) -> Error {
    Error::Transport {
        what: format!("{} has gone silent", url.origin().ascii_serialization()),
        unreachable: false,
        source: None,
    }
}
