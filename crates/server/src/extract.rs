//! Extractors: ids from paths, and bodies with all that goes with them.

use std::sync::Arc;
use std::time::Duration;

use adjutant_core::command::{IdempotencyKey, MAX_BATCH};
use adjutant_core::name::{AgentId, TaskId, check_id};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::Span;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::access::caller::Caller;
use crate::access::guard::Peer;
use crate::app::App;
use crate::body::Share;
use crate::failure::Failure;
use crate::json;
use crate::query::Params;

/// The most characters of an idempotency key.
const MAX_KEY_CHARS: usize = 255;

/// Whether a request says that it takes an answer of this type.
pub(crate) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|item| item.split(';').next())
        .any(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}

/// Something that is read from a body.
pub(crate) trait FromBody: Sized {
    /// Whether this is a batch, which may be larger.
    const BATCH: bool = false;

    /// Reads it. `most_bytes` is what one object may have.
    fn from_body(text: &[u8], most_bytes: usize) -> Result<Self, Rejection>;
}

/// An object that must be there.
pub(crate) struct Object<T>(pub(crate) T);

impl<T: DeserializeOwned> FromBody for Object<T> {
    fn from_body(text: &[u8], _: usize) -> Result<Self, Rejection> {
        json::object(text).map(Self)
    }
}

/// An object that may be left out: nothing at all, or `null`, then stands for one without fields.
pub(crate) struct MaybeObject<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromBody for MaybeObject<T> {
    fn from_body(text: &[u8], _: usize) -> Result<Self, Rejection> {
        if matches!(text.trim_ascii(), b"" | b"null") {
            return Ok(Self(T::default()));
        }
        json::object(text).map(Self)
    }
}

/// No fields are needed, and those that come are ignored.
#[derive(Default, Deserialize)]
pub(crate) struct Nothing {}

/// A list whose items are read one by one, so that a bad one fails alone.
pub(crate) struct Batch<T>(pub(crate) Vec<Result<T, Rejection>>);

impl<T: DeserializeOwned> FromBody for Batch<T> {
    const BATCH: bool = true;

    fn from_body(text: &[u8], most_bytes: usize) -> Result<Self, Rejection> {
        let items = json::list(text, MAX_BATCH)?.ok_or_else(|| {
            Rejection::new(
                Slug::BatchTooLarge,
                format!("a batch has at most {MAX_BATCH} items, and this one has more"),
            )
        })?;
        let read = |item: &RawValue| {
            let text = item.get().as_bytes();
            if text.len() > most_bytes {
                // What could not be sent alone cannot be sent in a batch.
                return Err(Rejection::new(
                    Slug::BodyTooLarge,
                    format!("an item has at most {most_bytes} bytes"),
                ));
            }
            json::object(text)
        };
        Ok(Self(items.into_iter().map(read).collect()))
    }
}

/// A request that submits tasks. It is refused before anything is made of its body when more of them wait than are soon
/// taken: a flood costs little.
///
/// The next one on the same connection is not looked at before the time that it was told to wait: who does not wait must
/// not take from agents the time that it takes to say no again and again.
pub(crate) struct Submission<T>(pub(crate) Input<T>);

/// After so long a submission that found no room is looked at again.
const ROOM_PAUSE: Span = Span::from_secs(1);

impl<T: FromBody> FromRequest<App> for Submission<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = &peer {
            peer.standing.until_looked_at().await;
        }
        if !app.handle.is_flooded() {
            return Input::from_request(request, app).await.map(Self);
        }
        let (parts, body) = request.into_parts();
        app.bodies.discard(&parts.headers, body).await;
        if let Some(peer) = &peer {
            peer.standing
                .put_off(Duration::from_micros(ROOM_PAUSE.as_micros().unsigned_abs()));
        }
        Err(Failure(
            Rejection::new(
                Slug::Overloaded,
                "more tasks are being submitted than the server can take in",
            )
            .retry_after(Some(ROOM_PAUSE)),
        ))
    }
}

