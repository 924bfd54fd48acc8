//! Forgetting: what the retention lets go. What another server holds is left for later.

use std::sync::Arc;

use adjutant_core::attempt::{Attempt, AttemptKey};
use adjutant_core::ledger::Line;
use adjutant_core::retention::{Candidate, Retention, archive};
use adjutant_core::task::TaskKey;
use adjutant_core::time::Timestamp;

use super::rows::World;
use super::{Held, Server, Shared};
use crate::{Forgotten, MAX_FORGOTTEN_EVENTS, MAX_FORGOTTEN_TASKS};

/// Forgets the next batch.
pub(super) fn batch(shared: &mut Shared, server: Server, retention: &Retention, now: Timestamp) -> Forgotten {
    let mut forgotten = Forgotten::default();
    if retention.forgets_finished() {
        tasks(shared, server, retention, now, &mut forgotten);
        jobs(&mut shared.world, retention, now, &mut forgotten);
    }
    if retention.forgets_events() {
        events(&mut shared.world, retention, now, &mut forgotten);
    }
    // What went may have been what kept something older.
    forgotten.more = forgotten.tasks + forgotten.jobs > 0 || forgotten.events == MAX_FORGOTTEN_EVENTS as u64;
    forgotten
}

fn tasks(
    shared: &mut Shared,
    server: Server,
    retention: &Retention,
    now: Timestamp,
    forgotten: &mut Forgotten,
) {
    let is_over = |key: &TaskKey| shared.world.tasks[key].status.is_terminal();
    let over: Vec<TaskKey> = shared.world.tasks.keys().copied().filter(is_over).collect();
    let mut left = over.len() as u64;
    for key in over {
        if forgotten.tasks == MAX_FORGOTTEN_TASKS as u64 {
            return;
        }
        if shared.is_held_by_other(server, &Held::Task(key)) {
            continue;
        }
        let world = &mut shared.world;
        let task = Arc::clone(&world.tasks[&key]);
        let (attempts, lines) = (world.attempts_of(key), world.lines_of(key));
        let candidate = Candidate {
            task: Some(&task),
            attempts: &attempts,
            lines: &lines,
        };
        let goes = retention.lets_go(&candidate, now, retention.excess(left) > 0);
        if !goes || !world.is_needed_by_none(key) {
            continue;
        }
        world.tasks.remove(&key);
        world.ids.remove(&task.id);
        world.bodies.remove(&key);
        world.endings.remove(&key);
        world.notes.remove(&key);
        world.outputs.remove(&key);
        world
            .edges
            .retain(|(dependency, dependent), _| *dependency != key && *dependent != key);
        world.forget_attempts(&attempts, &lines);
        forgotten.tasks += 1;
        forgotten.by_status[usize::from(task.status.code())] += 1;
        left -= 1;
    }
}

fn jobs(world: &mut World, retention: &Retention, now: Timestamp, forgotten: &mut Forgotten) {
    for latest in world.jobs.clone().into_values() {
        // That there was such a job stays known: a late report must not open its account anew.
        let (attempts, lines) = (world.attempts_of(latest.task), world.lines_of(latest.task));
        let candidate = Candidate {
            task: None,
            attempts: &attempts,
            lines: &lines,
        };
        if attempts.is_empty() {
            continue;
        }
        if forgotten.jobs < MAX_FORGOTTEN_TASKS as u64 && retention.lets_go(&candidate, now, false) {
            world.forget_attempts(&attempts, &lines);
            forgotten.jobs += 1;
        }
    }
}

fn events(world: &mut World, retention: &Retention, now: Timestamp, forgotten: &mut Forgotten) {
    let last = world.last_seq();
    let gone = world
        .events
        .iter()
        .take(MAX_FORGOTTEN_EVENTS)
        .take_while(|event| retention.lets_event_go(event.at, last - event.seq, now))
        .count();
    world.events.drain(..gone);
    forgotten.events = gone as u64;
}

impl World {
    fn attempts_of(&self, key: TaskKey) -> Vec<Arc<Attempt>> {
        self.attempts
            .range(all_of(key))
            .map(|(_, attempt)| Arc::clone(attempt))
            .collect()
    }

    fn lines_of(&self, key: TaskKey) -> Vec<Line> {
        self.accounts
            .range(all_of(key))
            .flat_map(|(_, account)| account.lines.iter().cloned())
            .collect()
    }

    /// Whether nothing that depends on a task needs it any more.
    fn is_needed_by_none(&self, key: TaskKey) -> bool {
        self.edges
            .range((key, TaskKey(i64::MIN))..=(key, TaskKey(i64::MAX)))
            .all(|((_, dependent), state)| {
                self.tasks
                    .get(dependent)
                    .is_none_or(|dependent| Retention::is_done(*state, dependent.status))
            })
    }

    fn forget_attempts(&mut self, attempts: &[Arc<Attempt>], lines: &[Line]) {
        for attempt in attempts {
            self.attempts.remove(&attempt.key);
            self.accounts.remove(&attempt.key);
        }
        for line in lines {
            let archived = self
                .archive
                .entry((line.scope.clone(), line.resets))
                .or_insert_with(|| Line::new(line.scope.clone(), line.hour, line.resets, None));
            archive(archived, line);
        }
    }
}

fn all_of(task: TaskKey) -> std::ops::RangeInclusive<AttemptKey> {
    AttemptKey { task, number: 0 }..=AttemptKey {
        task,
        number: u32::MAX,
    }
}
