//! The typed client of the HTTP API: one method for each endpoint, with the types of [`adjutant_wire`].
//!
//! It speaks to adjutant and, for the task API, to any server that follows core-agentic: of a task only `id`,
//! `title`, `status` and `created_at` are needed, and errors need not have a slug.
//!
//! # Invariants
//! - A request is repeated only where a repetition does no harm: GET, PUT, DELETE, and POST with an
//!   `Idempotency-Key`. Everything else is sent at most once for each call.
//! - The token goes to the address that was given and nowhere else: redirects are not followed, and the next page
//!   of a list is asked of the same path whatever host its link names.
//! - Answers are read up to a bound ([`MAX_ANSWER_BYTES`]).
//!
//! # Not here
//! Running tasks: `adjutant-worker`. What a request means: the server.
//!
//! ```no_run
//! # async fn example() -> Result<(), adjutant_client::Error> {
//! use adjutant_client::{Client, TaskFilter};
//!
//! let client = Client::new("http://127.0.0.1:7717", Some("token".into()))?;
//! for task in client.list_tasks(&TaskFilter::default()).await?.items {
//!     println!("{} {}", task.id, task.title);
//! }
//! # Ok(()) }
//! ```

mod agents;
mod backoff;
mod connection;
mod error;
mod events;
mod limits;
mod mcp;
mod operations;
mod page;
mod request;
mod sse;
#[cfg(any(test, feature = "stub"))]
pub mod stub;
mod tasks;
#[cfg(test)]
mod tests;
mod webhooks;

pub use backoff::{Backoff, random_key};
pub use connection::{Builder, Client, DEFAULT_RETRIES, DEFAULT_TIMEOUT, MAX_ANSWER_BYTES};
pub use error::Error;
pub use mcp::{McpAnswer, McpMessage};
pub use page::{Page, TaskFilter};
pub use tasks::MAX_EVENTS;
