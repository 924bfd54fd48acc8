//! How a no is told to a client of A2A: a `google.rpc.Status` with an `ErrorInfo`.
//!
//! Where the protocol has a name for what is wrong the `ErrorInfo` has that as its reason, and the protocol's domain.
//! What it has no name for (a token without the role, too much to do) has our own slug, in our own domain. Our slug is in
//! the metadata of both.

use std::collections::HashMap;

use ::a2a::{A2AError, PROTOCOL_DOMAIN, TypedDetail, error_code, error_reason};
use adjutant_core::rejection::{Rejection, Slug};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::Serialize;

use crate::failure::Failure;
use crate::reply;

/// The domain of what A2A has no name for.
const OWN_DOMAIN: &str = "adjutant";

/// Why a request of an A2A client gets no good answer.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The protocol's code, where it has one.
    code: Option<i32>,
    rejection: Rejection,
}

#[derive(Serialize)]
struct Envelope {
    error: Told,
}

#[derive(Serialize)]
struct Told {
    code: u16,
    status: &'static str,
    message: String,
    details: Vec<TypedDetail>,
}

impl Refused {
    /// A no that the protocol has a code for.
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        let slug = match code {
            error_code::METHOD_NOT_FOUND => Slug::NotFound,
            error_code::INVALID_PARAMS | error_code::CONTENT_TYPE_NOT_SUPPORTED => Slug::InvalidField,
            _ => Slug::BadRequest,
        };
        Self {
            code: Some(code),
            rejection: Rejection::new(slug, message),
        }
    }

    /// The answer to a cancel: a task whose state does not allow it has a code of its own.
    pub(crate) fn of_cancel(Failure(rejection): Failure) -> Self {
        match rejection.slug {
            Slug::WrongState => Self {
                code: Some(error_code::TASK_NOT_CANCELABLE),
                rejection,
            },
            _ => rejection.into(),
        }
    }

    fn status(&self) -> u16 {
        match (self.code, self.rejection.slug) {
            // What this server says everywhere of a body of another type.
            (_, Slug::UnsupportedMediaType) => Slug::UnsupportedMediaType.code(),
            (Some(error_code::METHOD_NOT_FOUND), _) => Slug::NotFound.code(),
            (Some(code), _) => A2AError::new(code, "").http_status_code(),
            (None, slug) => slug.code(),
        }
    }

    fn info(&self) -> TypedDetail {
        let slug = self.rejection.slug;
        let mut metadata = HashMap::from([
            ("slug".to_owned(), slug.name().to_owned()),
            ("retryable".to_owned(), slug.retryable().to_string()),
        ]);
        if !self.rejection.details.is_empty() {
            metadata.insert("details".to_owned(), self.rejection.details.clone());
        }
        match self.code {
            Some(code) => TypedDetail::error_info(error_reason(code), PROTOCOL_DOMAIN, Some(metadata)),
            None => TypedDetail::error_info(slug.name().to_uppercase(), OWN_DOMAIN, Some(metadata)),
        }
    }

    /// The name of the status among those of gRPC.
    fn status_name(&self) -> &'static str {
        match (self.code, self.status()) {
            (
                Some(
                    error_code::TASK_NOT_CANCELABLE
                    | error_code::PUSH_NOTIFICATION_NOT_SUPPORTED
                    | error_code::UNSUPPORTED_OPERATION
                    | error_code::EXTENDED_CARD_NOT_CONFIGURED
                    | error_code::VERSION_NOT_SUPPORTED,
                ),
                _,
            )
            | (_, 409) => "FAILED_PRECONDITION",
            (_, 401) => "UNAUTHENTICATED",
            (_, 403) => "PERMISSION_DENIED",
            (_, 404) => "NOT_FOUND",
            (_, 429) => "RESOURCE_EXHAUSTED",
            (_, 503) => "UNAVAILABLE",
            (_, 500) => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        }
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.slug {
            Slug::TaskNotFound => Some(error_code::TASK_NOT_FOUND),
            // Clients know this name, and not all of them the one of texts that are not JSON.
            Slug::MalformedJson | Slug::BadRequest => Some(error_code::INVALID_REQUEST),
            Slug::UnsupportedMediaType => Some(error_code::CONTENT_TYPE_NOT_SUPPORTED),
            Slug::Internal => Some(error_code::INTERNAL_ERROR),
            slug if slug.code() == Slug::InvalidField.code() => Some(error_code::INVALID_PARAMS),
            _ => None,
        };
        Self { code, rejection }
    }
}

