//! I1, I2, I7, I8, I10: who holds what, and that attempts end by the word of those who may say so.

use std::collections::{BTreeSet, HashMap};

use adjutant_core::attempt::{Attempt, AttemptKey, AttemptState, Outcome};
use adjutant_core::command::{Command, Completion};
use adjutant_core::event::EventKind;
use adjutant_core::name::TaskId;
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{DependencyState, Status, Task, TaskKey};

use super::{Before, Check, Moment, Started, Witness, hold};

impl Witness {
    pub(super) fn custody(
        &mut self,
        moment: &Moment,
        changes: &Changes,
        before: &Before,
        started: &[Started],
    ) -> Check {
        for change in &changes.attempts {
            let old = before.attempts[&change.key].as_deref();
            let Some(now) = change.now.clone() else {
                return Err(format!("attempt {} was removed", change.key));
            };
            if now.is_live() && !now.external {
                let other = self.live.insert(now.key.task, now.key);
                hold!(
                    other.is_none(),
                    "I1: task of attempt {} has two live attempts: {other:?}",
                    now.key
                );
            }
            self.end_is_justified(moment, old, &now)?;
        }
        for change in &changes.tasks {
            let old = before.tasks[&change.key].as_deref();
            let Some(now) = change.now.as_deref() else {
                return Err(format!("I5: task {:?} was removed", change.key));
            };
            self.task(old, now)?;
        }
        self.locks_are_held_once(changes)?;
        for start in started {
            self.start(start.key, before)?;
        }
        for change in &changes.agents {
            self.agent(
                moment,
                before.agents[&change.key].as_deref(),
                change.now.as_deref(),
            )?;
        }
        Self::events_tell(changes, before, started)
    }

    fn task(&self, old: Option<&Task>, now: &Task) -> Check {
        let live = self.live.get(&now.key);
        let own = AttemptKey {
            task: now.key,
            number: now.attempt,
        };
        hold!(
            (now.status == Status::InProgress) == live.is_some() && live.is_none_or(|live| *live == own),
            "I1: task {:?} is {:?} with attempt {}, its live attempt is {live:?}",
            now.id,
            now.status,
            now.attempt
        );
        hold!(
            now.status == Status::InProgress || now.status.is_terminal() || now.claimed_by.is_none(),
            "task {:?} is {:?} and claimed",
            now.id,
            now.status
        );
        hold!(
            now.retry_count <= now.max_retries,
            "task {:?} has {} failures of {}",
            now.id,
            now.retry_count,
            now.max_retries
        );
        if let Some(old) = old {
            hold!(
                old.status != Status::Completed || now.status == Status::Completed,
                "I10: task {:?} was completed and is {:?}",
                now.id,
                now.status
            );
            hold!(
                now.attempt >= old.attempt,
                "the fencing token of {:?} fell",
                now.id
            );
        }
        if matches!(now.status, Status::InProgress | Status::Pending) {
            hold!(
                now.unmet == 0,
                "I7: task {:?} is {:?} with unmet dependencies",
                now.id,
                now.status
            );
        }
        Ok(())
    }

    /// I2, I7.
    fn start(&self, key: AttemptKey, before: &Before) -> Check {
        let Some(attempt) = self.attempts.get(&key) else {
            return Err(format!("a start of {key} was told, and there is no such attempt"));
        };
        for id in self.dependencies.get(&key.task).into_iter().flatten() {
            let status = self
                .ids
                .get(id)
                .and_then(|key| self.tasks.get(key))
                .map(|task| task.status);
            hold!(
                status == Some(Status::Completed) || (status.is_none() && self.completed_once.contains(id)),
                "I7: {key} started while dependency {id:?} is {status:?}"
            );
        }
        if attempt.registered && attempt.is_live() {
            let Some(agent) = self.agents.get(&attempt.agent) else {
                return Err(format!(
                    "{key} started for {:?}, which is not there",
                    attempt.agent
                ));
            };
            if let Some(old) = before.agents.get(&agent.id)
                && old.as_ref().is_none_or(|old| old.max_load != agent.max_load)
            {
                // It registered in this very transaction: the bound may be lower than what runs.
                return Ok(());
            }
            let load = self.occupied.get(&attempt.agent).map_or(0, BTreeSet::len);
            hold!(
                agent.max_load == 0 || load <= usize::try_from(agent.max_load).unwrap_or(usize::MAX),
                "I2: {:?} has {load} attempts, at most {} may be",
                agent.id,
                agent.max_load
            );
        }
        Ok(())
    }

