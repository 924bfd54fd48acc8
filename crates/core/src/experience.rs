//! Experience: what finished attempts of a kind of work used, from which the hold of the next one is learned.
//!
//! A start without an estimate holds the 90th percentile (nearest rank) of the latest finished attempts of the same
//! labels and model, once there are enough of them. Only attempts that reported tokens count: one that reported
//! nothing tells nothing.
//!
//! # Not here
//! That a learned hold never exceeds what is left, and so refuses nothing: [`crate::decide`].

use std::sync::Arc;

use crate::name::{Label, ModelName};
use crate::task::Demand;

/// Below so many attempts nothing is learned.
pub const MIN_SAMPLES: usize = 20;
/// So many of the latest attempts are remembered: enough for a percentile, few enough to follow a change of habits.
pub const MAX_SAMPLES: usize = 100;
/// The percentile that is held.
const PERCENTILE: usize = 90;

/// Work that is alike: the same labels, and the same model that it counts for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind {
    /// The labels, sorted, each once.
    pub labels: Arc<[Label]>,
    /// The model.
    pub model: Option<ModelName>,
}

impl Kind {
    /// The kind of a task that counts for this model.
    pub fn of(demand: &Demand, model: Option<&ModelName>) -> Self {
        let mut labels = demand.labels.clone();
        labels.sort();
        labels.dedup();
        Self {
            labels: labels.into(),
            model: model.cloned(),
        }
    }
}

/// What the latest finished attempts of a kind used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Experience {
    /// Tokens that count for limits, the latest attempt last.
    pub samples: Vec<u64>,
}

impl Experience {
    /// Remembers one more attempt; the oldest is forgotten when there are too many.
    pub fn learn(&mut self, tokens: u64) {
        self.samples.push(tokens);
        let excess = self.samples.len().saturating_sub(MAX_SAMPLES);
        self.samples.drain(..excess);
    }

    /// What nine of ten such attempts get by with; nothing as long as there are too few.
    pub fn percentile(&self) -> Option<u64> {
        if self.samples.len() < MIN_SAMPLES {
            return None;
        }
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * PERCENTILE).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: impl IntoIterator<Item = u64>) -> Experience {
        let mut experience = Experience::default();
        samples.into_iter().for_each(|tokens| experience.learn(tokens));
        experience
    }

    #[test]
    fn nothing_is_learned_from_too_few() {
        assert_eq!(of(1..=19).percentile(), None);
        assert_eq!(of([]).percentile(), None);
    }

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        assert_eq!(of((1..=20).map(|n| n * 10)).percentile(), Some(180));
        assert_eq!(of((1..=20).rev().map(|n| n * 10)).percentile(), Some(180));
        assert_eq!(of((1..=100).map(|n| n * 10)).percentile(), Some(900));
        assert_eq!(of(std::iter::repeat_n(7, 21)).percentile(), Some(7));
    }

    #[test]
    fn old_attempts_are_forgotten() {
        let experience = of((0..MAX_SAMPLES)
            .map(|_| 1_000_000)
            .chain((0..MAX_SAMPLES).map(|_| 5)));
        assert_eq!(experience.samples.len(), MAX_SAMPLES);
        assert_eq!(experience.percentile(), Some(5));
    }

    #[test]
    fn the_order_of_labels_makes_no_kind() {
        let demand = |labels: &[&str]| Demand {
            labels: labels.iter().map(|label| Label::from(*label)).collect(),
            ..Demand::default()
        };
        assert_eq!(
            Kind::of(&demand(&["b", "a"]), None),
            Kind::of(&demand(&["a", "b", "a"]), None)
        );
        assert_ne!(
            Kind::of(&demand(&["a"]), None),
            Kind::of(&demand(&["a"]), Some(&"m".into()))
        );
    }
}
