//! Webhooks on the wire.

use adjutant_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{null_is_default, shape};

/// A webhook to add.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewWebhook {
    /// Its name.
    #[schema(value_type = shape::Id)]
    pub name: String,
    /// Where it is: `https://…` or `http://…`, without a query. Its host is looked up whenever something is sent.
    #[schema(
        max_length = 2000,
        pattern = "^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
    )]
    pub url: String,
    /// The types of events that it is told of; all when empty.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<shape::EventType>>)]
    pub events: Vec<String>,
}

/// A webhook.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The types of events that it is told of; all when empty.
    pub events: Vec<String>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// `active`, `stalled` (too much waits for another try) or `disabled`.
    pub status: String,
    /// Why it is stalled or disabled.
    pub detail: Option<String>,
    /// Since when its place has taken nothing; null while it takes.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Events up to this `seq` are dealt with.
    pub cursor: u64,
    /// How many deliveries wait for another try.
    pub pending: u32,
    /// How many are dead letters.
    pub dead: u32,
    /// How many events it will never be told of.
    pub missed: u64,
    /// What its requests are signed with: in the answer that adds it, and null everywhere else.
    pub secret: Option<String>,
}

/// An event that was not delivered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookDelivery {
    /// The number of the event.
    pub seq: u64,
    /// `pending` or `dead`.
    pub status: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again; null for a dead letter.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// What went wrong.
    pub error: String,
}

/// How it went to try a webhook out.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookTest {
    /// Whether the place took it.
    pub delivered: bool,
    /// What happened, in words.
    pub detail: String,
}
