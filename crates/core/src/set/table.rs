//! Tables: rows of one kind, with everything needed to take back what a command or a turn did.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

#[derive(Debug)]
struct Slot<V> {
    row: Option<Arc<V>>,
    /// Changed in this turn.
    touched: bool,
}

#[derive(Debug)]
struct Undo<K, V> {
    key: K,
    /// The slot before; none when the row was not known.
    before: Option<Slot<V>>,
}

/// Rows of one kind by key. A key that is not in the table is not known; one with no row is known to be absent.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: HashMap<K, Slot<V>>,
    log: Vec<Undo<K, V>>,
    absorbed: Vec<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            log: Vec::new(),
            absorbed: Vec::new(),
        }
    }
}

/// A row that a turn changed.
#[derive(Debug, Clone)]
pub struct Change<K, V> {
    /// Its key.
    pub key: K,
    /// As it is stored.
    pub before: Option<Arc<V>>,
    /// As it is to be stored; none removes it.
    pub now: Option<Arc<V>>,
}

impl<K: Clone + Eq + Hash, V> Table<K, V> {
    /// The row, if it exists; the outer option says whether that is known.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<Option<&Arc<V>>>
    where
        K: Borrow<Q>,
    {
        self.slots.get(key).map(|slot| slot.row.as_ref())
    }

    /// All rows that are known to exist, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.slots
            .iter()
            .filter_map(|(key, slot)| slot.row.as_ref().map(|row| (key, row)))
    }

    /// Changes a row as part of the turn.
    pub fn put(&mut self, key: K, row: Option<Arc<V>>) {
        let before = self.slots.insert(key.clone(), Slot { row, touched: true });
        self.log.push(Undo { key, before });
    }

    /// Takes in a row as it is stored; what is known already is kept.
    pub fn absorb(&mut self, key: K, row: Option<Arc<V>>) -> bool {
        if self.slots.contains_key(&key) {
            return false;
        }
        self.absorbed.push(key.clone());
        self.slots.insert(key, Slot { row, touched: false });
        true
    }

    /// A point to return to.
    pub fn mark(&self) -> usize {
        self.log.len()
    }

    /// Takes back everything since `mark`, telling each row as it was and as it is again.
    pub fn rewind(&mut self, mark: usize, mut told: impl FnMut(&K, Option<&Arc<V>>, Option<&Arc<V>>)) {
        while self.log.len() > mark {
            let Some(Undo { key, before }) = self.log.pop() else {
                return;
            };
            let undone = match before {
                Some(slot) => {
                    let restored = slot.row.clone();
                    let undone = self.slots.insert(key.clone(), slot);
                    told(
                        &key,
                        undone.as_ref().and_then(|slot| slot.row.as_ref()),
                        restored.as_ref(),
                    );
                    continue;
                }
                None => self.slots.remove(&key),
            };
            told(&key, undone.as_ref().and_then(|slot| slot.row.as_ref()), None);
        }
    }

    /// What the turn changed, each row once, in the order in which they were first changed.
    pub fn changes(&self) -> impl Iterator<Item = Change<K, V>> {
        self.log
            .iter()
            .filter(|undo| !undo.before.as_ref().is_some_and(|slot| slot.touched))
            .map(|undo| Change {
                key: undo.key.clone(),
                before: undo.before.as_ref().and_then(|slot| slot.row.clone()),
                now: self.slots.get(&undo.key).and_then(|slot| slot.row.clone()),
            })
    }

    /// Whether the turn changed nothing here.
    pub fn is_clean(&self) -> bool {
        self.log.is_empty()
    }

    /// Ends the turn: what it did is stored. Of the rows that were used, only those stay that `keep` asks for; the
    /// others are told as they go.
    pub fn settle(&mut self, mut keep: impl FnMut(&K, &V) -> bool, mut gone: impl FnMut(&K, &V)) {
        let touched = std::mem::take(&mut self.log).into_iter().map(|undo| undo.key);
        for key in touched.chain(std::mem::take(&mut self.absorbed)) {
            let Some(slot) = self.slots.get_mut(&key) else {
                continue;
            };
            slot.touched = false;
            if slot.row.as_ref().is_some_and(|row| keep(&key, row)) {
                continue;
            }
            if let Some(row) = self.slots.remove(&key).and_then(|slot| slot.row) {
                gone(&key, &row);
            }
        }
    }

    /// Forgets a row that nothing needs any more.
    pub fn evict(&mut self, key: &K) -> Option<Arc<V>> {
        self.slots.remove(key)?.row
    }

    /// How many rows are held in memory.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is held in memory.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewinding_restores_rows_and_changes_name_each_row_once() {
        let mut table: Table<u32, &str> = Table::default();
        assert!(table.absorb(1, Some(Arc::new("one"))));
        table.put(1, Some(Arc::new("uno")));
        let mark = table.mark();
        table.put(1, None);
        table.put(2, Some(Arc::new("two")));
        table.rewind(mark, |_, _, _| {});
        assert_eq!(table.get(&2), None);
        assert_eq!(table.get(&1).unwrap().map(|row| **row), Some("uno"));
        table.put(1, Some(Arc::new("eins")));
        let changes: Vec<_> = table.changes().collect();
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].before.as_deref(), changes[0].now.as_deref()),
            (Some(&"one"), Some(&"eins"))
        );
        table.rewind(0, |_, _, _| {});
        assert_eq!(table.get(&1).unwrap().map(|row| **row), Some("one"));
        assert!(table.is_clean());
        table.settle(|_, _| false, |_, _| {});
        assert!(table.is_empty());
    }
}
