//! What a store forgets: only what is over, what nothing waits for, and what no period counts any more.

use std::collections::HashSet;

use adjutant_core::attempt::AttemptKey;
use adjutant_core::task::{Status, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_store::memory::Snapshot;

use super::{Check, Witness, hold};

impl Witness {
    /// A store forgot something; this is what is left.
    pub fn forgot(&mut self, left: &Snapshot, now: Timestamp) {
        self.last_now = self.last_now.max(now);
        let checked = self.check_forgotten(left);
        self.note(checked);
    }

    fn check_forgotten(&mut self, left: &Snapshot) -> Check {
        let tasks: HashSet<TaskKey> = left.tasks.iter().map(|task| task.key).collect();
        let attempts: HashSet<AttemptKey> = left.attempts.iter().map(|attempt| attempt.key).collect();
        let gone: Vec<AttemptKey> = self
            .attempts
            .keys()
            .filter(|key| !attempts.contains(*key))
            .copied()
            .collect();
        for key in gone {
            let attempt = self.attempts.remove(&key);
            hold!(
                attempt.is_some_and(|attempt| !attempt.is_live() && !attempt.occupies),
                "attempt {key} was forgotten while it lived"
            );
            if let Some(account) = self.accounts.remove(&key) {
                let today = self.last_now.day();
                hold!(
                    account.lines.iter().all(|line| line.hour < today),
                    "I9: lines of {key} were forgotten, which count for today"
                );
                self.books.forget(&account);
            }
        }
        let gone: Vec<TaskKey> = self
            .tasks
            .keys()
            .filter(|key| !tasks.contains(*key))
            .copied()
            .collect();
        for key in &gone {
            let Some(task) = self.tasks.remove(key) else {
                continue;
            };
            hold!(
                task.status.is_terminal() && task.fanout.is_none(),
                "I5: task {:?} was forgotten, it is {:?}",
                task.id,
                task.status
            );
            self.forgotten += 1;
            if task.status == Status::Completed {
                self.completed_once.insert(task.id.clone());
            }
            self.ids.remove(&task.id);
            self.dependencies.remove(key);
        }
        let gone: HashSet<TaskKey> = gone.into_iter().collect();
        for (of, dependent) in self.edges.keys() {
            let waits = self
                .tasks
                .get(dependent)
                .is_some_and(|task| !task.status.is_terminal());
            hold!(
                !gone.contains(of) || !waits,
                "task {of:?} was forgotten, and {dependent:?} depends on it"
            );
        }
        self.edges
            .retain(|(of, dependent), _| !gone.contains(of) && !gone.contains(dependent));
        Ok(())
    }
}
