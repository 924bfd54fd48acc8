//! How long to wait before a repetition: exponential, capped, with a random part so that many clients of a server
//! that comes back do not all arrive at once.

use std::time::Duration;

/// A growing series of waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    step: u32,
}

impl Backoff {
    /// Waits of about `base`, twice that, and so on, never longer than `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, step: 0 }
    }

    /// The next wait: between half of the step's length and all of it.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.base.saturating_mul(1_u32 << self.step.min(20)).min(self.cap);
        self.step = self.step.saturating_add(1);
        let half = full / 2;
        half + half.mul_f64(random_fraction())
    }

    /// Starts the series anew, after a success.
    pub const fn reset(&mut self) {
        self.step = 0;
    }

    /// How many waits were taken since the start.
    pub const fn steps(&self) -> u32 {
        self.step
    }
}

/// A number between 0 and 1; a half where the system has no randomness to give, since a jitter is not a secret.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// A random text of 32 hexadecimal digits: an `Idempotency-Key`, or the session of a worker.
///
/// # Panics
/// When the operating system has no randomness to give: nothing that must be unique can be made then.
pub fn random_key() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for full in [100, 200, 400, 400] {
            let wait = backoff.next_wait();
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    #[test]
    fn keys_differ() {
        assert_ne!(random_key(), random_key());
        assert_eq!(random_key().len(), 32);
    }
}
