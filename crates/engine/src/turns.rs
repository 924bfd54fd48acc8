//! Turns: load, decide, commit, one after the other. No threads and no clock of its own: `now` comes in.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use adjutant_core::command::{Answer, Command, Request, TaskView, Ticket};
use adjutant_core::decide::{Decision, Outcome, Verdict, decide, foresee};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Wanted};
use adjutant_core::set::{Settings, WorkingSet};
use adjutant_core::task::{Body, TaskKey};
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::{CommitError, Forgotten, Store, StoreError};

use crate::bodies::Bodies;

/// A turn is decided again at most so often for missing rows: each round brings what the last one named, and rules
/// refer to other rows only a few steps deep. A cascade or a long queue takes more.
const MAX_ROUNDS: usize = 10_000;

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Who is answered what. A request that is not here waits.
    pub answers: Vec<(Ticket, Verdict)>,
    /// The number of the last event, when the turn committed something.
    pub last_seq: Option<u64>,
    /// A dispatch pass is to follow.
    pub pass: bool,
    /// Something was passed over because another server has it locked.
    pub skipped: bool,
    /// What the turn changed, bodies aside.
    pub changes: Changes,
}

/// Why a turn was not taken. Nothing was changed, unless that is what is not known.
#[derive(Debug)]
pub enum NotTaken {
    /// The store failed; the turn may be tried again.
    Store(StoreError),
    /// A bug, or a row that cannot be read: with these requests together the turn cannot be taken.
    Bug(String),
    /// Whether the turn was committed cannot be found out: this process must end.
    Unknown(String),
}

/// A store, and what is known of it.
pub struct Turns<S> {
    store: S,
    set: WorkingSet,
    bodies: Bodies,
    /// What a turn named that another server was in the way of. Taken again, it asks for all of that at once: in the
    /// order of locks, and so without being in the way of one another.
    foreseen: Wanted,
    /// What this turn has named so far.
    named: Wanted,
}

impl<S: Store> Turns<S> {
    /// Takes over a store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut store: S, settings: Settings, now: Timestamp) -> Result<Self, StoreError> {
        let set = fresh(&mut store, settings, now)?;
        Ok(Self {
            store,
            set,
            bodies: Bodies::default(),
            foreseen: Wanted::default(),
            named: Wanted::default(),
        })
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The store, to let something go wrong with it.
    pub const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The newest time that the store speaks of, as far as it is known: no turn may lie before it.
    pub fn newest(&self) -> Timestamp {
        self.set.last_now()
    }

    /// The earliest time at which the passing of time alone changes something.
    pub fn next_deadline(&self, now: Timestamp) -> Timestamp {
        self.set.next_deadline(now)
    }

