//! Places: which agents and models have series of their own.
//!
//! Every series costs memory here and much more in Prometheus, and ids of agents may be made up anew for each run. So
//! [`MOST`] names have a place at a time, and all others are counted together. A name that was not heard of for
//! [`IDLE`] gives its place to the next one: its series ends, and should it come back, it begins at zero. The sum over
//! all names never goes back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::OTHER;

/// The most names with a series of their own, of agents and of models each.
pub(super) const MOST: usize = 100;
/// A name without anything new for so long may lose its place.
pub(super) const IDLE: Duration = Duration::from_hours(1);

/// Who has a place.
#[derive(Debug, Default)]
pub(super) struct Places {
    last_heard: HashMap<String, Instant>,
}

impl Places {
    /// The name under which something is counted that is new of `name`, and whose series ends for that.
    pub(super) fn of<'a>(&mut self, name: &'a str, now: Instant) -> (&'a str, Option<String>) {
        if let Some(last_heard) = self.last_heard.get_mut(name) {
            *last_heard = now;
            return (name, None);
        }
        let mut loser = None;
        if self.last_heard.len() >= MOST {
            loser = self
                .last_heard
                .iter()
                .min_by_key(|(_, last_heard)| **last_heard)
                .filter(|(_, last_heard)| now.duration_since(**last_heard) >= IDLE)
                .map(|(name, _)| name.clone());
            match &loser {
                Some(loser) => drop(self.last_heard.remove(loser)),
                None => return (OTHER, None),
            }
        }
        self.last_heard.insert(name.to_owned(), now);
        (name, loser)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_names_have_places_and_the_rest_shares_one() {
        let mut places = Places::default();
        let now = Instant::now();
        for number in 0..MOST {
            let name = format!("agent-{number}");
            assert_eq!(places.of(&name, now), (name.as_str(), None));
        }
        assert_eq!(places.of("late", now), (OTHER, None));
        assert_eq!(
            places.of("agent-7", now),
            ("agent-7", None),
            "who has a place keeps it"
        );
    }

    #[test]
    fn who_was_not_heard_of_for_long_gives_its_place_to_the_next() {
        let mut places = Places::default();
        let start = Instant::now();
        let later = start + IDLE;
        for number in 0..MOST {
            places.of(&format!("agent-{number}"), start);
        }
        for number in 1..MOST {
            places.of(&format!("agent-{number}"), start + IDLE / 2);
        }
        assert_eq!(places.of("late", later), ("late", Some("agent-0".into())));
        assert_eq!(places.of("agent-0", later), (OTHER, None));
    }
}
