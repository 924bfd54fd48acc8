//! Queues: ready tasks in order of dispatch, as far as they are known in memory.
//!
//! A queue holds the tasks of one class that wait for the same thing. Of a long queue only a window at its front is
//! held; the store has the rest, and gives the next stretch when the window runs out. So what a backlog costs in
//! memory does not grow with its length.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::name::LockName;
use crate::task::{ClassId, DispatchOrder, Gate, Queue, Task};

/// A window longer than this is cut.
pub const WINDOW_MAX: usize = 512;
/// What a cut leaves.
pub const WINDOW_KEPT: usize = 256;
/// How many tasks a store gives for a window at a time.
pub const WINDOW_STRETCH: usize = 64;

/// Up to where a window is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Nothing,
    UpTo(DispatchOrder),
    All,
}

impl Bound {
    /// Whether this one lies within.
    fn holds(self, order: DispatchOrder) -> bool {
        match self {
            Self::Nothing => false,
            Self::UpTo(bound) => order <= bound,
            Self::All => true,
        }
    }
}

/// The known front of an ordered set of tasks; and a stretch farther on, where a search goes on that has passed over
/// what lies between.
#[derive(Clone, Debug)]
pub struct Window {
    entries: BTreeSet<DispatchOrder>,
    bound: Bound,
    /// Known from behind this one up to there.
    farther: Option<(DispatchOrder, Bound)>,
}

/// What a window knows of its next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front {
    /// This one.
    Task(DispatchOrder),
    /// There is none.
    Empty,
    /// The store must be asked for what lies behind this one.
    Unknown(Option<DispatchOrder>),
}

impl Window {
    const fn new(bound: Bound) -> Self {
        Self {
            entries: BTreeSet::new(),
            bound,
            farther: None,
        }
    }

    /// The first entry, or the first behind `after`.
    pub fn front(&self, after: Option<DispatchOrder>) -> Front {
        let bound = match (after, self.farther) {
            (Some(after), farther) if !self.bound.holds(after) => match farther {
                Some((from, bound)) if after >= from => bound,
                _ => return Front::Unknown(Some(after)),
            },
            _ => self.bound,
        };
        let first = match after {
            None => self.entries.first(),
            Some(after) => {
                use std::ops::Bound::{Excluded, Unbounded};
                self.entries.range((Excluded(after), Unbounded)).next()
            }
        };
        match (first, bound) {
            (Some(order), bound) if bound.holds(*order) => Front::Task(*order),
            (_, Bound::All) => Front::Empty,
            (_, Bound::Nothing) => Front::Unknown(None),
            (_, Bound::UpTo(bound)) => Front::Unknown(Some(bound)),
        }
    }

    fn insert(&mut self, order: DispatchOrder) {
        let is_farther = |(from, bound): (DispatchOrder, Bound)| from < order && bound.holds(order);
        if self.bound.holds(order) || self.farther.is_some_and(is_farther) {
            self.entries.insert(order);
        }
    }

    /// Forgets the stretch farther on.
    fn come_back(&mut self) {
        if self.farther.take().is_some() {
            let bound = self.bound;
            self.entries.retain(|order| bound.holds(*order));
        }
    }

    /// Cuts a window that has grown too long. Only between turns: what is cut must be stored.
    fn cut(&mut self) {
        self.come_back();
        if self.entries.len() > WINDOW_MAX {
            while self.entries.len() > WINDOW_KEPT {
                self.entries.pop_last();
            }
            self.bound = self
                .entries
                .last()
                .map_or(Bound::Nothing, |last| Bound::UpTo(*last));
        }
    }

    /// Takes in what lies behind `after`.
    fn absorb(&mut self, after: Option<DispatchOrder>, orders: &[DispatchOrder], complete: bool) {
        let upto = match (complete, orders.last()) {
            (true, _) | (false, None) => Bound::All,
            (false, Some(last)) => Bound::UpTo(*last),
        };
        match (after, self.farther) {
            (Some(after), farther) if !self.bound.holds(after) => match farther {
                Some((from, bound)) if bound == Bound::UpTo(after) => self.farther = Some((from, upto)),
                _ => {
                    self.come_back();
                    self.farther = Some((after, upto));
                }
            },
            _ => self.bound = upto,
        }
        self.entries.extend(orders);
    }

