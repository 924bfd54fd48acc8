//! What can go wrong, in words that say what to do.

use std::time::Duration;

use adjutant_wire::ErrorBody;

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered: no.
    #[error("{body}")]
    Refused {
        /// The answer. `body.error` is the stable slug; empty when the server gives none.
        body: ErrorBody,
        /// When trying again may help, in the server's words.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or the connection broke before the answer was complete.
    #[error("{what}")]
    Transport {
        /// What happened, with the address.
        what: String,
        /// Whether no connection was made at all, so that the request certainly did nothing.
        unreachable: bool,
        /// The underlying error.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Something answered, but not in the way of this API.
    #[error("unexpected answer from {url}: {detail}")]
    Unexpected {
        /// What was asked.
        url: String,
        /// What is odd about the answer.
        detail: String,
    },
    /// The call itself makes no sense: a malformed address, a token that cannot be sent.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Whether the same call may succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { body, .. } => body.retryable || matches!(body.code, 429 | 502 | 503 | 504),
            Self::Transport { .. } => true,
            Self::Unexpected { .. } | Self::Invalid(_) => false,
        }
    }

    /// The status code of the answer, where there was one that says no.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { body, .. } => Some(body.code),
            _ => None,
        }
    }

    /// The stable slug of the answer; `None` when there is no answer or the server gives no slugs.
    pub fn slug(&self) -> Option<&str> {
        match self {
            Self::Refused { body, .. } if !body.error.is_empty() => Some(&body.error),
            _ => None,
        }
    }

    /// When trying again may help, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What a person can do about it, where that is known and the text does not say it already.
    pub fn hint(&self) -> Option<&'static str> {
        match self.code()? {
            401 => Some(
                "give a token with --token or ADJUTANT_TOKEN; `adjutant serve` writes the admin token to \
                 adjutant.token beside its store",
            ),
            403 => Some("this token's roles do not reach so far; `adjutant token create` makes another"),
            429 | 503 => Some("try again later"),
            _ => None,
        }
    }

    pub(crate) fn transport(url: &reqwest::Url, source: reqwest::Error) -> Self {
        let unreachable = source.is_connect();
        let address = url.origin().ascii_serialization();
        let cause = root_cause(&source);
        let what = if cause.contains("certificate") {
            format!(
                "{address} shows a certificate that is not trusted here ({cause}): name its authority with --ca or \
                 ADJUTANT_CA"
            )
        } else if unreachable {
            format!("cannot reach {address}: is `adjutant serve` running? ({cause})")
        } else if source.is_timeout() {
            format!("{address} did not answer {} in time", url.path())
        } else {
            format!("the connection to {address} broke: {cause}")
        };
        Self::Transport {
            what,
            unreachable,
            source: Some(source),
        }
    }

    pub(crate) fn unexpected(url: &reqwest::Url, detail: impl Into<String>) -> Self {
        Self::Unexpected {
            url: format!("{}{}", url.origin().ascii_serialization(), url.path()),
            detail: detail.into(),
        }
    }
}

/// The innermost cause: "Connection refused" instead of three layers of "error trying to connect".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
