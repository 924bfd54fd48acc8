//! The API as tools use it: a request with JSON, and an answer or an error with JSON.

use futures_util::future::BoxFuture;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// What a segment of a path, or a value of a query, may be made of without being escaped.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// A request of the API.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path with its query, escaped.
    pub path: String,
    /// The body.
    pub body: Option<Value>,
}

impl Request {
    /// A request of the path that is made of these segments, each of which is escaped.
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, PLAIN));
        }
        Self {
            method,
            path,
            body: None,
        }
    }

    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(crate) fn post(segments: &[&str], body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::POST, segments)
        }
    }

    pub(crate) fn patch(segments: &[&str], body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::PATCH, segments)
        }
    }

    /// The same with a parameter in its query, where there is a value.
    pub(crate) fn query(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.path.push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(name);
            self.path.push('=');
            self.path.extend(utf8_percent_encode(value.as_ref(), PLAIN));
        }
        self
    }
}

/// A good answer of the API.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reply {
    /// The body.
    pub body: Value,
    /// Where the next page of a list begins, if there is one.
    pub next: Option<String>,
}

/// The API said no, in its own words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub status: u16,
    /// The stable slug.
    pub slug: String,
    /// What is wrong.
    pub message: String,
    /// More about it; may be empty.
    pub details: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// After how many seconds it may, where that is known.
    pub retry_after_secs: Option<u64>,
}

impl ApiError {
    /// An argument of a tool is wrong.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self {
            status: 422,
            slug: "invalid_field".to_owned(),
            message: message.into(),
            details: String::new(),
            retryable: false,
            retry_after_secs: None,
        }
    }

    /// The token does not reach so far.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self {
            status: 403,
            slug: "forbidden".to_owned(),
            ..Self::argument(message)
        }
    }
}

/// The HTTP API, asked with the token of the caller.
pub trait Api: Send + Sync {
    /// Asks.
    ///
    /// # Errors
    /// What the API says instead of doing it.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_stays_one_segment_and_one_value() {
        let request = Request::get(&["api", "tasks", "a/../b?c#d%"])
            .query("labels", Some("x&y=z,ü"))
            .query("status", None::<&str>)
            .query("limit", Some("5"));
        assert_eq!(
            request.path,
            "/api/tasks/a%2F..%2Fb%3Fc%23d%25?labels=x%26y%3Dz%2C%C3%BC&limit=5"
        );
        assert_eq!(Request::get(&["api", "task:1.a_b-c~"]).path, "/api/task:1.a_b-c~");
    }
}
