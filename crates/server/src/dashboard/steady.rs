//! A figure that may be dear to read: where it is, it is read again in the background, never for more than a small share
//! of the time, and is a moment old. Where it is not, whoever looks has it as it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// A reading that takes no longer is waited for.
const CHEAP: Duration = Duration::from_millis(5);
/// A reading is followed by so many times as long without one: it takes two percent of a core at most.
const REST_FACTOR: u32 = 50;
/// What is older is not shown while it is read again.
const OLDEST: Duration = Duration::from_mins(1);

/// A figure as of a moment ago.
pub(super) struct Steady<T>(Arc<State<T>>);

struct State<T> {
    last: Mutex<Option<Reading<T>>>,
    /// Held by the one who reads.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Reading<T> {
    value: T,
    at: Instant,
    took: Duration,
}

impl<T> Default for Steady<T> {
    fn default() -> Self {
        Self(Arc::new(State {
            last: Mutex::new(None),
            turn: Arc::default(),
        }))
    }
}

impl<T> Reading<T> {
    /// Whether it does while it is read again.
    fn is_fair(&self) -> bool {
        self.is_new() || (self.took > CHEAP && self.at.elapsed() < OLDEST)
    }

    fn is_new(&self) -> bool {
        self.at.elapsed() < self.took * REST_FACTOR
    }
}

impl<T: Clone + Send + 'static> Steady<T> {
    /// The figure, read by `read` where it is time to. Who comes while somebody else reads gets what there is.
    pub(super) async fn get(
        &self,
        read: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        if let Some(last) = self.last().filter(Reading::is_fair) {
            if !last.is_new()
                && let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned()
            {
                let state = Arc::clone(&self.0);
                tokio::spawn(async move {
                    // What cannot be read now is read the next time; who must have it is told why not.
                    let _ = state.read(read).await;
                    drop(turn);
                });
            }
            return Ok(last.value);
        }
        let _turn = self.0.turn.lock().await;
        match self.last().filter(Reading::is_new) {
            Some(meanwhile) => Ok(meanwhile.value),
            None => self.0.read(read).await,
        }
    }

    fn last(&self) -> Option<Reading<T>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Clone> State<T> {
    async fn read(&self, read: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let started = Instant::now();
        let value = read.await?;
        let reading = Reading {
            value: value.clone(),
            at: Instant::now(),
            took: started.elapsed(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_look_at_the_same_time_cost_one_reading() {
        let (steady, readings) = (Steady::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..100 {
            let readings = Arc::clone(&readings);
            let read = async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(readings.fetch_add(1, Ordering::Relaxed))
            };
            assert_eq!(steady.get(read).await.unwrap(), 0);
        }
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_cheap_is_never_shown_when_it_is_old() {
        let reading = |took, age| Reading {
            value: (),
            at: Instant::now().checked_sub(age).unwrap(),
            took,
        };
        for (took, age, is_fair) in [
            (CHEAP, CHEAP * 10, true),
            (CHEAP, CHEAP * (REST_FACTOR + 1), false),
            (CHEAP * 2, CHEAP * 2 * (REST_FACTOR + 1), true),
            (CHEAP * 2, OLDEST, false),
        ] {
            assert_eq!(reading(took, age).is_fair(), is_fair, "{took:?} {age:?}");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_read_again() {
        let steady = Steady::default();
        assert!(steady.get(async { Err(Failure::bug("no")) }).await.is_err());
        assert_eq!(steady.get(async { Ok(7) }).await.unwrap(), 7);
    }
}
