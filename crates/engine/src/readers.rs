//! Readers: a small pool of connections for questions beside the turns.

use std::sync::{Arc, Mutex, PoisonError};

use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::Span;
use adjutant_store::{Reader, StoreError};
use tokio::sync::Semaphore;

use crate::handle::Refusal;
use crate::tally::Tally;

/// Questions asked of the store at the same time. More would only wait for the same disk and cores.
pub(crate) const MAX_READERS: usize = 4;
/// Questions that wait for a reader; more are refused at once.
const MAX_WAITING: usize = 1_024;

pub(crate) struct Readers {
    idle: Mutex<Vec<Box<dyn Reader>>>,
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    tally: Arc<Tally>,
}

impl Readers {
    pub(crate) fn new(readers: Vec<Box<dyn Reader>>, tally: Arc<Tally>) -> Self {
        let permits = Arc::new(Semaphore::new(readers.len()));
        Self {
            idle: Mutex::new(readers),
            permits,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            tally,
        }
    }

    pub(crate) async fn ask<T, F>(self: &Arc<Self>, ask: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(Refusal::Rejected(
                Rejection::new(Slug::Overloaded, "too many reads at the same time")
                    .retry_after(Some(Span::from_secs(1))),
            ));
        };
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(stopped());
        };
        let pool = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            // Whoever asked may be gone: what it holds is held until the reader is back.
            let _held = (place, permit);
            let reader = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = Returned { pool: &pool, reader };
            match reader.reader.as_deref_mut() {
                Some(reader) => ask(reader).map_err(|error| {
                    pool.tally.failed(&error);
                    storage(&error)
                }),
                None => Err(Refusal::Bug("no reader was idle, though one was promised".into())),
            }
        });
        match answer.await {
            Ok(answer) => answer,
            // The process ends, and what had not begun by then is not begun any more.
            Err(error) if error.is_cancelled() => Err(stopped()),
            Err(error) => {
                tracing::error!(%error, "a read panicked: this is a bug");
                Err(Refusal::Bug(error.to_string()))
            }
        }
    }
}

/// Gives the reader back, also when the question panics.
struct Returned<'a> {
    pool: &'a Readers,
    reader: Option<Box<dyn Reader>>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(reader);
        }
    }
}

pub(crate) fn stopped() -> Refusal {
    Refusal::Rejected(
        Rejection::new(Slug::ShuttingDown, "the server is about to stop")
            .retry_after(Some(Span::from_secs(1))),
    )
}

/// What callers are told when the machine failed.
pub(crate) fn storage(error: &StoreError) -> Refusal {
    let wait = Some(Span::from_secs(5));
    let reject = |slug, message: String| Refusal::Rejected(Rejection::new(slug, message).retry_after(wait));
    match error {
        StoreError::Full(why) => reject(
            Slug::StorageFull,
            format!("the store is out of space, nothing was changed: {why}"),
        ),
        StoreError::Busy(why) | StoreError::Unavailable(why) => reject(
            Slug::StorageUnavailable,
            format!("the store cannot be reached, nothing was changed: {why}"),
        ),
        StoreError::Broken(why) => Refusal::Bug(why.clone()),
    }
}