/// A request that changes something: who asks, what, and under which key a repeat is recognised.
pub(crate) struct Input<T> {
    /// Who asks.
    pub(crate) caller: Caller,
    /// What the body says.
    pub(crate) body: T,
    /// The key, if there is one.
    pub(crate) idempotency: Option<IdempotencyKey>,
    /// What the body takes of the memory for bodies. It goes with the request, so that what waits for its turn is
    /// counted as well.
    _share: Share,
}

impl<T: FromBody> FromRequest<App> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, app).await?;
        let key = idempotency_key(&parts.method, &parts.headers)?;
        let limit = if T::BATCH {
            app.config.max_batch_body_bytes
        } else {
            app.config.max_body_bytes
        };
        let read = app.bodies.read(&parts.headers, body, limit).await?;
        let body = T::from_body(&read.bytes, app.config.max_body_bytes)?;
        let idempotency = key.map(|key| IdempotencyKey {
            token: caller.key_space(),
            key,
            digest: request_digest(&parts, &read.bytes),
        });
        Ok(Self {
            caller,
            body,
            idempotency,
            _share: read.share,
        })
    }
}

fn idempotency_key(method: &Method, headers: &HeaderMap) -> Result<Option<Arc<str>>, Rejection> {
    const NAME: &str = "Idempotency-Key";
    if method != Method::POST {
        return Ok(None);
    }
    let Some(value) = headers.get(NAME) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_KEY_CHARS || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Rejection::field(
            NAME,
            format_args!("must be 1 to {MAX_KEY_CHARS} visible ASCII characters"),
        ));
    }
    Ok(value.to_str().ok().map(Into::into))
}

/// What must be the same for a repeat: method, path and body.
fn request_digest(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(parts.method.as_str());
    digest.update([0]);
    digest.update(parts.uri.path_and_query().map_or("/", |path| path.as_str()));
    digest.update([0]);
    digest.update(body);
    digest.finalize().into()
}

/// A parameter of the path, decoded.
pub(crate) async fn path_param(parts: &mut Parts, name: &str) -> Result<String, Failure> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|error| {
            Failure(
                Rejection::new(
                    Slug::BadRequest,
                    format!("{name}: the path is not valid percent-encoding of UTF-8 text"),
                )
                .with_details(error.to_string()),
            )
        })?;
    params
        .iter()
        .find(|(own, _)| *own == name)
        .map(|(_, value)| value.to_owned())
        .ok_or_else(|| Failure::bug("a route lacks a parameter that its handler needs"))
}

/// The task that the path names.
pub(crate) struct TaskPath(pub(crate) TaskId);

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let id = path_param(parts, "id").await?;
        match check_id(&id) {
            Ok(()) => Ok(Self(id.into())),
            // No task can have such an id.
            Err(why) => Err(Failure(
                Rejection::new(Slug::TaskNotFound, format!("there is no task `{id}`"))
                    .with_details(format!("an id {why}")),
            )),
        }
    }
}

/// The agent that the path names.
pub(crate) struct AgentPath(pub(crate) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for AgentPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let id = path_param(parts, "id").await?;
        match check_id(&id) {
            Ok(()) => Ok(Self(id.into())),
            Err(why) => Err(Failure(
                Rejection::new(Slug::AgentNotFound, format!("there is no agent `{id}`"))
                    .with_details(format!("an id {why}")),
            )),
        }
    }
}

/// The agent whose allowance the path names: it need not be registered.
pub(crate) struct AllowancePath(pub(crate) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for AllowancePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let id = path_param(parts, "agent_id").await?;
        check_id(&id).map_err(|why| Rejection::field("agent_id", why))?;
        Ok(Self(id.into()))
    }
}

/// The webhook that the path names.
pub(crate) struct WebhookPath(pub(crate) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for WebhookPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let name = path_param(parts, "name").await?;
        match check_id(&name) {
            Ok(()) => Ok(Self(name.into())),
            Err(why) => Err(Failure(
                Rejection::new(Slug::WebhookNotFound, format!("no webhook `{name}`"))
                    .with_details(format!("a name {why}")),
            )),
        }
    }
}

