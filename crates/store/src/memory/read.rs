//! Reading beside the turns.

use std::sync::{Arc, Mutex, PoisonError};

use adjutant_core::command::AccessToken;
use adjutant_core::event::Event;
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::task::{DependencyState, Priority, Status, Task, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, Webhook};

use super::Shared;
use super::rows::World;
use crate::{Details, MAX_BLOCKERS, MAX_HEADS, Page, Reader, StoreError, StoredTask, TaskFilter};

/// The secret of a store in memory: there is nothing to protect beyond the process.
const SECRET: [u8; 32] = [7; 32];

pub(super) struct MemoryReader {
    pub(super) shared: Arc<Mutex<Shared>>,
}

impl MemoryReader {
    fn read<T>(&self, ask: impl FnOnce(&World) -> T) -> T {
        ask(&self.shared.lock().unwrap_or_else(PoisonError::into_inner).world)
    }
}

impl Reader for MemoryReader {
    fn task(&mut self, id: &TaskId) -> Result<Option<StoredTask>, StoreError> {
        Ok(self.read(|world| {
            let task = world.tasks.get(world.ids.get(id)?)?;
            Some(StoredTask {
                task: Arc::clone(task),
                details: details(world, task),
            })
        }))
    }

    fn tasks(&mut self, filter: &TaskFilter) -> Result<Page, StoreError> {
        Ok(self.read(|world| page(world, filter)))
    }

    fn details(&mut self, tasks: &[Arc<Task>]) -> Result<Vec<Details>, StoreError> {
        Ok(self.read(|world| tasks.iter().map(|task| details(world, task)).collect()))
    }

    fn events(&mut self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.read(|world| {
            let first = world.events.partition_point(|event| event.seq <= since);
            world.events[first..].iter().take(limit).cloned().collect()
        }))
    }

    fn task_events(&mut self, task: TaskKey, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.read(|world| {
            let of_task = |event: &&Event| event.task.as_ref().is_some_and(|(key, _)| *key == task);
            world
                .events
                .iter()
                .filter(|event| event.seq > since)
                .filter(of_task)
                .take(limit)
                .cloned()
                .collect()
        }))
    }

    fn task_events_before(
        &mut self,
        task: TaskKey,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        Ok(self.read(|world| {
            let of_task = |event: &&Event| event.task.as_ref().is_some_and(|(key, _)| *key == task);
            world
                .events
                .iter()
                .rev()
                .filter(|event| event.seq < before)
                .filter(of_task)
                .take(limit)
                .cloned()
                .collect()
        }))
    }

    fn output(&mut self, task: TaskKey) -> Result<String, StoreError> {
        Ok(self.read(|world| world.outputs.get(&task).cloned().unwrap_or_default()))
    }

    fn counts(&mut self) -> Result<[u64; 6], StoreError> {
        Ok(self.read(|world| {
            let mut counts = [0; 6];
            for task in world.tasks.values() {
                counts[usize::from(task.status.code())] += 1;
            }
            counts
        }))
    }

    fn ready_since(&mut self) -> Result<[Option<Timestamp>; 4], StoreError> {
        Ok(self.read(|world| {
            Priority::ALL.map(|priority| {
                world
                    .tasks
                    .values()
                    .filter(|task| task.status == Status::Pending && task.priority == priority)
                    .take(MAX_HEADS)
                    .filter(|task| task.delayed_until.is_none())
                    .map(|task| task.ready_since)
                    .min()
            })
        }))
    }

    fn last_seq(&mut self) -> Result<u64, StoreError> {
        Ok(self.read(World::last_seq))
    }

    fn peers(&mut self) -> Result<Vec<AgentId>, StoreError> {
        Ok(self.read(|world| {
            let peers = world.agents.values().filter(|agent| agent.peer.is_some());
            peers.map(|agent| agent.id.clone()).collect()
        }))
    }

    fn tokens(&mut self) -> Result<Vec<AccessToken>, StoreError> {
        Ok(self.read(|world| world.tokens.values().cloned().collect()))
    }

    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        Ok(self.read(|world| {
            world
                .webhooks
                .values()
                .map(|webhook| (**webhook).clone())
                .collect()
        }))
    }

    fn deliveries(
        &mut self,
        webhook: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Delivery)>, StoreError> {
        Ok(self.read(|world| {
            let mut found = world.deliveries_of(webhook);
            found.retain(|(seq, _)| *seq > after);
            found.truncate(limit);
            found
        }))
    }

    fn due_deliveries(&mut self, webhook: &str, limit: usize) -> Result<Vec<(u64, Delivery)>, StoreError> {
        Ok(self.read(|world| {
            let mut found = world.deliveries_of(webhook);
            found.retain(|(_, delivery)| delivery.due_at.is_some());
            found.sort_by_key(|(seq, delivery)| (delivery.due_at, *seq));
            found.truncate(limit);
            found
        }))
    }

    fn secret(&mut self) -> Result<[u8; 32], StoreError> {
        Ok(SECRET)
    }
}

fn details(world: &World, task: &Task) -> Details {
    let ending = world.endings.get(&task.key);
    let blockers: Vec<TaskId> = world
        .edges
        .range((task.key, TaskKey(0))..=(task.key, TaskKey(i64::MAX)))
        .filter(|(_, state)| **state != DependencyState::Met)
        .filter_map(|((_, dependent), _)| world.tasks.get(dependent))
        .filter(|dependent| dependent.status == Status::Blocked)
        .map(|dependent| dependent.id.clone())
        .collect();
    Details {
        body: world.bodies.get(&task.key).cloned().unwrap_or_default(),
        result: ending.and_then(|ending| ending.result.clone()),
        fail_reason: ending.and_then(|ending| ending.fail_reason.clone()),
        notes: world.notes.get(&task.key).cloned().unwrap_or_default(),
        blockers_count: u32::try_from(blockers.len()).unwrap_or(u32::MAX),
        blockers: blockers.into_iter().take(MAX_BLOCKERS).collect(),
    }
}

fn page(world: &World, filter: &TaskFilter) -> Page {
    let by_dispatch = filter.status == Some(Status::Pending);
    let mut tasks: Vec<&Arc<Task>> = world
        .tasks
        .values()
        .filter(|task| filter.status.is_none_or(|status| task.status == status))
        .filter(|task| filter.priority.is_none_or(|priority| task.priority == priority))
        .filter(|task| filter.project.is_none() || task.project == filter.project)
        .filter(|task| filter.claimed_by.is_none() || task.claimed_by == filter.claimed_by)
        .filter(|task| {
            filter
                .labels
                .iter()
                .all(|label| task.class.demand.labels.contains(label))
        })
        .filter(|task| match filter.after {
            None => true,
            Some((priority, key)) if by_dispatch => (task.priority, task.key) > (priority, key),
            Some((_, key)) => task.key < key,
        })
        .collect();
    if by_dispatch {
        tasks.sort_by_key(|task| task.order());
    } else {
        tasks.reverse();
    }
    let more = tasks.len() > filter.limit;
    tasks.truncate(filter.limit);
    Page {
        next: tasks
            .last()
            .filter(|_| more)
            .map(|task| (task.priority, task.key)),
        tasks: tasks
            .into_iter()
            .map(|task| StoredTask {
                task: Arc::clone(task),
                details: details(world, task),
            })
            .collect(),
    }
}
