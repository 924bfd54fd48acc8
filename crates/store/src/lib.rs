//! Stores: where rows live, and what survives a crash.
//!
//! A [`Store`] has no business rules. It loads the rows that a turn needs, and writes those that the core changed,
//! with the ledger lines and the events, in one transaction. A [`Reader`] answers questions beside the turns.

mod read;

pub use read::{Details, Page, Reader, StoredTask, TaskFilter};

/// What went wrong with the machine, as opposed to a valid answer that says no.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Out of space; the transaction was rolled back. Nothing is lost, nothing was done.
    #[error("the store is out of space: {0}")]
    Full(String),
    /// Another server holds a row; the turn is tried again.
    #[error("a row is held by another server: {0}")]
    Busy(String),
    /// The store cannot be reached; nothing was done.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The store is broken or was written by something else: no turn can go on.
    #[error("the store is broken: {0}")]
    Broken(String),
}
