//! The handle: how edges ask the engine.

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, IdempotencyKey};
use adjutant_core::rejection::Rejection;
use adjutant_store::{Reader, StoreError};
use tokio::sync::watch;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The core says no; also when the server is overloaded, out of space or about to stop.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A bug: it was logged, nothing was changed.
    #[error("internal error: {0}")]
    Bug(String),
}

/// A handle to a running engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Asks one thing, and waits until its answer is durable.
    pub async fn call(
        &self,
        _actor: Actor,
        _command: Command,
        _idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Refusal> {
        todo!()
    }

    /// Reads what is committed, beside the turns.
    pub async fn query<T, F>(&self, _ask: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    {
        todo!()
    }

    /// The number of the last committed event, and a signal for each new one.
    pub fn last_seq(&self) -> watch::Receiver<u64> {
        todo!()
    }
}
