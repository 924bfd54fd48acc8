//! What is known of an attempt from what its program printed so far.

use std::time::Duration;

use adjutant_core::attempt::Tokens;
use adjutant_core::time::Timestamp;

use super::notice;
use super::tally::Tally;
use crate::session;
use crate::text::{Tail, start_of_last};

/// The newest of an answer that becomes the result: as much as of the output of a plain command.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The end of an error message that is kept.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// What a program said of how it went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The work is done.
    Success,
    /// It is not, and why.
    Failure(String),
}

/// Until when its provider takes no more requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// Until a time.
    Until(Timestamp),
    /// For so long from now on.
    For(Duration),
}

/// What is known of an attempt.
#[derive(Debug)]
pub(crate) struct Report {
    /// What it used.
    pub(crate) tally: Tally,
    /// The session by which it can be gone on with.
    pub(crate) session: Option<String>,
    /// What was counted of that session in all, where its program tells totals of it.
    pub(crate) counted: Tokens,
    /// How it went.
    pub(crate) verdict: Option<Verdict>,
    /// Its last word was said: it has nothing more to do than to end.
    pub(crate) settled: bool,
    /// Its provider takes no more requests.
    pub(crate) limit: Option<Limit>,
    /// The last error that it told of without giving up.
    pub(crate) complaint: Option<String>,
    answer: Tail,
    /// The next text begins a new answer.
    answered: bool,
}

impl Report {
    pub(super) const fn new(tally: Tally) -> Self {
        Self {
            tally,
            session: None,
            counted: Tokens {
                tokens_in: 0,
                tokens_out: 0,
                tokens_cached: 0,
            },
            verdict: None,
            settled: false,
            limit: None,
            complaint: None,
            answer: Tail::new(MAX_ANSWER_BYTES),
            answered: true,
        }
    }

    /// The session is known.
    pub(super) fn in_session(&mut self, id: Option<&str>) {
        if let Some(id) = id.filter(|id| session::is_id(id))
            && self.session.as_deref() != Some(id)
        {
            self.session = Some(id.to_owned());
        }
    }

    /// It does not go on with what it said: the next text is another answer.
    pub(super) const fn end_answer(&mut self) {
        self.answered = true;
    }

    /// More of the answer.
    pub(super) fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.answered) {
            self.answer = Tail::new(MAX_ANSWER_BYTES);
        }
        self.answer.push(&clean(text));
    }

    /// The whole answer.
    pub(super) fn answer(&mut self, text: &str) {
        self.answered = true;
        self.say(text);
    }

    /// It works on: nothing that was said of its end holds.
    pub(super) fn go_on(&mut self) {
        self.settled = false;
        self.verdict = None;
        if let Some(Limit::For(_)) = self.limit {
            self.limit = None;
        }
    }

    /// The work is done. What went wrong on the way does not matter any more.
    pub(super) fn succeed(&mut self) {
        self.verdict = Some(Verdict::Success);
        self.complaint = None;
    }

    /// The work is not done.
    pub(super) fn fail(&mut self, why: &str) {
        let why = clip(why);
        if self.limit.is_none() {
            self.limit = notice::wait_in(&why).map(Limit::For);
        }
        self.verdict = Some(Verdict::Failure(why));
    }

    /// Something went wrong that need not be the end.
    pub(super) fn complain(&mut self, why: &str) {
        self.complaint = Some(clip(why));
    }

    /// What it printed of its answer.
    pub(crate) fn take_answer(&mut self) -> String {
        self.answer.take()
    }
}

/// The end of a message that may be of any length.
fn clip(message: &str) -> String {
    let message = message.trim();
    clean(&message[start_of_last(message, MAX_MESSAGE_BYTES)..])
}

/// Without U+0000, which the server refuses.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
