//! Who runs and who is done: what the worker says in a roll-call, and what an answer changes of it.
//!
//! No IO and no clock: a list with rules.
//!
//! # Invariants
//! - An (id, attempt) is admitted at most once, also after it is over.
//! - Each attempt that was admitted is in every roll-call, in `running` or in `done`, until its processes are gone
//!   and its completion, if it has one, was answered.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;

use adjutant_wire::{BatchItem, Completion, ErrorBody, Running, Start, Stop, SyncRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attempt::{Ending, MAX_COMPLETION_BYTES};
use crate::observer::Cause;
use crate::stop::{Order, Orders};

/// The completions of one roll-call are together at most this long as JSON; the server takes 4 MiB in all.
const MAX_DONE_BYTES: usize = MAX_COMPLETION_BYTES;
/// The most completions of one roll-call.
const MAX_DONE: usize = 500;
/// Attempts that are over and remembered, in case that an offer of them comes late.
const MAX_REMEMBERED: usize = 4_096;

/// Which attempt of which task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) attempt: u32,
}

impl Key {
    pub(crate) fn of(start: &Start) -> Self {
        Self {
            id: start.task.id.clone(),
            attempt: start.attempt,
        }
    }

    fn running(&self) -> Running {
        Running {
            id: self.id.clone(),
            attempt: self.attempt,
        }
    }
}

impl From<Stop> for Key {
    fn from(stop: Stop) -> Self {
        Self {
            id: stop.id,
            attempt: stop.attempt,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempt {})", self.id, self.attempt)
    }
}

/// What the server made of a completion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It took it.
    Taken(Key),
    /// It did not and will not.
    Refused(Key, ErrorBody),
}

/// All attempts of a worker.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Attempts with processes, and how to stop them.
    running: BTreeMap<Key, watch::Sender<Option<Order>>>,
    /// Completions that were not acknowledged, oldest first.
    done: VecDeque<Done>,
    /// Attempts that were interrupted because the worker ends, and not given back yet.
    interrupted: Vec<Key>,
    /// A whole roll-call was refused: completions go one by one, so that the others do not suffer for the bad one.
    one_by_one: bool,
    remembered: VecDeque<Key>,
    known: HashSet<Key>,
}

#[derive(Debug)]
struct Done {
    key: Key,
    completion: Completion,
    size: usize,
    /// The server could not even read it, so that it was replaced by a bare failure.
    bare: bool,
}