    /// Whether this task is in the known front.
    pub fn contains(&self, order: DispatchOrder) -> bool {
        self.entries.contains(&order)
    }
}

#[derive(Clone, Debug)]
struct Counted {
    len: u64,
    window: Window,
}

impl Counted {
    fn absorb(&mut self, after: Option<DispatchOrder>, orders: &[DispatchOrder], complete: bool) {
        self.window.absorb(after, orders, complete);
        let known = u64::try_from(self.window.entries.len()).unwrap_or(u64::MAX);
        self.len = self.len.max(known);
    }
}

/// All queues, and who wants which lock.
#[derive(Debug, Default)]
pub struct Queues {
    /// Whether a queue that is not here is known to be empty.
    complete: bool,
    waiting: HashMap<Queue, Counted>,
    by_gate: BTreeMap<Gate, BTreeSet<ClassId>>,
    wants: HashMap<LockName, Counted>,
    /// Windows that changed in this turn and may have to be cut after it.
    grown: BTreeSet<Queue>,
    grown_wants: BTreeSet<LockName>,
}

/// Whether a task is parked for a lock: then it has a claim on each of its locks.
fn wanted_locks(task: &Task) -> &[LockName] {
    match task.queue() {
        Some(Queue {
            gate: Some(Gate::Lock(_)),
            ..
        }) => &task.locks,
        _ => &[],
    }
}

impl Queues {
    /// Says that everything there is will be told.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Follows the change of a task.
    pub fn replace(&mut self, old: Option<&Task>, new: Option<&Task>) {
        if let Some(old) = old {
            if let Some(queue) = old.queue() {
                self.leave(&queue, old.order());
            }
            for lock in wanted_locks(old) {
                if let Some(counted) = self.wants.get_mut(lock) {
                    counted.len = counted.len.saturating_sub(1);
                    counted.window.entries.remove(&old.order());
                    self.grown_wants.insert(lock.clone());
                }
            }
        }
        if let Some(new) = new {
            for lock in wanted_locks(new) {
                let complete = self.complete;
                let counted = self.wants.entry(lock.clone()).or_insert_with(|| Counted {
                    len: 0,
                    window: Window::new(if complete { Bound::All } else { Bound::Nothing }),
                });
                counted.len += 1;
                counted.window.insert(new.order());
                self.grown_wants.insert(lock.clone());
            }
            if let Some(queue) = new.queue() {
                self.join(queue, new.order());
            }
        }
    }

    fn leave(&mut self, queue: &Queue, order: DispatchOrder) {
        if let Some(counted) = self.waiting.get_mut(queue) {
            counted.len = counted.len.saturating_sub(1);
            counted.window.entries.remove(&order);
            if counted.len == 0 {
                // The queue stays until the end of the turn: a rewind may bring its tasks back.
                self.grown.insert(queue.clone());
            }
        }
    }

    fn join(&mut self, queue: Queue, order: DispatchOrder) {
        if let Some(gate) = &queue.gate {
            self.by_gate.entry(gate.clone()).or_default().insert(queue.class);
        }
        let complete = self.complete;
        let counted = self.waiting.entry(queue.clone()).or_insert_with(|| Counted {
            len: 0,
            window: Window::new(if complete { Bound::All } else { Bound::Nothing }),
        });
        counted.len += 1;
        counted.window.insert(order);
        if counted.window.entries.len() > WINDOW_MAX {
            self.grown.insert(queue);
        }
    }

    /// Takes in a queue that the store says is not empty.
    pub fn absorb_queue(&mut self, queue: Queue, len: u64) {
        if let Some(gate) = &queue.gate {
            self.by_gate.entry(gate.clone()).or_default().insert(queue.class);
        }
        let entry = self.waiting.entry(queue).or_insert_with(|| Counted {
            len: 0,
            window: Window::new(Bound::Nothing),
        });
        entry.len = entry.len.max(len);
    }

