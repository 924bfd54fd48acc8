//! Pace: how often a list is asked for.
//!
//! # Invariants
//! - One question at a time, and a second between two of them when nobody pressed a key.
//! - A slow server is asked less often: what it took is waited for nine times.
//! - Nothing is asked again as long as nothing happened, but for what no event tells (ages, loads) now and then.

use std::time::Duration;

/// The least time between two questions that nobody asked for.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// However slow the server is, it is asked again after so long.
const SLOWEST: Duration = Duration::from_secs(10);
/// Without any event a list is asked for again after so long.
const STALE: Duration = Duration::from_secs(5);

/// When something is asked for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the question was asked that is not answered yet.
    asked: Option<Duration>,
    /// Not earlier by itself.
    due: Duration,
    /// When the last answer came, and what the last event was then.
    answered: Option<(Duration, u64)>,
    /// The last event when the question was asked: what came after it is not in the answer for sure.
    seen: u64,
    /// Somebody wants it now; an answer that is on its way is of something else.
    wanted: bool,
}

impl Pace {
    /// Asks at the next occasion: at once, or when what is on its way has come.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether to ask now; `last_event` is the last one that is known. `always` asks without an event, too.
    pub(super) fn asks(&mut self, at: Duration, last_event: u64, always: bool) -> bool {
        if self.asked.is_some() {
            return false;
        }
        let news = self
            .answered
            .is_none_or(|(when, seen)| seen != last_event || at.saturating_sub(when) >= STALE);
        let asks = self.wanted || (at >= self.due && (news || always));
        if asks {
            self.wanted = false;
            self.asked = Some(at);
            self.seen = last_event;
        }
        asks
    }

    /// Takes the answer; false when something else is wanted by now.
    pub(super) fn answers(&mut self, at: Duration) -> bool {
        let asked = self.asked.take().unwrap_or(at);
        let took = at.saturating_sub(asked);
        self.due = asked + EVERY.max((took * 10).min(SLOWEST));
        if self.wanted {
            return false;
        }
        self.answered = Some((at, self.seen));
        true
    }

    /// How long an answer has been waited for.
    pub(super) fn waits(&self, at: Duration) -> Duration {
        self.asked
            .map_or(Duration::ZERO, |asked| at.saturating_sub(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_list_is_asked_for_once_a_second_while_things_happen() {
        let mut pace = Pace::default();
        let asked = (0..100)
            .filter(|tick| {
                let at = MS * *tick * 100;
                pace.asks(at, u64::from(*tick), false) && pace.answers(at)
            })
            .count();
        assert_eq!(asked, 10);
    }

    #[test]
    fn without_events_it_is_left_alone_for_a_while() {
        let mut pace = Pace::default();
        let asked = (0..100)
            .filter(|tick| {
                let at = MS * *tick * 100;
                pace.asks(at, 7, false) && pace.answers(at)
            })
            .count();
        assert_eq!(asked, 2);
    }

    #[test]
    fn a_slow_server_is_asked_less_often() {
        let mut pace = Pace::default();
        assert!(pace.asks(Duration::ZERO, 1, true));
        assert!(!pace.asks(MS * 400, 2, true));
        assert!(pace.answers(MS * 500));
        assert!(!pace.asks(MS * 4_900, 3, true));
        assert!(pace.asks(MS * 5_000, 3, true));
        assert_eq!(pace.waits(MS * 6_000), MS * 1_000);
    }

    #[test]
    fn an_answer_to_the_question_before_does_not_count() {
        let mut pace = Pace::default();
        assert!(pace.asks(Duration::ZERO, 1, false));
        pace.want();
        // One at a time, however often somebody wants it.
        assert!(!pace.asks(MS, 1, false));
        assert!(!pace.answers(MS));
        assert!(pace.asks(MS, 1, false));
        assert!(pace.answers(MS * 2));
    }
}