impl From<Failure> for Refused {
    fn from(Failure(rejection): Failure) -> Self {
        rejection.into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = self.status();
        let body = Envelope {
            error: Told {
                code,
                status: self.status_name(),
                message: self.rejection.message.clone(),
                details: vec![self.info()],
            },
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = reply::json(status, &body);
        // When to come back, and how to show a token, are told as everywhere.
        for (name, value) in Failure(self.rejection).into_response().headers() {
            if *name != CONTENT_TYPE && *name != CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;

    async fn told(refused: Refused) -> (u16, Value, bool) {
        let (parts, body) = refused.into_response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        (
            parts.status.as_u16(),
            body["error"].clone(),
            parts.headers.contains_key(RETRY_AFTER),
        )
    }

    #[tokio::test]
    async fn every_slug_is_told_in_the_words_of_the_protocol() {
        for (slug, code, status, reason, domain) in [
            (
                Slug::TaskNotFound,
                404,
                "NOT_FOUND",
                "TASK_NOT_FOUND",
                PROTOCOL_DOMAIN,
            ),
            (
                Slug::MalformedJson,
                400,
                "INVALID_ARGUMENT",
                "INVALID_REQUEST",
                PROTOCOL_DOMAIN,
            ),
            (
                Slug::InvalidField,
                400,
                "INVALID_ARGUMENT",
                "INVALID_PARAMS",
                PROTOCOL_DOMAIN,
            ),
            (
                Slug::IdempotencyMismatch,
                400,
                "INVALID_ARGUMENT",
                "INVALID_PARAMS",
                PROTOCOL_DOMAIN,
            ),
            (
                Slug::UnsupportedMediaType,
                415,
                "INVALID_ARGUMENT",
                "CONTENT_TYPE_NOT_SUPPORTED",
                PROTOCOL_DOMAIN,
            ),
            (
                Slug::BodyTooLarge,
                413,
                "INVALID_ARGUMENT",
                "BODY_TOO_LARGE",
                OWN_DOMAIN,
            ),
            (Slug::Forbidden, 403, "PERMISSION_DENIED", "FORBIDDEN", OWN_DOMAIN),
            (Slug::Overloaded, 503, "UNAVAILABLE", "OVERLOADED", OWN_DOMAIN),
            (
                Slug::QuotaExceeded,
                429,
                "RESOURCE_EXHAUSTED",
                "QUOTA_EXCEEDED",
                OWN_DOMAIN,
            ),
            (
                Slug::WrongState,
                409,
                "FAILED_PRECONDITION",
                "WRONG_STATE",
                OWN_DOMAIN,
            ),
        ] {
            let (http, error, waits) = told(Rejection::new(slug, "no").into()).await;
            assert_eq!(
                (http, error["code"].as_u64()),
                (code, Some(code.into())),
                "{slug:?}"
            );
            assert_eq!(
                (error["status"].as_str(), error["message"].as_str()),
                (Some(status), Some("no"))
            );
            let info = &error["details"][0];
            assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
            assert_eq!(
                (info["reason"].as_str(), info["domain"].as_str()),
                (Some(reason), Some(domain))
            );
            assert_eq!(info["metadata"]["slug"], slug.name());
            assert_eq!(waits, matches!(code, 429 | 503), "{slug:?}");
        }
    }

    #[tokio::test]
    async fn what_only_the_protocol_knows_has_its_code() {
        for (code, http, status, reason) in [
            (
                error_code::PUSH_NOTIFICATION_NOT_SUPPORTED,
                400,
                "FAILED_PRECONDITION",
                "PUSH_NOTIFICATION_NOT_SUPPORTED",
            ),
            (
                error_code::EXTENDED_CARD_NOT_CONFIGURED,
                400,
                "FAILED_PRECONDITION",
                "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
            ),
            (
                error_code::VERSION_NOT_SUPPORTED,
                400,
                "FAILED_PRECONDITION",
                "VERSION_NOT_SUPPORTED",
            ),
            (
                error_code::UNSUPPORTED_OPERATION,
                400,
                "FAILED_PRECONDITION",
                "UNSUPPORTED_OPERATION",
            ),
            (
                error_code::CONTENT_TYPE_NOT_SUPPORTED,
                400,
                "INVALID_ARGUMENT",
                "CONTENT_TYPE_NOT_SUPPORTED",
            ),
            (error_code::METHOD_NOT_FOUND, 404, "NOT_FOUND", "METHOD_NOT_FOUND"),
        ] {
            let (told, error, _) = told(Refused::new(code, "no")).await;
            assert_eq!((told, error["status"].as_str()), (http, Some(status)), "{reason}");
            assert_eq!(error["details"][0]["reason"], reason);
        }
        let ended = Failure(Rejection::new(Slug::WrongState, "over"));
        let (http, error, _) = told(Refused::of_cancel(ended)).await;
        assert_eq!(
            (http, error["details"][0]["reason"].as_str()),
            (400, Some("TASK_NOT_CANCELABLE"))
        );
    }
}