    /// Takes in how many parked tasks want a lock.
    pub fn absorb_wants(&mut self, lock: LockName, len: u64) {
        self.wants
            .entry(lock)
            .or_insert_with(|| Counted {
                len: 0,
                window: Window::new(Bound::Nothing),
            })
            .len = len;
    }

    /// Takes in a stretch of a queue: what lies behind `after`.
    pub fn absorb_window(
        &mut self,
        queue: Queue,
        after: Option<DispatchOrder>,
        orders: &[DispatchOrder],
        complete: bool,
    ) {
        if let Some(gate) = &queue.gate {
            self.by_gate.entry(gate.clone()).or_default().insert(queue.class);
        }
        let counted = self.waiting.entry(queue).or_insert_with(|| Counted {
            len: 0,
            window: Window::new(Bound::Nothing),
        });
        counted.absorb(after, orders, complete);
    }

    /// Takes in a stretch of those who want a lock: what lies behind `after`.
    pub fn absorb_wanters(
        &mut self,
        lock: LockName,
        after: Option<DispatchOrder>,
        orders: &[DispatchOrder],
        complete: bool,
    ) {
        let counted = self.wants.entry(lock).or_insert_with(|| Counted {
            len: 0,
            window: Window::new(Bound::Nothing),
        });
        counted.absorb(after, orders, complete);
    }

    /// The front of a queue, or what lies behind `after`.
    pub fn front(&self, queue: &Queue, after: Option<DispatchOrder>) -> Front {
        match self.waiting.get(queue) {
            Some(counted) if counted.len == 0 => Front::Empty,
            Some(counted) => counted.window.front(after),
            None if self.complete => Front::Empty,
            None => Front::Unknown(None),
        }
    }

    /// Those who want a lock and wait for one, in order.
    pub fn wanters(&self, lock: &LockName, after: Option<DispatchOrder>) -> Front {
        match self.wants.get(lock) {
            Some(counted) if counted.len == 0 => Front::Empty,
            Some(counted) => counted.window.front(after),
            None if self.complete => Front::Empty,
            None => Front::Unknown(None),
        }
    }

    /// Whether anything waits in this queue, as far as is known.
    pub fn is_waiting(&self, queue: &Queue) -> bool {
        self.waiting.get(queue).is_some_and(|counted| counted.len > 0)
    }

    /// How many tasks wait in this queue, as far as is known.
    pub fn len(&self, queue: &Queue) -> u64 {
        self.waiting.get(queue).map_or(0, |counted| counted.len)
    }

    /// All queues in which something waits, in no order.
    pub fn waiting(&self) -> impl Iterator<Item = &Queue> {
        self.waiting
            .iter()
            .filter(|(_, counted)| counted.len > 0)
            .map(|(queue, _)| queue)
    }

    /// The queues that wait for this, by class.
    pub fn gated(&self, gate: &Gate) -> Vec<Queue> {
        self.by_gate
            .get(gate)
            .into_iter()
            .flatten()
            .map(|class| Queue {
                class: *class,
                gate: Some(gate.clone()),
            })
            .filter(|queue| self.is_waiting(queue))
            .collect()
    }