    /// I1: no two attempts that occupy share a lock, and the stored locks say who holds them.
    fn locks_are_held_once(&self, changes: &Changes) -> Check {
        for change in &changes.attempts {
            let Some(attempt) = &change.now else { continue };
            for lock in attempt.locks.iter() {
                let holder = self.locks.get(lock);
                if attempt.occupies {
                    hold!(
                        holder == Some(&attempt.key),
                        "I1: attempt {} has lock {lock}, which is held by {holder:?}",
                        attempt.key
                    );
                } else {
                    hold!(
                        holder != Some(&attempt.key),
                        "lock {lock} is still held by {}, which no longer occupies",
                        attempt.key
                    );
                }
            }
        }
        for change in &changes.locks {
            let (Some(before), Some(now)) = (change.before.as_deref(), change.now.as_deref()) else {
                continue;
            };
            let still = self.attempts.get(before).is_some_and(|attempt| attempt.occupies);
            hold!(
                before == now || !still,
                "I1: lock {} went from {before} to {now} while the first still occupies",
                change.key
            );
        }
        Ok(())
    }

    /// I8, I10: an attempt completes or fails only by a report that names it, or that its holder made without a number.
    fn end_is_justified(&self, moment: &Moment, old: Option<&Attempt>, now: &Attempt) -> Check {
        let AttemptState::Ended(outcome) = now.state else {
            hold!(
                old.is_none_or(Attempt::is_live),
                "I10: attempt {} had ended and lives again",
                now.key
            );
            return Ok(());
        };
        if let Some(old) = old
            && old.state == now.state
        {
            return Ok(());
        }
        if let Some(AttemptState::Ended(earlier)) = old.map(|old| old.state) {
            hold!(
                earlier.may_succeed_late() && outcome == Outcome::Completed,
                "I8: attempt {} ended as {earlier:?} and then as {outcome:?}",
                now.key
            );
            let current = self.tasks.get(&now.key.task).map(|task| task.attempt);
            hold!(
                now.external || current == Some(now.key.number),
                "I8: attempt {} succeeded late, though {current:?} has started",
                now.key
            );
        }
        if now.external {
            // Jobs that were dispatched elsewhere also end by themselves, and by usage that comes without a start.
            return Ok(());
        }
        let success = match outcome {
            Outcome::Completed => true,
            Outcome::Failed => false,
            Outcome::Lost | Outcome::TimedOut | Outcome::Cancelled | Outcome::Released => return Ok(()),
        };
        let reported = moment
            .sent
            .iter()
            .any(|request| reports(&request.command, &now.task_id, now.key.number, success));
        hold!(
            reported,
            "I8: attempt {} of {:?} ended as {outcome:?}, and nobody reported that",
            now.key,
            now.task_id
        );
        Ok(())
    }

    /// Nobody is reaped before it was silent for a ttl under the eyes of the server that reaps it.
    fn agent(
        &self,
        moment: &Moment,
        old: Option<&adjutant_core::agent::Agent>,
        now: Option<&adjutant_core::agent::Agent>,
    ) -> Check {
        let Some(now) = now else { return Ok(()) };
        let reaped = now.offline && old.is_some_and(|old| !old.offline);
        if !reaped {
            return Ok(());
        }
        let watched = self
            .watches
            .get(&moment.server)
            .map_or(moment.now, |watch| watch.since);
        let heard = self.heard.get(&now.id).copied().unwrap_or(watched);
        let silent = moment.now.since(heard.max(watched));
        hold!(
            silent >= self.ttl,
            "{:?} was reaped after {silent} of silence that server {} watched; the ttl is {}",
            now.id,
            moment.server,
            self.ttl
        );
        Ok(())
    }

