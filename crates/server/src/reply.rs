//! Replies: JSON in, a response out.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// A response with `value` as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => with_type(status, "application/json", text),
        Err(error) => {
            // Wire types always serialise; what does not is a bug of theirs.
            tracing::error!(%error, "an answer could not be written as JSON");
            with_type(
                StatusCode::INTERNAL_SERVER_ERROR,
                "application/json",
                r#"{"code":500,"message":"internal error: this is a bug of the server, and it was logged","details":"","error":"internal","retryable":false}"#,
            )
        }
    }
}

/// A 200 with `value` as JSON.
pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// A response with a body of this content type.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, content_type);
    response
}

/// The content type of event streams.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// A stream of events.
pub(crate) fn events(body: Body) -> Response {
    let mut response = with_type(StatusCode::OK, EVENT_STREAM, body);
    set(&mut response, CACHE_CONTROL, "no-cache");
    response
}

/// Sets a header to a fixed text.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}
