//! A map that remembers the newest entries only.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The most entries.
const MOST: usize = 20_000;

/// A map that forgets the oldest entries.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    entries: HashMap<K, V>,
    /// Keys as they came; some may be gone by now.
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// Remembers one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    /// What is remembered of one.
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key)
    }

    /// The same, and forgets it.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.entries.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        for number in 0..3 * MOST {
            recent.insert(number, number);
            if number % 2 == 0 {
                assert_eq!(recent.remove(number), Some(number));
            }
        }
        assert!(recent.entries.len() <= MOST && recent.order.len() <= MOST);
        assert_eq!(recent.get(1), None);
        assert_eq!(recent.get(3 * MOST - 1), Some(&(3 * MOST - 1)));
    }
}
