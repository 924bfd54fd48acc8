//! Submission: what is accepted, and what depends on what.
//!
//! # Invariants
//! - I5: a task is accepted whole, in the state that its dependencies give it, or not at all.
//! - A bad item of a batch fails alone, with what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Reply, Turn};
use crate::command::NewTask;
use crate::event::EventKind;
use crate::name::TaskId;
use crate::rejection::{Rejection, Slug};
use crate::set::rows::Value;
use crate::set::{Halt, Need, Opened};
use crate::task::{DEFAULT_MAX_RETRIES, DependencyState, Status, Task, TaskKey};

impl Turn<'_> {
    pub(super) fn submit(&mut self, items: &[Result<NewTask, Rejection>], batch: bool) -> Need<Reply> {
        if !batch && let [item] = items {
            let new = item.as_ref().map_err(Clone::clone)?;
            let key = self.set.next_key(self.now);
            return Ok(Reply::Task(self.accept(new, key, &BTreeMap::new())?));
        }
        Ok(Reply::Batch(self.submit_batch(items)?))
    }

    /// Accepts the items in an order in which each comes after those of the batch that it depends on.
    fn submit_batch(
        &mut self,
        items: &[Result<NewTask, Rejection>],
    ) -> Need<Vec<Result<TaskKey, Rejection>>> {
        let mut results: Vec<Option<Result<TaskKey, Rejection>>> = items
            .iter()
            .map(|item| item.as_ref().err().map(|rejection| Err(rejection.clone())))
            .collect();
        // Items with the same id: the first stands.
        let mut first: BTreeMap<&TaskId, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Ok(new) = item {
                first.entry(&new.id).or_insert(index);
            }
        }
        // Items arrive in the order given, whatever depends on what.
        let keys: Vec<TaskKey> = items.iter().map(|_| self.set.next_key(self.now)).collect();
        let order = acceptance_order(items, &first, &mut results);
        let mut accepted = BTreeMap::new();
        let mut failed: BTreeSet<&TaskId> = BTreeSet::new();
        let mut missing = false;
        for index in order {
            let Ok(new) = &items[index] else { continue };
            if results[index].is_some() {
                continue;
            }
            if let Some(bad) = new.body.dependencies.iter().find(|id| failed.contains(id)) {
                failed.insert(&new.id);
                results[index] = Some(Err(Rejection::new(
                    Slug::UnknownDependency,
                    format!("dependencies: `{bad}` of the same batch was refused"),
                )));
                continue;
            }
            let mark = self.set.mark();
            match self.accept(new, keys[index], &accepted) {
                Ok(key) => {
                    accepted.insert(new.id.clone(), key);
                    results[index] = Some(Ok(key));
                }
                Err(halt) => {
                    self.set.rewind(mark);
                    match halt {
                        Halt::Rejected(rejection) => {
                            failed.insert(&new.id);
                            results[index] = Some(Err(*rejection));
                        }
                        // Go on, so that one load brings what all items need.
                        Halt::Missing => missing = true,
                    }
                }
            }
        }
        if missing {
            return Err(Halt::Missing);
        }
        Ok(results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(internal())))
            .collect())
    }

    /// Accepts one task. `siblings` are those of the same batch that were accepted before it.
    fn accept(&mut self, new: &NewTask, key: TaskKey, siblings: &BTreeMap<TaskId, TaskKey>) -> Need<TaskKey> {
        if !new.fresh_id && self.set.find_task(&new.id)?.is_some() {
            return Err(exists(&new.id).into());
        }
        let class = self.set.class(&new.demand)?;
        let dependencies = self.find_dependencies(new, siblings)?;
        let unmet = dependencies
            .values()
            .filter(|state| **state != DependencyState::Met)
            .count();
        let failed = dependencies
            .values()
            .filter(|state| **state == DependencyState::Failed)
            .count();
        let status = if unmet > 0 {
            Status::Blocked
        } else {
            Status::Pending
        };
        let task = Task {
            key,
            id: new.id.clone(),
            class,
            priority: new.priority,
            status,
            held: false,
            project: new.project.clone(),
            repo: new.repo.clone(),
            produces: new.produces,
            locks: Arc::clone(&new.locks),
            estimated_tokens: new.estimated_tokens,
            timeout: new.timeout.filter(|timeout| !timeout.is_zero()),
            not_before: new.not_before,
            delayed_until: new.not_before.filter(|time| *time > self.now),
            max_retries: if new.max_retries == 0 {
                DEFAULT_MAX_RETRIES
            } else {
                new.max_retries
            },
            retry_count: 0,
            attempt: 0,
            dependencies: count(dependencies.len()),
            unmet: count(unmet),
            failed_dependencies: count(failed),
            dependents: 0,
            gate: None,
            claimed_by: None,
            claimed_at: None,
            lease_expires_at: None,
            deadline: None,
            last_attempt: None,
            failed_on: Arc::default(),
            progress: 0,
            notes: 0,
            has_result: false,
            refusal_told: false,
            usage: Arc::default(),
            ready_since: new.not_before.map_or(self.now, |time| time.max(self.now)),
            updated_at: self.now,
            fanout: None,
        };
        for (of, state) in dependencies {
            let mut depended = (*self.set.task(of)?).clone();
            depended.dependents += 1;
            self.set.put_task(depended);
            self.set.put_edge(of, key, state);
        }
        self.set.emit(
            EventKind::TaskCreated,
            Some(&task),
            None,
            self.now,
            vec![("status", Value::Text(status.name().into()))],
        );
        let task = self.set.add_task(task, Arc::clone(&new.body));
        if task.queue().is_some() {
            self.set.opened.push(Opened::Task(key));
        }
        Ok(key)
    }

    /// The tasks that a new one depends on, and how each stands.
    fn find_dependencies(
        &mut self,
        new: &NewTask,
        siblings: &BTreeMap<TaskId, TaskKey>,
    ) -> Need<BTreeMap<TaskKey, DependencyState>> {
        let mut found = BTreeMap::new();
        let mut unknown = None;
        let mut missing = false;
        if new.body.dependencies.contains(&new.id) {
            return Err(Rejection::new(
                Slug::DependencyCycle,
                format!("dependencies: `{}` cannot depend on itself", new.id),
            )
            .into());
        }
        for id in &new.body.dependencies {
            let key = match siblings.get(id) {
                Some(key) => Ok(Some(*key)),
                None => self.set.find_task(id),
            };
            let task = match key {
                Ok(Some(key)) => self.set.task(key),
                Ok(None) => {
                    unknown.get_or_insert(id);
                    continue;
                }
                Err(halt) => Err(halt),
            };
            match task {
                Ok(task) => {
                    found.insert(task.key, DependencyState::of(task.status));
                }
                Err(Halt::Missing) => missing = true,
                Err(halt) => return Err(halt),
            }
        }
        // What was asked for is waited for, whatever else is wrong.
        match unknown {
            _ if missing => Err(Halt::Missing),
            Some(id) => {
                Err(Rejection::new(Slug::UnknownDependency, format!("dependencies: no task `{id}`")).into())
            }
            None => Ok(found),
        }
    }
}

