//! Streams of events: pages from the store, sent as fast as the reader takes them.
//!
//! A stream holds one page and a position, never a queue: the next page is read when the connection has taken the
//! last one. A reader that stops reading is disconnected by its connection ([`crate::patience`]), and resumes from the
//! store.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::event::Event;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::Span;
use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::access::directory::Pass;
use crate::app::App;
use crate::view;

/// Events of one page.
const PAGE: usize = 256;
/// A line without meaning is sent after so long without events, so that dead connections are noticed and proxies
/// keep live ones.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Who finds no place is told to come back after so long.
const PATIENCE: Span = Span::from_secs(5);
/// How long to wait when the signal was ahead of what could be read.
const CATCH_UP: Duration = Duration::from_millis(10);

/// Where a reader is.
pub(crate) struct EventStream {
    app: App,
    last_seq: watch::Receiver<u64>,
    /// The last event that was sent.
    position: u64,
    greeted: bool,
    /// The token that opened it: the stream ends with it.
    pass: Option<Pass>,
    /// One of the streams that may be open.
    _place: OwnedSemaphorePermit,
}

impl EventStream {
    /// A stream of what happened after `since`.
    ///
    /// # Errors
    /// When as many streams are open as may be.
    pub(crate) fn open(app: App, since: u64, pass: Option<Pass>) -> Result<Self, Rejection> {
        let place = place(&app)?;
        Ok(Self {
            last_seq: app.handle.last_seq(),
            app,
            position: since,
            greeted: false,
            pass,
            _place: place,
        })
    }

    /// The body that sends it.
    pub(crate) fn into_body(self) -> Body {
        Body::from_stream(futures_util::stream::unfold(self, async |mut stream| {
            let chunk = stream.next().await?;
            Some((Ok::<_, Infallible>(chunk), stream))
        }))
    }

    /// The next piece; none when the server stops, the token is revoked, or the store cannot be read. The reader then
    /// comes back.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            // Sends the head at once, and says how soon to come back after an interruption.
            return Some(Bytes::from_static(b"retry: 1000\n\n"));
        }
        let (app, pass) = (self.app.clone(), self.pass);
        look_at_token(&app, pass).await;
        tokio::select! {
            biased;
            () = until_over(&app, pass) => None,
            chunk = self.advance() => chunk,
        }
    }

    async fn advance(&mut self) -> Option<Bytes> {
        loop {
            let last = *self.last_seq.borrow_and_update();
            if last > self.position {
                let since = self.position;
                let page = self
                    .app
                    .handle
                    .query(move |reader| reader.events(since, PAGE))
                    .await;
                match page {
                    Ok(events) => match events.last() {
                        Some(event) => {
                            self.position = event.seq;
                            return Some(messages(&events).into());
                        }
                        None => tokio::time::sleep(CATCH_UP).await,
                    },
                    Err(refusal) => {
                        tracing::warn!(%refusal, "a stream of events ends: the store could not be read");
                        return None;
                    }
                }
                continue;
            }
            match timeout(KEEP_ALIVE, self.last_seq.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None, // The engine is gone.
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

/// One of the streams that may be open.
///
/// # Errors
/// When all of them are.
pub(crate) fn place(app: &App) -> Result<OwnedSemaphorePermit, Rejection> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Rejection::new(
            Slug::Overloaded,
            "as many event streams are open as this server can feed",
        )
        .retry_after(Some(PATIENCE))
    })
}

/// Sees to it that a stream notices when its token was revoked elsewhere: a busy one never rests long enough for the
/// watch of [`until_over`].
pub(crate) async fn look_at_token(app: &App, pass: Option<Pass>) {
    if let Some(pass) = pass {
        let _ = app.directory.find(&pass.digest, false).await;
    }
}

/// Waits until a stream must end: the server stops, or the token that opened it is revoked.
pub(crate) async fn until_over(app: &App, pass: Option<Pass>) {
    tokio::select! {
        biased;
        () = app.shutdown.cancelled() => {}
        () = app.until_revoked(pass) => {}
        () = watch_tokens(app, pass) => {}
    }
}

/// Sees to it that a token which is revoked elsewhere is missed here as well. Does not end.
async fn watch_tokens(app: &App, pass: Option<Pass>) {
    match pass {
        Some(pass) => app.directory.look_again(pass).await,
        None => std::future::pending().await,
    }
}

/// Events as messages of the stream.
fn messages(events: &[Event]) -> String {
    let mut text = String::with_capacity(events.len() * 256);
    for event in events {
        match serde_json::to_string(&view::ops::event(event)) {
            // JSON on one line, but a stored payload may have line breaks between its tokens.
            Ok(json) => {
                let data = json.replace(['\n', '\r'], " ");
                let _ = write!(text, "id: {}\ndata: {data}\n\n", event.seq);
            }
            Err(error) => tracing::error!(seq = event.seq, %error, "an event could not be written as JSON"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use adjutant_core::event::EventKind;
    use adjutant_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_message_is_one_line_of_json_with_its_number() {
        let event = Event {
            seq: 7,
            kind: EventKind::TaskCreated,
            task: None,
            agent: Some("a".into()),
            at: Timestamp::EPOCH,
            payload: Some("{\n\"k\": 1}".into()),
        };
        let text = messages(&[event.clone(), event]);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("id: 7"));
        let data = lines.next().unwrap().strip_prefix("data: ").unwrap();
        let json: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (json["type"].as_str(), json["payload"]["k"].as_i64()),
            (Some("task_created"), Some(1))
        );
        assert_eq!(lines.next(), Some(""));
        assert_eq!(text.matches("id: 7\n").count(), 2);
    }
}
