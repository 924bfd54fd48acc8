//! A peer that says what a test wants it to say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::super::serving::Serving;

/// What a peer does with a request.
pub(super) enum Does {
    Say(Value),
    Refuse(u16, Value),
    Wait(u64),
    Redirect,
    Hang,
    Flood,
    Text(&'static str),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) what: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

type Manner = dyn Fn(&Asked, usize) -> Does + Send + Sync;

struct Inner {
    asked: Mutex<Vec<Asked>>,
    manner: Box<Manner>,
}

/// A peer on a port of its own.
pub(super) struct Stub {
    serving: Serving,
    inner: Arc<Inner>,
}

impl Stub {
    /// A peer without a card. `manner` gets each request, and how many of the same came before it.
    pub(super) async fn new(manner: impl Fn(&Asked, usize) -> Does + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner {
            asked: Mutex::default(),
            manner: Box::new(manner),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        Self {
            serving: Serving::start(router).await,
            inner,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    /// The requests of this kind, such as `POST /message:send`.
    pub(super) fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.inner.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.what == what).cloned().collect()
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked {
        what: format!("{method} {}", uri.path()),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let before = {
        let mut all = inner.asked.lock().unwrap();
        all.push(asked.clone());
        all.iter().filter(|other| other.what == asked.what).count() - 1
    };
    match (inner.manner)(&asked, before) {
        Does::Say(value) => value.to_string().into_response(),
        Does::Refuse(status, value) => {
            (StatusCode::from_u16(status).unwrap(), value.to_string()).into_response()
        }
        Does::Wait(seconds) => {
            let busy = (
                StatusCode::TOO_MANY_REQUESTS,
                [("retry-after", seconds.to_string())],
                "busy",
            );
            busy.into_response()
        }
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
        Does::Text(text) => text.into_response(),
    }
}

/// The peer's task in this state, with more members.
pub(super) fn task(state: &str, more: &Value) -> Value {
    let mut task =
        json!({"id": "far-1", "contextId": "c", "status": {"state": format!("TASK_STATE_{state}")}});
    for (name, value) in more.as_object().unwrap() {
        task[name] = value.clone();
    }
    task
}

/// The same with something said.
pub(super) fn saying(state: &str, text: &str) -> Value {
    let message = json!({"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": text}]});
    task(
        state,
        &json!({"status": {"state": format!("TASK_STATE_{state}"), "message": message}}),
    )
}