    /// Everything that some queue waits for beside an agent.
    pub fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.by_gate.keys()
    }

    /// Whether this task is in a window, so that its row is worth keeping in memory.
    pub fn holds(&self, task: &Task) -> bool {
        task.queue()
            .and_then(|queue| {
                self.waiting
                    .get(&queue)
                    .map(|counted| counted.window.contains(task.order()))
            })
            .unwrap_or(false)
    }

    /// Ends a turn: cuts windows that have grown too long, telling what was cut; drops queues that ran empty, and
    /// gives those.
    pub fn settle(&mut self, mut cut: impl FnMut(DispatchOrder)) -> Vec<Queue> {
        let mut dropped = Vec::new();
        for queue in std::mem::take(&mut self.grown) {
            let Some(counted) = self.waiting.get_mut(&queue) else {
                continue;
            };
            if counted.len == 0 {
                if self.complete {
                    self.waiting.remove(&queue);
                    dropped.push(queue.clone());
                    if let Some(gate) = &queue.gate
                        && let Some(classes) = self.by_gate.get_mut(gate)
                    {
                        classes.remove(&queue.class);
                        if classes.is_empty() {
                            self.by_gate.remove(gate);
                        }
                    }
                }
                continue;
            }
            let before = counted.window.entries.clone();
            counted.window.cut();
            before
                .difference(&counted.window.entries)
                .copied()
                .for_each(&mut cut);
        }
        for lock in std::mem::take(&mut self.grown_wants) {
            if let Some(counted) = self.wants.get_mut(&lock) {
                if counted.len == 0 && self.complete {
                    self.wants.remove(&lock);
                } else {
                    counted.window.cut();
                }
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Priority, TaskKey};

    fn order(key: i64) -> DispatchOrder {
        DispatchOrder {
            priority: Priority::Medium,
            key: TaskKey(key),
        }
    }

    fn orders(keys: impl IntoIterator<Item = i64>) -> Vec<DispatchOrder> {
        keys.into_iter().map(order).collect()
    }

    #[test]
    fn a_window_is_known_up_to_where_it_was_given() {
        let mut window = Window::new(Bound::Nothing);
        assert_eq!(window.front(None), Front::Unknown(None));
        window.absorb(None, &orders(1..=3), false);
        assert_eq!(window.front(None), Front::Task(order(1)));
        assert_eq!(window.front(Some(order(1))), Front::Task(order(2)));
        assert_eq!(window.front(Some(order(3))), Front::Unknown(Some(order(3))));
        window.absorb(Some(order(3)), &orders([4]), true);
        assert_eq!(window.front(Some(order(3))), Front::Task(order(4)));
        assert_eq!(window.front(Some(order(4))), Front::Empty);
    }

    #[test]
    fn a_search_goes_on_farther_on_without_what_lies_between() {
        for known in [None, Some(3)] {
            let mut window = Window::new(Bound::Nothing);
            if let Some(known) = known {
                window.absorb(None, &orders(1..=known), false);
            }
            let cursor = Some(order(50));
            assert_eq!(window.front(cursor), Front::Unknown(cursor));
            window.absorb(cursor, &orders([51, 52]), false);
            assert_eq!(window.front(cursor), Front::Task(order(51)));
            assert_eq!(window.front(Some(order(52))), Front::Unknown(Some(order(52))));
            window.absorb(Some(order(52)), &orders([53]), true);
            assert_eq!(window.front(Some(order(52))), Front::Task(order(53)));
            assert_eq!(window.front(Some(order(53))), Front::Empty);
            // What lies between is not known, whatever lies behind it.
            let last = known.map(order);
            assert_eq!(window.front(last), Front::Unknown(last));
            // Who joins is known where everything is.
            for (key, is_known) in [(1, known.is_some()), (20, false), (60, true)] {
                window.entries.remove(&order(key));
                window.insert(order(key));
                assert_eq!(window.contains(order(key)), is_known, "{key}");
            }
            window.cut();
            assert_eq!(window.front(cursor), Front::Unknown(cursor));
            assert_eq!(matches!(window.front(None), Front::Task(_)), known.is_some());
        }
    }

    #[test]
    fn a_search_that_jumps_again_leaves_nothing_behind() {
        let mut window = Window::new(Bound::Nothing);
        window.absorb(None, &orders([1]), false);
        window.absorb(Some(order(50)), &orders([51]), false);
        window.absorb(Some(order(90)), &orders([91]), false);
        assert_eq!(window.entries, BTreeSet::from_iter(orders([1, 91])));
        assert_eq!(window.front(Some(order(50))), Front::Unknown(Some(order(50))));
    }
}