/// An order in which every item comes after the items of the batch that it depends on; items on a circle are refused.
fn acceptance_order(
    items: &[Result<NewTask, Rejection>],
    first: &BTreeMap<&TaskId, usize>,
    results: &mut [Option<Result<TaskKey, Rejection>>],
) -> Vec<usize> {
    let mut waits_for = vec![0_usize; items.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (index, item) in items.iter().enumerate() {
        let Ok(new) = item else { continue };
        if first.get(&new.id) != Some(&index) {
            results[index] = Some(Err(exists(&new.id)));
            continue;
        }
        let needed: BTreeSet<usize> = new
            .body
            .dependencies
            .iter()
            .filter_map(|id| first.get(id).copied())
            .collect();
        for other in needed {
            if other != index {
                waits_for[index] += 1;
                dependents[other].push(index);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..items.len())
        .filter(|index| items[*index].is_ok() && waits_for[*index] == 0)
        .collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for dependent in &dependents[index] {
            waits_for[*dependent] -= 1;
            if waits_for[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    for (index, item) in items.iter().enumerate() {
        // What waits for a bad item is not on a circle: it is refused when its turn comes.
        if let Ok(new) = item
            && waits_for[index] > 0
            && results[index].is_none()
        {
            results[index] = Some(Err(Rejection::new(
                Slug::DependencyCycle,
                format!(
                    "dependencies: `{}` and others of the batch wait for each other",
                    new.id
                ),
            )));
        }
    }
    order
}

fn exists(id: &TaskId) -> Rejection {
    Rejection::new(Slug::TaskExists, format!("a task `{id}` exists"))
}

fn internal() -> Rejection {
    Rejection::new(Slug::Internal, "an item of the batch was not dealt with")
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
