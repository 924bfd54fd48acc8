//! Rejections: valid answers that say no.
//!
//! A [`Rejection`] is an answer of the domain, with a stable slug that programs can rely on and words that tell a
//! person what to do. It is not a failure of the machine (the store's errors) and not a bug.

use crate::time::Span;

macro_rules! slugs {
    ($($(#[$doc:meta])* $slug:ident = $name:literal, $code:literal, $retryable:literal;)*) => {
        /// The stable name of an error. Each has a paragraph in `docs/errors.md`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Slug {
            $($(#[$doc])* $slug,)*
        }

        impl Slug {
            /// All slugs.
            pub const ALL: &'static [Self] = &[$(Self::$slug,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$slug => $name,)* }
            }

            /// The status code that goes with it.
            pub const fn code(self) -> u16 {
                match self { $(Self::$slug => $code,)* }
            }

            /// Whether the same request may succeed later without being changed.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$slug => $retryable,)* }
            }
        }
    };
}

slugs! {
    /// The body is not JSON.
    MalformedJson = "malformed_json", 400, false;
    /// The request is not what HTTP or this path allows.
    BadRequest = "bad_request", 400, false;
    /// No token, or one that is not known.
    Unauthorized = "unauthorized", 401, false;
    /// The token's roles do not reach so far.
    Forbidden = "forbidden", 403, false;
    /// The `Host` or `Origin` is not one of this server's.
    ForeignOrigin = "foreign_origin", 403, false;
    /// No such path.
    NotFound = "not_found", 404, false;
    /// No task with this id.
    TaskNotFound = "task_not_found", 404, false;
    /// No agent with this id.
    AgentNotFound = "agent_not_found", 404, false;
    /// No access token with this name.
    TokenNotFound = "token_not_found", 404, false;
    /// No webhook with this name.
    WebhookNotFound = "webhook_not_found", 404, false;
    /// The webhook has no such delivery.
    DeliveryNotFound = "delivery_not_found", 404, false;
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// A task with this id exists.
    TaskExists = "task_exists", 409, false;
    /// An access token with this name exists.
    TokenExists = "token_exists", 409, false;
    /// A webhook with this name exists.
    WebhookExists = "webhook_exists", 409, false;
    /// Another attempt holds the task.
    TaskAlreadyClaimed = "task_already_claimed", 409, false;
    /// The task cannot be claimed as it stands.
    TaskNotClaimable = "task_not_claimable", 409, true;
    /// The attempt is not the current one.
    StaleAttempt = "stale_attempt", 409, false;
    /// The caller does not hold the task.
    NotHolder = "not_holder", 409, false;
    /// The task's state does not allow it.
    WrongState = "wrong_state", 409, false;
    /// A newer session speaks for the agent.
    Superseded = "superseded", 409, false;
    /// A newer sync of this session was seen.
    StaleSync = "stale_sync", 409, false;
    /// The agent takes nothing new.
    AgentDraining = "agent_draining", 409, false;
    /// The agent was not heard of for longer than the ttl.
    AgentOffline = "agent_offline", 409, true;
    /// The job is a task of this server, which keeps its account itself.
    JobIsTask = "job_is_task", 409, false;
    /// The body is larger than the path allows.
    BodyTooLarge = "body_too_large", 413, false;
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, false;
    /// A field has a wrong type or value.
    InvalidField = "invalid_field", 422, false;
    /// A dependency does not exist.
    UnknownDependency = "unknown_dependency", 422, false;
    /// The tasks of a batch depend on each other in a circle.
    DependencyCycle = "dependency_cycle", 422, false;
    /// The batch has too many items.
    BatchTooLarge = "batch_too_large", 422, false;
    /// The idempotency key was used with another body.
    IdempotencyMismatch = "idempotency_mismatch", 422, false;
    /// The agent lacks a capability or the model.
    MissingCapability = "missing_capability", 422, false;
    /// The task alone is larger than a whole limit.
    ExceedsAllowance = "exceeds_allowance", 422, false;
    /// A limit is reached.
    QuotaExceeded = "quota_exceeded", 429, true;
    /// The agent has no room.
    AgentFull = "agent_full", 429, true;
    /// The agent waits for its provider's rate limit.
    AgentPaused = "agent_paused", 429, true;
    /// The agent failed too fast too often.
    AgentQuarantined = "agent_quarantined", 429, true;
    /// Too many failed sign-ins from this address.
    TooManyAttempts = "too_many_attempts", 429, true;
    /// A bug of the server; it was logged.
    Internal = "internal", 500, false;
    /// The server has more to do than it can take in.
    Overloaded = "overloaded", 503, true;
    /// The server is about to stop.
    ShuttingDown = "shutting_down", 503, true;
    /// The store is out of space.
    StorageFull = "storage_full", 503, true;
    /// The store is nearly out of space: completions are taken, submissions are not.
    StorageLow = "storage_low", 503, true;
    /// The store cannot be reached.
    StorageUnavailable = "storage_unavailable", 503, true;
}

/// A valid answer that says no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// What kind of no.
    pub slug: Slug,
    /// What is wrong, for people.
    pub message: String,
    /// More about it; may be empty.
    pub details: String,
    /// When trying again may help.
    pub retry_after: Option<Span>,
}

impl Rejection {
    /// A rejection without details.
    pub fn new(slug: Slug, message: impl Into<String>) -> Self {
        Self {
            slug,
            message: message.into(),
            details: String::new(),
            retry_after: None,
        }
    }

    /// A field with a wrong type or value.
    pub fn field(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Slug::InvalidField, format!("{field}: {why}"))
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same with a time after which trying again may help.
    #[must_use]
    pub fn retry_after(mut self, span: Option<Span>) -> Self {
        self.retry_after = span;
        self
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.slug.name(), self.message)?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.details)
        }
    }
}

impl std::error::Error for Rejection {}
