//! What is stored against what was committed, row by row.

use std::collections::{BTreeSet, HashMap};

use adjutant_core::attempt::AttemptKey;
use adjutant_core::name::LockName;
use adjutant_store::memory::Snapshot;

use super::books::Sum;
use super::{Check, Witness, hold};

impl Witness {
    /// Compares what it believes with what the store holds, and checks all counters.
    pub fn compare(&self, snapshot: &Snapshot) -> Check {
        hold!(
            snapshot.tasks.len() == self.tasks.len(),
            "I5: {} tasks were committed, {} are stored",
            self.tasks.len(),
            snapshot.tasks.len()
        );
        for task in &snapshot.tasks {
            hold!(
                self.tasks.get(&task.key) == Some(task),
                "I5: task {:?} is stored as {task:?}, it was committed as {:?}",
                task.id,
                self.tasks.get(&task.key)
            );
        }
        hold!(
            snapshot.attempts.len() == self.attempts.len(),
            "I5: attempts committed and stored differ"
        );
        for account in &snapshot.accounts {
            hold!(
                self.accounts.get(&account.attempt) == Some(account),
                "I9: the account of {} is not what was committed",
                account.attempt
            );
        }
        for scope in self.books.scopes() {
            let stored = snapshot.counters.get(&scope);
            hold!(
                stored == self.counters.get(&scope),
                "I9: the counter of {scope} is not what was committed"
            );
            self.books
                .check(&scope, stored.map(|counter| &**counter), self.last_now)?;
        }
        for agent in &snapshot.agents {
            let own: BTreeSet<AttemptKey> = agent.attempts.iter().copied().collect();
            let due = self.occupied.get(&agent.id).cloned().unwrap_or_default();
            hold!(
                own == due,
                "I2: {:?} is said to have {own:?}, it has {due:?}",
                agent.id
            );
            hold!(
                !agent.offline || own.is_empty(),
                "{:?} is offline and holds {own:?}",
                agent.id
            );
        }
        let locks: HashMap<LockName, AttemptKey> = snapshot
            .locks
            .iter()
            .map(|(lock, holder)| (lock.clone(), *holder))
            .collect();
        hold!(
            locks == self.locks,
            "I1: locks are stored as {locks:?}, they were committed as {:?}",
            self.locks
        );
        let first = snapshot.events.first().map_or(1, |event| event.seq);
        for (event, seq) in snapshot.events.iter().zip(first..) {
            hold!(event.seq == seq, "events have a gap at {seq}");
        }
        for line in &snapshot.archive {
            let mut sum = Sum::default();
            sum.add(line, 1);
            let due = self.books.archived(&line.scope, line.resets);
            hold!(
                sum == due,
                "I9: the archive of {} says {sum:?}, what was forgotten came to {due:?}",
                line.scope
            );
        }
        Ok(())
    }
}