    /// Takes one turn with these requests.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn take(&mut self, requests: &[Request], now: Timestamp) -> Result<Taken, NotTaken> {
        let outcome = self.prepare(requests, now)?;
        self.finish(outcome)
    }

    /// The first half of a turn: loads and decides. Where the store is shared, what it loaded stays locked until the
    /// turn is [finished](Self::finish) or this server crashes.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn prepare(&mut self, requests: &[Request], now: Timestamp) -> Result<Outcome, NotTaken> {
        let decided = catch_unwind(AssertUnwindSafe(|| self.decide(requests, now)));
        match decided {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => {
                self.give_up();
                Err(match error {
                    // One row that cannot be read is no reason to refuse those that do not ask for it.
                    StoreError::Broken(why) => NotTaken::Bug(why),
                    other => NotTaken::Store(other),
                })
            }
            Err(panic) => {
                let why = panic_text(&*panic);
                self.rebuild(now)?;
                Err(NotTaken::Bug(why))
            }
        }
    }

    fn decide(&mut self, requests: &[Request], mut now: Timestamp) -> Result<Outcome, StoreError> {
        self.named = Wanted::default();
        let mut foreseen = std::mem::take(&mut self.foreseen);
        if self.store.is_shared() {
            let sure = foresee(requests);
            foreseen.add_named(&sure);
            (foreseen.queues, foreseen.roomy) = (sure.queues, sure.roomy);
        }
        if !foreseen.is_empty() {
            now = self.load(&foreseen)?.unwrap_or(now);
        }
        for _ in 0..MAX_ROUNDS {
            match decide(&mut self.set, requests, now) {
                Decision::Done(outcome) => return Ok(outcome),
                Decision::More(wanted) => now = self.load(&wanted)?.unwrap_or(now),
            }
        }
        panic!("a turn asked for rows {MAX_ROUNDS} times")
    }

    /// Loads rows. Where servers share the store, what time it is now is known only when they are locked.
    fn load(&mut self, wanted: &Wanted) -> Result<Option<Timestamp>, StoreError> {
        if self.store.is_shared() {
            self.named.add_named(wanted);
        }
        let rows = self.store.load(wanted).inspect_err(|error| {
            if matches!(error, StoreError::Busy(_)) {
                self.foreseen = std::mem::take(&mut self.named);
            }
        })?;
        let now = rows.latest;
        self.set.absorb(wanted, rows);
        Ok(now)
    }

    /// The second half of a turn: commits what was decided.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn finish(&mut self, outcome: Outcome) -> Result<Taken, NotTaken> {
        let shared = self.store.is_shared();
        let mut changes = self.set.take_changes(shared);
        let mut taken = Taken {
            answers: outcome.answers,
            last_seq: None,
            pass: outcome.pass,
            skipped: self.set.skipped(),
            changes: Changes::default(),
        };
        if changes.is_empty() {
            self.store.abandon();
        } else {
            match self.store.commit(&changes) {
                Ok(seq) => taken.last_seq = Some(seq),
                Err(CommitError::RolledBack(StoreError::Broken(why))) => {
                    self.give_up();
                    return Err(NotTaken::Bug(why));
                }
                Err(CommitError::RolledBack(error)) => {
                    self.give_up();
                    if matches!(error, StoreError::Busy(_)) {
                        self.foreseen = std::mem::take(&mut self.named);
                    }
                    return Err(NotTaken::Store(error));
                }
                Err(CommitError::Unknown(why)) => return Err(NotTaken::Unknown(why)),
            }
        }
        for (key, body) in std::mem::take(&mut changes.bodies) {
            self.bodies.put(key, body);
        }
        taken.changes = changes;
        self.settle();
        self.fill_bodies(&mut taken.answers);
        Ok(taken)
    }

    /// Between turns: has the store forget a batch of what is over and not kept.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn forget(&mut self, retention: &Retention, now: Timestamp) -> Result<Forgotten, NotTaken> {
        // A turn that was given up may have left finished tasks in memory: none may be remembered that is gone.
        self.settle();
        match self.store.forget(retention, now) {
            Ok(forgotten) => Ok(forgotten),
            Err(CommitError::RolledBack(error)) => Err(NotTaken::Store(error)),
            Err(CommitError::Unknown(why)) => Err(NotTaken::Unknown(why)),
        }
    }

    fn settle(&mut self) {
        if self.store.is_shared() {
            let set = std::mem::take(&mut self.set);
            self.set = set.successor();
        } else {
            self.set.settle();
        }
    }

    /// Forgets what the turn did.
    fn give_up(&mut self) {
        self.store.abandon();
        self.set.discard();
        let _ = self.set.take_wanted();
        if self.store.is_shared() {
            let set = std::mem::take(&mut self.set);
            self.set = set.successor();
        }
    }

    /// After a panic nothing in memory is to be trusted: everything is read anew. Who waits goes on waiting.
    fn rebuild(&mut self, now: Timestamp) -> Result<(), NotTaken> {
        self.store.abandon();
        let settings = self.set.settings.clone();
        // Without a census there is nothing to go on with: the process must end.
        let set = fresh(&mut self.store, settings, now)
            .map_err(|error| NotTaken::Unknown(format!("after a bug the store cannot be read: {error}")))?;
        let old = std::mem::replace(&mut self.set, set);
        self.set.adopt_waiters(old);
        Ok(())
    }

    /// Puts the bodies that are at hand, or can be had at once, into answers that show tasks.
    fn fill_bodies(&mut self, answers: &mut [(Ticket, Verdict)]) {
        let mut missing = BTreeSet::new();
        for view in answers.iter_mut().flat_map(views) {
            if view.body.is_none() {
                view.body = self.bodies.get(view.task.key);
            }
            if view.body.is_none() {
                missing.insert(view.task.key);
            }
        }
        if missing.is_empty() || !self.store.is_shared() {
            return;
        }
        let missing: Vec<TaskKey> = missing.into_iter().collect();
        let found: HashMap<TaskKey, Arc<Body>> = match self.store.bodies(&missing) {
            Ok(found) => found.into_iter().collect(),
            Err(error) => {
                tracing::debug!(%error, "bodies are read beside the turns");
                return;
            }
        };
        for view in answers.iter_mut().flat_map(views) {
            if view.body.is_none() {
                view.body = found.get(&view.task.key).cloned();
            }
        }
        for (key, body) in found {
            self.bodies.put(key, body);
        }
    }
}

/// The tasks that an answer shows.
fn views((_, verdict): &mut (Ticket, Verdict)) -> Vec<&mut TaskView> {
    match verdict {
        Ok(Answer::Task(view)) => vec![view],
        Ok(Answer::Batch(items)) => items.iter_mut().flatten().collect(),
        Ok(Answer::Sync(sync)) => {
            let started = sync.start.iter_mut().map(|start| &mut start.view);
            started.chain(sync.done.iter_mut().flatten()).collect()
        }
        _ => Vec::new(),
    }
}

/// A working set to begin with: complete where the store is ours alone.
fn fresh<S: Store>(store: &mut S, settings: Settings, now: Timestamp) -> Result<WorkingSet, StoreError> {
    let shared = store.is_shared();
    let mut set = WorkingSet::new(settings, !shared);
    set.set_lane(store.lane());
    if !shared {
        let rows = store.census()?;
        set.begin(rows, now);
    }
    Ok(set)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

/// What a caller is told when new work cannot be taken because the store is nearly full.
pub(crate) fn storage_low() -> Rejection {
    Rejection::new(
        Slug::StorageLow,
        "the store is nearly out of space: completions are taken, new tasks are not; free some space",
    )
    .retry_after(Some(Span::from_secs(30)))
}

/// Whether a request adds to the store what is not the end of something.
pub(crate) const fn is_growth(command: &Command) -> bool {
    matches!(command, Command::Submit { .. } | Command::Output { .. })
}