/// The webhook that the path names, and the event.
pub(crate) struct DeliveryPath(pub(crate) Arc<str>, pub(crate) u64);

impl<S: Send + Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let WebhookPath(name) = WebhookPath::from_request_parts(parts, state).await?;
        let text = path_param(parts, "seq").await?;
        let seq = text.parse::<u64>().ok().filter(|seq| i64::try_from(*seq).is_ok());
        seq.map(|seq| Self(name, seq)).ok_or_else(|| {
            Failure(Rejection::new(
                Slug::DeliveryNotFound,
                format!("`{text}` is not the number of an event"),
            ))
        })
    }
}

/// All parameters of the path in their order, joined with slashes: names such as `owner/name` may be written with
/// the slash as it is or as `%2F`.
pub(crate) struct JoinedPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for JoinedPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let params = RawPathParams::from_request_parts(parts, &())
            .await
            .map_err(|error| {
                Failure(
                    Rejection::new(
                        Slug::BadRequest,
                        "the path is not valid percent-encoding of UTF-8 text",
                    )
                    .with_details(error.to_string()),
                )
            })?;
        let names: Vec<_> = params.iter().map(|(_, value)| value).collect();
        Ok(Self(names.join("/")))
    }
}

/// The query.
pub(crate) struct Query(pub(crate) Params);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(Params::parse(parts.uri.query())?))
    }
}

#[cfg(test)]
mod tests {
    use adjutant_wire as wire;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_bad_item_of_a_batch_fails_alone() {
        let Batch(items) = Batch::<wire::NewTask>::from_body(
            br#"[{"title": "a"}, {"title": 7}, [], {}, {"title": "a   "}]"#,
            14,
        )
        .unwrap();
        let slugs: Vec<_> = items
            .iter()
            .map(|item| item.as_ref().map_err(|no| no.slug).err())
            .collect();
        let wrong = Some(Slug::InvalidField);
        assert_eq!(slugs, [None, wrong, wrong, wrong, Some(Slug::BodyTooLarge)]);
    }

    #[test]
    fn a_batch_is_a_list_of_at_most_a_thousand() {
        let batch = |text: &str| {
            Batch::<Nothing>::from_body(text.as_bytes(), 99)
                .map(|batch| batch.0.len())
                .map_err(|no| no.slug)
        };
        let of = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(batch(&of(1_000)), Ok(1_000));
        assert_eq!(batch(&of(1_001)), Err(Slug::BatchTooLarge));
        // It is not read on: what comes then may be anything.
        assert_eq!(
            batch(&format!("{},[", of(1_001).trim_end_matches(']'))),
            Err(Slug::BatchTooLarge)
        );
        assert_eq!(batch("{}"), Err(Slug::InvalidField));
        assert_eq!(batch("[{]"), Err(Slug::MalformedJson));
    }

    #[test]
    fn an_absent_body_stands_for_an_empty_object_where_it_may_be_absent() {
        assert!(MaybeObject::<wire::Claim>::from_body(b" \n", 99).is_ok());
        assert!(MaybeObject::<wire::Claim>::from_body(b"{}", 99).is_ok());
        assert!(MaybeObject::<wire::Claim>::from_body(b" null\n", 99).is_ok());
        assert!(MaybeObject::<wire::Claim>::from_body(b"[]", 99).is_err());
        assert_eq!(
            Object::<wire::NewTask>::from_body(b"", 99).err().unwrap().slug,
            Slug::MalformedJson
        );
    }

    #[test]
    fn idempotency_keys_are_short_and_visible() {
        let key = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                "idempotency-key",
                HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            );
            idempotency_key(&Method::POST, &headers).map_err(|no| no.slug)
        };
        assert_eq!(key("k-1").unwrap().as_deref(), Some("k-1"));
        assert!(key(&"k".repeat(255)).is_ok());
        for wrong in ["", "a b", "ä", &"k".repeat(256)] {
            assert_eq!(key(wrong), Err(Slug::InvalidField), "{wrong:?}");
        }
    }
}
