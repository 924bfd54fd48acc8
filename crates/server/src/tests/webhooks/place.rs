//! A place that is told of events, and does with them what a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use sha2::Sha256;

use super::super::serving::Serving;

/// What a place does with a message.
pub(super) enum Does {
    Take,
    Refuse(u16),
    Redirect,
    Hang,
    Flood,
}

/// A message that came.
#[derive(Clone, Debug)]
pub(super) struct Message {
    headers: HeaderMap,
    text: String,
    pub(super) body: Value,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The task that it is about.
    pub(super) fn task(&self) -> &str {
        self.body["data"]["task_id"].as_str().unwrap_or_default()
    }

    /// Whether the holder of the secret signed it: as receivers do it, and not as the server does.
    pub(super) fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        for part in [
            self.header("webhook-id"),
            ".",
            self.header("webhook-timestamp"),
            ".",
        ] {
            mac.update(part.as_bytes());
        }
        mac.update(self.text.as_bytes());
        let expected = STANDARD.encode(mac.finalize().into_bytes());
        self.header("webhook-signature") == format!("v1,{expected}")
    }
}

type Manner = dyn Fn(&Message, usize) -> Does + Send + Sync;

struct Inner {
    came: Mutex<Vec<Message>>,
    /// How many are being answered, and the most that were at a time.
    at_once: (AtomicUsize, AtomicUsize),
    manner: Box<Manner>,
}

/// A place on a port of its own.
pub(super) struct Place {
    serving: Serving,
    inner: Arc<Inner>,
}

impl Place {
    /// `manner` gets each message, and how many with the same id came before it.
    pub(super) async fn new(manner: impl Fn(&Message, usize) -> Does + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner {
            came: Mutex::default(),
            at_once: Default::default(),
            manner: Box::new(manner),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        Self {
            serving: Serving::start(router).await,
            inner,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.serving.address)
    }

    pub(super) fn came(&self) -> Vec<Message> {
        self.inner.came.lock().unwrap().clone()
    }

    /// The most messages that were here at a time.
    pub(super) fn most_at_once(&self) -> usize {
        self.inner.at_once.1.load(Ordering::Relaxed)
    }

    /// The tasks of the messages, in the order of their names.
    pub(super) fn tasks(&self) -> Vec<String> {
        let mut tasks: Vec<_> = self
            .came()
            .iter()
            .map(|message| message.task().to_owned())
            .collect();
        tasks.sort();
        tasks
    }
}

/// A message that is being answered.
struct Here<'a>(&'a Inner);

impl<'a> Here<'a> {
    fn new(inner: &'a Inner) -> Self {
        let here = inner.at_once.0.fetch_add(1, Ordering::Relaxed) + 1;
        inner.at_once.1.fetch_max(here, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.at_once.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let message = Message {
        headers,
        body: serde_json::from_str(&text).unwrap(),
        text,
    };
    let before = {
        let mut came = inner.came.lock().unwrap();
        let same = |other: &&Message| other.header("webhook-id") == message.header("webhook-id");
        let before = came.iter().filter(same).count();
        came.push(message.clone());
        before
    };
    let _here = Here::new(&inner);
    match (inner.manner)(&message, before) {
        Does::Take => StatusCode::NO_CONTENT.into_response(),
        Does::Refuse(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Does::Redirect => (StatusCode::FOUND, [("location", "http://169.254.169.254/")]).into_response(),
        Does::Hang => std::future::pending().await,
        Does::Flood => {
            let chunk = Bytes::from(vec![b' '; 1 << 20]);
            let chunks =
                futures_util::stream::iter(0..100).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
            Body::from_stream(chunks.then(|chunk| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                chunk
            }))
            .into_response()
        }
    }
}
