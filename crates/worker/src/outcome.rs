//! How an attempt went, from what its program printed and how its process ended.
//!
//! ```text
//!  printed            ended by itself with 0    otherwise                      ended after its result
//!  a success          success                   failure: exit code …           success
//!  a failure          failure: what it says     failure: what it says          failure: what it says
//!  nothing of it      failure: no result        failure: exit code …: stderr   –
//! ```
//!
//! A program that prints text for people has no result: its exit code decides. A failure for which the program's provider
//! said when it takes requests again is no failure of the task.

use std::process::ExitStatus;
use std::time::Duration;

use adjutant_core::time::{Span, Timestamp};

use crate::adapter::{Adapter, Limit, Prints, Verdict, wait_in};

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    /// By itself.
    Itself(ExitStatus),
    /// It was ended because it went on after its result.
    AfterResult,
    /// It was ended because its time was over.
    TimedOut(Duration),
}

/// What was heard of an attempt's program.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What it printed, where it is an agent's.
    pub(crate) agent: Option<Words>,
    /// The end of its stderr.
    pub(crate) error: String,
}

/// What an agent's program said.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) prints: Prints,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) settled: bool,
    pub(crate) limit: Option<Limit>,
    pub(crate) complaint: Option<String>,
    /// What it printed beside events.
    pub(crate) stray: String,
    /// What of its events could not be read, for people.
    pub(crate) odd: String,
}

/// How an attempt went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What went wrong, if anything.
    pub(crate) problem: Option<String>,
    /// When its provider takes requests again, where that is what went wrong.
    pub(crate) limited_until: Option<Timestamp>,
}

/// Judges.
pub(crate) fn judge(adapter: &Adapter, exit: Exit, heard: &Heard, now: Timestamp) -> Outcome {
    let problem = problem(adapter, exit, heard);
    let limit = match (&problem, &heard.agent) {
        (Some(problem), Some(words)) => words
            .limit
            // Without a word on how it went the reason is all that there is.
            .or_else(|| {
                words
                    .verdict
                    .is_none()
                    .then(|| wait_in(problem).map(Limit::For))?
            }),
        _ => None,
    };
    let limited_until = limit.map(|limit| match limit {
        Limit::Until(time) => time,
        Limit::For(wait) => now + span(wait),
    });
    Outcome {
        problem: match (problem, limited_until) {
            (Some(problem), Some(until)) => Some(format!("rate limited until {until}: {problem}")),
            (problem, _) => problem,
        },
        limited_until,
    }
}

fn problem(adapter: &Adapter, exit: Exit, heard: &Heard) -> Option<String> {
    let verdict = heard.agent.as_ref().and_then(|words| words.verdict.as_ref());
    let settled = heard.agent.as_ref().is_some_and(|words| words.settled);
    match (verdict, exit) {
        (Some(Verdict::Failure(why)), Exit::Itself(_) | Exit::AfterResult) => Some(why.clone()),
        (Some(Verdict::Failure(why)), Exit::TimedOut(_)) if settled => Some(why.clone()),
        (Some(Verdict::Success), Exit::TimedOut(_)) if settled => None,
        (_, Exit::TimedOut(timeout)) => Some(format!("timed out after {}", span(timeout))),
        (Some(Verdict::Success), Exit::Itself(status)) if !status.success() => {
            let how = how(adapter, status);
            Some(with_reason(
                &format!("{how} after a result that says success"),
                &heard.error,
            ))
        }
        (Some(Verdict::Success), _) | (None, Exit::AfterResult) => None,
        (None, Exit::Itself(status)) => match &heard.agent {
            Some(words) if words.prints == Prints::Events => {
                Some(without_result(adapter, status, words, heard))
            }
            _ if status.success() => None,
            _ => Some(with_reason(&how(adapter, status), &heard.error)),
        },
    }
}

/// The first of an error that it told of, stderr, and what it printed beside events, that there is.
fn without_result(adapter: &Adapter, status: ExitStatus, words: &Words, heard: &Heard) -> String {
    let stated = words.complaint.as_deref().into_iter();
    let mut reasons = stated.chain([heard.error.trim(), words.stray.trim()]);
    let reason = reasons.find(|reason| !reason.is_empty()).unwrap_or("");
    let kind = adapter.kind();
    let how = how(adapter, status);
    with_reason(
        &format!("{how}, and {kind} printed no result{}", words.odd),
        reason,
    )
}

fn with_reason(how: &str, reason: &str) -> String {
    match reason.trim() {
        "" => how.to_owned(),
        reason => format!("{how}: {reason}"),
    }
}

fn how(adapter: &Adapter, status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => match adapter.exit_words(code) {
            Some(words) => format!("exit code {code} ({words})"),
            None => format!("exit code {code}"),
        },
        (None, Some(signal)) => {
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            format!("killed by {name}")
        }
        (None, None) => status.to_string(),
    }
}

fn span(duration: Duration) -> Span {
    Span::from_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}
