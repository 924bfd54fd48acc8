//! Failures: how a no, and a bug, are answered.
//!
//! Every error has one shape ([`adjutant_wire::ErrorBody`]); its status code follows from the slug alone.

use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::Span;
use adjutant_engine::Refusal;
use adjutant_wire::ErrorBody;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::reply;

/// Why a request gets no good answer.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Rejection);

impl Failure {
    /// A bug: logged in full, told in brief.
    pub(crate) fn bug(what: &str) -> Self {
        tracing::error!(what, "a request met a bug");
        Self(Rejection::new(
            Slug::Internal,
            "internal error: this is a bug of the server, and it was logged",
        ))
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self(rejection)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => Self(rejection),
            Refusal::Bug(what) => Self::bug(&what),
        }
    }
}

/// The error as it stands on the wire.
pub(crate) fn error_body(rejection: Rejection) -> ErrorBody {
    ErrorBody {
        code: rejection.slug.code(),
        message: rejection.message,
        details: rejection.details,
        error: rejection.slug.name().to_owned(),
        retryable: rejection.slug.retryable(),
    }
}

/// Whole seconds for `Retry-After`: at least one, so that nobody tries again at once.
fn retry_after_secs(span: Option<Span>) -> i64 {
    span.map_or(1, Span::as_secs_ceil).max(1)
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(rejection) = self;
        let code = rejection.slug.code();
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = matches!(code, 429 | 503).then(|| retry_after_secs(rejection.retry_after));
        let mut response = reply::json(status, &error_body(rejection));
        if let Some(seconds) = wait {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rejection: Rejection) -> Response {
        Failure(rejection).into_response()
    }

    #[test]
    fn every_slug_is_answered_with_its_own_status() {
        for slug in Slug::ALL {
            let response = answer(Rejection::new(*slug, "no"));
            assert_eq!(response.status().as_u16(), slug.code(), "{}", slug.name());
            let waits = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(waits, matches!(slug.code(), 429 | 503), "{}", slug.name());
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_at_least_a_second() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (90_000, "90")] {
            let rejection =
                Rejection::new(Slug::QuotaExceeded, "no").retry_after(Some(Span::from_millis(millis)));
            assert_eq!(answer(rejection).headers()[RETRY_AFTER], seconds, "{millis} ms");
        }
        assert_eq!(
            answer(Rejection::new(Slug::Overloaded, "no")).headers()[RETRY_AFTER],
            "1"
        );
    }

    #[test]
    fn the_body_says_code_slug_and_whether_to_try_again() {
        let body = error_body(Rejection::new(Slug::AgentFull, "full").with_details("3 of 3"));
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            serde_json::json!({"code": 429, "message": "full", "details": "3 of 3", "error": "agent_full", "retryable": true})
        );
    }
}