    /// Each start, end and birth has exactly one event.
    fn events_tell(changes: &Changes, before: &Before, started: &[Started]) -> Check {
        let mut told: HashMap<(EventKind, TaskKey), i64> = HashMap::new();
        for event in &changes.events {
            if let Some((task, _)) = &event.task {
                *told.entry((event.kind, *task)).or_default() += 1;
            }
        }
        for change in &changes.tasks {
            let Some(now) = change.now.as_deref() else {
                continue;
            };
            let old = before.tasks[&change.key].as_deref();
            let kind = match now.status {
                _ if old.is_none() => EventKind::TaskCreated,
                Status::Completed => EventKind::TaskCompleted,
                _ => continue,
            };
            let due = i64::from(old.is_none_or(|old| old.status != now.status));
            let count = told.get(&(kind, now.key)).copied().unwrap_or(0);
            hold!(
                count == due || (old.is_none() && count == 1),
                "{} events {} for {:?} in one transaction, {due} are due",
                count,
                kind.name(),
                now.id
            );
        }
        let live = changes
            .attempts
            .iter()
            .filter(|change| change.before.is_none())
            .filter(|change| change.now.as_ref().is_some_and(|now| !now.external))
            .count();
        hold!(
            live == started.len(),
            "{live} attempts started, {} starts were told",
            started.len()
        );
        Ok(())
    }

    /// What a new task depends on, as its client named it.
    pub(super) fn remember_dependencies(&mut self, moment: &Moment, key: TaskKey) {
        let Some(task) = self.tasks.get(&key) else { return };
        let named = moment.sent.iter().find_map(|request| {
            let Command::Submit { tasks, .. } = &request.command else {
                return None;
            };
            tasks
                .iter()
                .flatten()
                .find(|new| new.id == task.id)
                .map(|new| new.body.dependencies.clone())
        });
        self.dependencies.insert(key, named.unwrap_or_default());
    }

    /// What the rows say of dependencies is what follows from the states of the tasks. Looks at everything.
    pub fn check_dependencies(&self) -> Check {
        for ((of, dependent), state) in &self.edges {
            let (of, dependent) = (&self.tasks[of], &self.tasks[dependent]);
            hold!(
                of.fanout.is_some() || *state == DependencyState::of(of.status),
                "{:?} is {:?}, and {:?} believes {state:?}",
                of.id,
                of.status,
                dependent.id
            );
        }
        for task in self.tasks.values() {
            let waits = self
                .dependencies
                .get(&task.key)
                .into_iter()
                .flatten()
                .filter_map(|id| self.tasks.get(self.ids.get(id)?))
                .filter(|task| task.status != Status::Completed)
                .count();
            let told = self.tasks.values().all(|other| other.fanout.is_none());
            hold!(
                !told || usize::try_from(task.unmet) == Ok(waits),
                "{:?} has {} unmet dependencies, {waits} are",
                task.id,
                task.unmet
            );
        }
        Ok(())
    }
}

fn reports(command: &Command, id: &TaskId, number: u32, success: bool) -> bool {
    let completes = |completion: &Completion| {
        completion.id == *id
            && completion.attempt.is_none_or(|named| named == number)
            && completion.result.success == success
    };
    match command {
        Command::Complete { completions, .. } => completions.iter().flatten().any(completes),
        Command::Sync(sync) => sync.done.iter().any(completes),
        Command::Patch(task, patch) => {
            let wanted = if success {
                Status::Completed
            } else {
                Status::Failed
            };
            task == id && patch.status == Some(wanted) && patch.attempt.is_none_or(|named| named == number)
        }
        _ => false,
    }
}
