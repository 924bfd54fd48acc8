//! Outcomes: what a tool gives back, in words for the model and as JSON for programs.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use crate::api::ApiError;

/// What a tool gives back.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outcome {
    /// What a model reads. It must do without the rest: not every client shows it more.
    pub(crate) text: String,
    /// What a program reads; always an object.
    pub(crate) structured: Value,
    /// Whether the tool did not do what was asked.
    pub(crate) is_error: bool,
}

impl Outcome {
    pub(crate) fn new(text: impl Into<String>, structured: Value) -> Self {
        Self {
            text: text.into(),
            structured,
            is_error: false,
        }
    }
}

impl From<ApiError> for Outcome {
    fn from(error: ApiError) -> Self {
        let mut text = error.message.clone();
        if !error.details.is_empty() {
            text = format!("{text} ({})", error.details);
        }
        text = format!("{text} [{}]", error.slug);
        match error.retry_after_secs {
            Some(seconds) => text = format!("{text}\nTrying again may help after {seconds} s."),
            None if error.retryable => text.push_str("\nTrying again later may help."),
            None => {}
        }
        Self {
            text,
            structured: json!({
                "code": error.status,
                "error": error.slug,
                "message": error.message,
                "details": error.details,
                "retryable": error.retryable,
                "retry_after": error.retry_after_secs,
            }),
            is_error: true,
        }
    }
}

impl From<Outcome> for CallToolResult {
    fn from(outcome: Outcome) -> Self {
        let mut result = Self::success(vec![ContentBlock::text(outcome.text)]);
        result.structured_content = Some(outcome.structured);
        result.is_error = Some(outcome.is_error);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_when_to_try_again() {
        let error = ApiError {
            status: 429,
            slug: "quota_exceeded".into(),
            message: "no".into(),
            details: "daily".into(),
            retryable: true,
            retry_after_secs: Some(7),
        };
        let outcome = Outcome::from(error);
        assert!(outcome.is_error);
        assert_eq!(
            outcome.text,
            "no (daily) [quota_exceeded]\nTrying again may help after 7 s."
        );
        assert_eq!(outcome.structured["error"], "quota_exceeded");
        let plain = Outcome::from(ApiError::argument("task_id: is empty"));
        assert_eq!(plain.text, "task_id: is empty [invalid_field]");
    }
}
