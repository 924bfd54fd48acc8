//! The pulse: tells open pages that something has changed, once in a second at most.
//!
//! One watch for all: between two beats nobody is woken, however many events there are, and a beat costs each page one
//! line. What has changed, the pages ask for.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::access::caller::Caller;
use crate::access::directory::Pass;
use crate::app::App;
use crate::failure::Failure;
use crate::reply;
use crate::stream::{KEEP_ALIVE, look_at_token, place, until_over};

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// The number of the last event that pages were told of.
pub(super) struct Pulse(watch::Receiver<u64>);

impl Pulse {
    /// Beats until the server stops.
    pub(super) fn start(mut last_seq: watch::Receiver<u64>, shutdown: CancellationToken) -> Self {
        let (beat, beats) = watch::channel(*last_seq.borrow());
        tokio::spawn(async move {
            let beating = async {
                while last_seq.changed().await.is_ok() {
                    beat.send_replace(*last_seq.borrow_and_update());
                    tokio::time::sleep(BEAT).await;
                }
            };
            tokio::select! {
                () = beating => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self(beats)
    }

    /// The number of the last event that pages were told of.
    pub(super) fn told(&self) -> u64 {
        *self.0.borrow()
    }
}

/// A page that listens.
struct Listener {
    app: App,
    beats: watch::Receiver<u64>,
    greeted: bool,
    /// The token that opened it: the stream ends with it.
    pass: Option<Pass>,
    /// One of the streams that may be open.
    _place: OwnedSemaphorePermit,
}

/// The stream of beats.
pub(super) async fn follow(State(app): State<App>, caller: Caller) -> Result<Response, Failure> {
    let listener = Listener {
        _place: place(&app)?,
        beats: app.dashboard.pulse.0.clone(),
        app,
        greeted: false,
        pass: caller.pass,
    };
    let body = Body::from_stream(futures_util::stream::unfold(listener, async |mut listener| {
        let chunk = listener.next().await?;
        Some((Ok::<_, Infallible>(chunk), listener))
    }));
    Ok(reply::events(body))
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            // What happened while the page was on its way is told with the first beat.
            self.beats.mark_changed();
            return Some(Bytes::from_static(b"retry: 1000\n\n"));
        }
        look_at_token(&self.app, self.pass).await;
        let beat = timeout(KEEP_ALIVE, self.beats.changed());
        tokio::select! {
            biased;
            () = until_over(&self.app, self.pass) => None,
            beat = beat => match beat {
                Ok(Ok(())) => {
                    let seq = *self.beats.borrow_and_update();
                    Some(format!("data: {seq}\n\n").into())
                }
                Ok(Err(_)) => None, // The server stops.
                Err(_) => Some(Bytes::from_static(b":\n\n")),
            },
        }
    }
}
