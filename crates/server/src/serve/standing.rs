//! What is known of a connection, beside what HTTP says.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether a request has come.
    asked: AtomicBool,
    /// When its next submission is looked at, after one was refused because there are too many.
    next_submission: Mutex<Option<Instant>>,
}

impl Standing {
    pub(super) fn note_request(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes that a submission was refused, and that none is looked at for so long.
    pub(crate) fn put_off(&self, pause: Duration) {
        *self.lock() = Some(Instant::now() + pause);
    }

    /// Waits until a submission may be looked at. Whoever waits as long as it was told to is not held up.
    pub(crate) async fn until_looked_at(&self) {
        let until = self.lock().take();
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.next_submission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_too_soon_waits_for_the_rest_of_the_time_and_who_waited_does_not() {
        let (standing, second) = (Standing::default(), Duration::from_secs(1));
        let begun = Instant::now();
        standing.until_looked_at().await;
        standing.put_off(second);
        standing.until_looked_at().await;
        assert_eq!(begun.elapsed(), second);
        standing.put_off(second);
        tokio::time::sleep(2 * second).await;
        standing.until_looked_at().await;
        assert_eq!(begun.elapsed(), 3 * second);
    }
}
