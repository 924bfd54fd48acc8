//! Errors as they are answered.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error has this shape, with the same status code as the response.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The HTTP status code.
    pub code: u16,
    /// What is wrong, for people.
    pub message: String,
    /// More about it; may be empty.
    #[serde(default)]
    pub details: String,
    /// The stable slug of the error.
    #[serde(default)]
    pub error: String,
    /// Whether the same request may succeed later without being changed.
    #[serde(default)]
    pub retryable: bool,
}

/// The same, under the name that reads well in signatures.
pub type ApiError = ErrorBody;

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.details.is_empty() {
            write!(f, " ({})", self.details)?;
        }
        if self.error.is_empty() {
            Ok(())
        } else {
            write!(f, " [{}]", self.error)
        }
    }
}

impl std::error::Error for ErrorBody {}