impl Roster {
    /// Takes an attempt in; gives its stop signal, or nothing when it was seen before.
    pub(crate) fn admit(&mut self, key: &Key) -> Option<Orders> {
        if !self.known.insert(key.clone()) {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        self.running.insert(key.clone(), sender);
        Some(receiver)
    }

    /// Tells an attempt to stop; says whether that is news. The first cause stands.
    pub(crate) fn stop(&mut self, key: &Key, cause: Cause) -> bool {
        self.running.get(key).is_some_and(|sender| {
            sender.send_if_modified(|told| {
                let news = told.is_none();
                if news {
                    *told = Some(Order::because(cause));
                }
                news
            })
        })
    }

    /// Tells all attempts to stop.
    pub(crate) fn stop_all(&mut self, cause: Cause) {
        let keys: Vec<Key> = self.running.keys().cloned().collect();
        for key in &keys {
            self.stop(key, cause);
        }
    }

    /// Tells all attempts that their lease is lost, also those that are ending already: by then they must be gone.
    pub(crate) fn lose_all(&mut self, gone_by: Option<Instant>) {
        for sender in self.running.values() {
            sender.send_modify(|told| {
                let order = told.get_or_insert(Order::because(Cause::LeaseLost));
                order.gone_by = gone_by;
            });
        }
    }

    /// The processes of an attempt are gone.
    pub(crate) fn finish(&mut self, key: Key, ending: Ending) {
        self.running.remove(&key);
        match ending {
            Ending::Completed(completion) => self.done.push_back(Done::new(key, *completion)),
            Ending::Stopped(Cause::Shutdown) => self.interrupted.push(key),
            Ending::Stopped(_) => self.forget(key),
        }
    }

    /// How many attempts have processes.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many completions were not acknowledged.
    pub(crate) fn undelivered(&self) -> usize {
        self.done.len()
    }

    /// Which completions were not acknowledged.
    pub(crate) fn undelivered_keys(&self) -> impl Iterator<Item = &Key> {
        self.done.iter().map(|done| &done.key)
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.done.is_empty()
    }

    /// Attempts that were interrupted because the worker ends, and not given back yet.
    pub(crate) fn interrupted(&self) -> &[Key] {
        &self.interrupted
    }

    /// An interrupted attempt was given back.
    pub(crate) fn given_back(&mut self, key: &Key) {
        self.interrupted.retain(|other| other != key);
        self.forget(key.clone());
    }

    /// What runs and what is done, for a roll-call; and which completions are in it.
    pub(crate) fn compose(&self) -> (SyncRequest, Vec<Key>) {
        let most = if self.one_by_one { 1 } else { MAX_DONE };
        let mut size = 0;
        let batch: Vec<&Done> = self
            .done
            .iter()
            .take(most)
            .take_while(|done| {
                let first = size == 0;
                size += done.size;
                first || size <= MAX_DONE_BYTES
            })
            .collect();
        let later = self.done.iter().skip(batch.len()).map(|done| &done.key);
        let request = SyncRequest {
            running: self
                .running
                .keys()
                .chain(&self.interrupted)
                .chain(later)
                .map(Key::running)
                .collect(),
            done: batch.iter().map(|done| done.completion.clone()).collect(),
            ..SyncRequest::default()
        };
        (request, batch.into_iter().map(|done| done.key.clone()).collect())
    }

    /// Takes the answers to the completions of `batch`, in their order. What is not settled is sent again.
    pub(crate) fn settle(&mut self, batch: &[Key], results: Vec<BatchItem>) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (key, result) in batch.iter().zip(results) {
            let error = match (result.status, result.error) {
                (200..=299, _) => {
                    self.drop_done(key);
                    settled.push(Settled::Taken(key.clone()));
                    continue;
                }
                (code, Some(error)) => ErrorBody { code, ..error },
                (code, None) => bare_error(code),
            };
            if error.retryable || matches!(error.code, 429 | 500..) {
                continue;
            }
            settled.extend(self.refuse(key, error));
        }
        if !settled.is_empty() {
            self.one_by_one = false;
        }
        settled
    }

    /// The server could not read a roll-call with the completions of `batch`: finds out which one it is.
    pub(crate) fn suspect(&mut self, batch: &[Key], error: ErrorBody) -> Option<Settled> {
        if let [only] = batch {
            self.one_by_one = false;
            self.refuse(only, error)
        } else {
            self.one_by_one = true;
            None
        }
    }

    /// A completion that the server cannot take as it is goes again as a bare failure; one that it will not take
    /// at all is given up.
    fn refuse(&mut self, key: &Key, error: ErrorBody) -> Option<Settled> {
        let malformed = matches!(error.code, 400 | 413 | 415 | 422);
        if malformed && let Some(done) = self.done.iter_mut().find(|done| done.key == *key && !done.bare) {
            *done = Done::bare(done, &error);
            return None;
        }
        self.drop_done(key);
        Some(Settled::Refused(key.clone(), error))
    }

    fn drop_done(&mut self, key: &Key) {
        self.done.retain(|done| done.key != *key);
        self.forget(key.clone());
    }

    /// The attempt is over. It stays known for a while, so that a late offer does not start it again.
    fn forget(&mut self, key: Key) {
        self.remembered.push_back(key);
        if self.remembered.len() > MAX_REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Done {
    fn new(key: Key, completion: Completion) -> Self {
        Self {
            key,
            size: serde_json::to_string(&completion).map_or(0, |json| json.len()),
            completion,
            bare: false,
        }
    }

    fn bare(of: &Self, error: &ErrorBody) -> Self {
        let completion = Completion {
            id: Some(of.key.id.clone()),
            attempt: Some(of.key.attempt),
            agent_id: of.completion.agent_id.clone(),
            success: false,
            error_message: format!("the server did not take the result: {error}").replace('\0', "\u{FFFD}"),
            // What was spent was spent.
            model: of.completion.model.clone(),
            tokens_in: of.completion.tokens_in,
            tokens_out: of.completion.tokens_out,
            tokens_cached: of.completion.tokens_cached,
            cost: of.completion.cost,
            ..Completion::default()
        };
        Self {
            bare: true,
            ..Self::new(of.key.clone(), completion)
        }
    }
}

fn bare_error(code: u16) -> ErrorBody {
    ErrorBody {
        code,
        message: format!("the server answered {code}"),
        details: String::new(),
        error: String::new(),
        retryable: false,
    }
}
