//! Submissions on their way into a turn: they give way to agents.
//!
//! What agents say keeps work going, and there is only so much of it; submissions can come in any number. So they are
//! set aside as they come out of the inbox, and each turn takes some of them behind everything else. They are still
//! taken in the order in which they came, and none waits for ever, since every turn takes some.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adjutant_core::command::Command;

use crate::handle::Letter;

/// Submitted tasks that wait for their turn; beyond that submissions are refused at once. It is what is taken in a
/// fraction of a second: who came later would wait for longer than it takes to come again.
const MAX_SUBMITTED: usize = 2_048;

/// Submitted tasks in one turn, unless one batch has more. What agents say is taken before them, whatever came first,
/// and so waits for no more than two such turns. A few dozen share an fsync nearly as well as hundreds do.
const MAX_SUBMITTED_IN_TURN: usize = 64;
/// Where the store is far away: there a turn costs journeys, whatever its size.
const MAX_SUBMITTED_IN_FAR_TURN: usize = 256;

/// Submitted tasks that wait for their turn. They give way to what agents say, so that a flood of them stands in
/// nobody's way; hence there are only so many.
#[derive(Debug, Default)]
pub(crate) struct Submitted(AtomicUsize);

impl Submitted {
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MAX_SUBMITTED
    }

    /// Counts tasks in, unless there are too many already. A batch is not refused for its own size.
    pub(crate) fn enter(&self, tasks: usize) -> bool {
        let before = self.0.fetch_add(tasks, Ordering::Relaxed);
        if before >= MAX_SUBMITTED {
            self.leave(tasks);
            return false;
        }
        true
    }

    /// Counts tasks out: their turn has come, or they were not sent.
    pub(crate) fn leave(&self, tasks: usize) {
        self.0.fetch_sub(tasks, Ordering::Relaxed);
    }
}

/// How many tasks a command submits.
pub(crate) const fn tasks_of(command: &Command) -> usize {
    match command {
        Command::Submit { tasks, .. } => {
            if tasks.is_empty() {
                1
            } else {
                tasks.len()
            }
        }
        _ => 0,
    }
}

/// Submissions that have come out of the inbox and wait for their turn.
pub(crate) struct Submissions {
    letters: VecDeque<Letter>,
    submitted: Arc<Submitted>,
    /// Submitted tasks in one turn.
    most: usize,
}

impl Submissions {
    /// None, counted by `submitted`, on the way to a store that is near or far.
    pub(crate) const fn new(submitted: Arc<Submitted>, far: bool) -> Self {
        Self {
            letters: VecDeque::new(),
            submitted,
            most: if far {
                MAX_SUBMITTED_IN_FAR_TURN
            } else {
                MAX_SUBMITTED_IN_TURN
            },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Keeps a submission for later; what is none is given back.
    pub(crate) fn set_aside(&mut self, letter: Letter) -> Option<Letter> {
        if tasks_of(&letter.request.command) == 0 {
            return Some(letter);
        }
        self.letters.push_back(letter);
        None
    }

    /// Adds those whose turn it is: some, or all when there is no later turn.
    pub(crate) fn add(&mut self, letters: &mut Vec<Letter>, all: bool) {
        let mut tasks = 0;
        while let Some(letter) = self.letters.pop_front() {
            let own = tasks_of(&letter.request.command);
            if tasks > 0 && tasks + own > self.most && !all {
                self.letters.push_front(letter);
                return;
            }
            tasks += own;
            self.submitted.leave(own);
            letters.push(letter);
        }
    }
}
