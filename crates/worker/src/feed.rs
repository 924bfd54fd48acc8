//! What a command prints, as it is taken apart while it runs: output for the result, output for those who watch,
//! usage, and the end of what it complains about.
//!
//! # Invariants
//! - Memory is bounded by the limits below, whatever is printed and however slowly the server takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::adapter::{Listener, Meaning, Prints, Verdict, interpret};
use crate::lines::{Lines, Piece};
use crate::outcome::{Heard, Words};
use crate::session::Session;
use crate::text::{Decoder, Tail};
use crate::usage::Usage;

/// The newest output that becomes the result: as much as the server keeps of live output.
pub(crate) const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// The newest of what an agent's program printed that is told where there is nothing in it that could be read.
const MAX_RAW_BYTES: usize = 64 * 1024;
/// The newest output that waits to be sent to those who watch.
pub(crate) const MAX_LIVE_BYTES: usize = 256 * 1024;
/// The end of stderr that becomes the error message.
pub(crate) const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Shared by those who read the command's pipes and those who tell the server.
pub(crate) struct Feed {
    state: Mutex<State>,
    /// Told when the command says that it used something.
    pub(crate) spent: Notify,
    /// The session of an agent's program.
    session: watch::Sender<Option<Session>>,
    /// Whether the program said its last word; told again with whatever it prints after it.
    settled: watch::Sender<bool>,
    /// Set once the command has ended and all was read.
    pub(crate) closed: tokio_util::sync::CancellationToken,
}

struct State {
    decoder: Decoder,
    output: Tail,
    live: Tail,
    error_decoder: Decoder,
    error: Tail,
    usage: Usage,
    ear: Ear,
    /// What an agent's program prints is only passed on.
    deaf: bool,
}

/// How standard output is understood.
enum Ear {
    /// As that of a plain command: lines of usage are taken out.
    Plain(Lines),
    /// As that of an agent's program.
    Agent(Box<Listener>),
}

impl Feed {
    /// `listener` understands what an agent's program prints.
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        let most = match &listener {
            Some(listener) if listener.prints() == Prints::Events => MAX_RAW_BYTES,
            _ => MAX_OUTPUT_BYTES,
        };
        Self {
            state: Mutex::new(State {
                decoder: Decoder::default(),
                output: Tail::new(most),
                live: Tail::new(MAX_LIVE_BYTES),
                error_decoder: Decoder::default(),
                error: Tail::new(MAX_ERROR_BYTES),
                usage: Usage::default(),
                ear: listener.map_or_else(
                    || Ear::Plain(Lines::default()),
                    |listener| Ear::Agent(Box::new(listener)),
                ),
                deaf: false,
            }),
            spent: Notify::new(),
            session: watch::Sender::new(None),
            settled: watch::Sender::new(false),
            closed: tokio_util::sync::CancellationToken::new(),
        }
    }

    /// Takes standard output in; says whether there was a report of usage in it.
    pub(crate) fn stdout(&self, bytes: &[u8]) -> bool {
        let state = &mut *self.lock();
        let State {
            decoder,
            output,
            live,
            usage,
            ear,
            deaf,
            ..
        } = state;
        let reported = match ear {
            Ear::Plain(lines) => {
                let mut reported = false;
                lines.push(bytes, |piece| {
                    reported |= take(&piece, decoder, output, live, usage);
                });
                reported
            }
            Ear::Agent(listener) => {
                let text = decoder.push(bytes);
                output.push(&text);
                live.push(&text);
                if *deaf {
                    return false;
                }
                listener.push(bytes);
                self.listen(listener, usage)
            }
        };
        if reported {
            self.spent.notify_one();
        }
        reported
    }

    /// Passes on what is new in what an agent's program said; says whether there was usage in it.
    fn listen(&self, listener: &mut Listener, usage: &mut Usage) -> bool {
        let report = listener.report();
        let news = report.tally.news();
        let reported = !news.is_empty();
        for totals in news {
            usage.update(totals);
        }
        let counted = report.counted;
        let session = report.session.as_ref();
        self.session.send_if_modified(|known| {
            let is_news = session.is_some_and(|id| {
                known
                    .as_ref()
                    .is_none_or(|known| known.id != *id || known.counted != counted)
            });
            if is_news {
                *known = session.map(|id| Session {
                    id: id.clone(),
                    counted,
                });
            }
            is_news
        });
        let settled = report.settled;
        // Whatever it prints after its last word shows that it is not stuck yet.
        self.settled
            .send_if_modified(|was| std::mem::replace(was, settled) || settled);
        reported
    }

    /// Takes standard error in.
    pub(crate) fn stderr(&self, bytes: &[u8]) {
        let state = &mut *self.lock();
        let text = state.error_decoder.push(bytes);
        state.error.push(&text);
    }

    /// The command has ended: nothing more comes.
    pub(crate) fn close(&self) {
        let state = &mut *self.lock();
        let State {
            decoder,
            output,
            live,
            usage,
            ear,
            ..
        } = state;
        match ear {
            Ear::Plain(lines) => lines.finish(|piece| {
                take(&piece, decoder, output, live, usage);
            }),
            Ear::Agent(listener) => {
                listener.finish();
                self.listen(listener, usage);
            }
        }
        let rest = decoder.finish();
        output.push(rest);
        live.push(rest);
        let rest = state.error_decoder.finish();
        state.error.push(rest);
        self.closed.cancel();
    }

    /// The session of an agent's program, once it is known.
    pub(crate) fn session(&self) -> watch::Receiver<Option<Session>> {
        self.session.subscribe()
    }

    /// Ends when the program said its last word, and then nothing for so long. What it says while it is ended does not
    /// change how it went.
    pub(crate) async fn lingers(&self, grace: Duration) {
        let mut settled = self.settled.subscribe();
        loop {
            let is_settled = *settled.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(grace), if is_settled => {
                    self.lock().deaf = true;
                    return;
                }
                Ok(()) = settled.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Output that those who watch have not got yet.
    pub(crate) fn take_live(&self) -> Option<String> {
        let mut state = self.lock();
        (!state.live.is_empty()).then(|| state.live.take())
    }

    /// What [`Feed::take_live`] gave could not be sent.
    pub(crate) fn restore_live(&self, text: &str) {
        self.lock().live.restore(text);
    }

    /// The output that becomes the result: the answer of an agent's program, or else what was printed.
    pub(crate) fn take_output(&self) -> String {
        let state = &mut *self.lock();
        if let Ear::Agent(listener) = &mut state.ear {
            let report = listener.report();
            let answer = report.take_answer();
            if !answer.is_empty() || report.verdict == Some(Verdict::Success) {
                return answer;
            }
        }
        state.output.take()
    }

    /// What was heard of how it went.
    pub(crate) fn take_heard(&self) -> Heard {
        let state = &mut *self.lock();
        let error = state.error.take();
        let agent = match &mut state.ear {
            Ear::Plain(_) => None,
            Ear::Agent(listener) => {
                let (stray, odd) = listener.oddities();
                let prints = listener.prints();
                let report = listener.report();
                Some(Words {
                    prints,
                    verdict: report.verdict.clone(),
                    settled: report.settled,
                    limit: report.limit,
                    complaint: report.complaint.clone(),
                    stray,
                    odd,
                })
            }
        };
        Heard { agent, error }
    }

    /// What the command says it used.
    pub(crate) fn usage<T>(&self, with: impl FnOnce(&mut Usage) -> T) -> T {
        with(&mut self.lock().usage)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a piece where it belongs; says whether it was a report of usage.
fn take(
    piece: &Piece<'_>,
    decoder: &mut Decoder,
    output: &mut Tail,
    live: &mut Tail,
    usage: &mut Usage,
) -> bool {
    let bytes = match *piece {
        Piece::Text(bytes) => bytes,
        Piece::Candidate(candidate) => {
            if let Ok(text) = std::str::from_utf8(candidate)
                && let Meaning::Usage(totals) = interpret(text)
            {
                usage.update(totals);
                return true;
            }
            candidate
        }
    };
    let text = decoder.push(bytes);
    output.push(&text);
    live.push(&text);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_taken_out_of_the_output_and_the_rest_stays_as_it_is() {
        let feed = Feed::new(None);
        let stream =
            b"start\n{\"tokens_in\":1,\"tokens_out\":2}\n{\"a\":1}\n{broken\n\xff\0\n{\"tokens_in\":3}";
        for chunk in stream.chunks(5) {
            feed.stdout(chunk);
        }
        feed.close();
        let output = feed.take_output();
        assert_eq!(output, "start\n{\"a\":1}\n{broken\n\u{FFFD}\u{FFFD}\n");
        assert_eq!(feed.take_live(), Some(output));
        assert_eq!(feed.take_live(), None);
        let tokens = feed.usage(|usage| usage.sum().0);
        assert_eq!((tokens.tokens_in, tokens.tokens_out), (3, 2));
    }

    #[test]
    fn endless_output_is_bounded_and_its_end_is_kept() {
        let feed = Feed::new(None);
        for number in 0..200_000 {
            feed.stdout(format!("line {number}\n").as_bytes());
            feed.stderr(b"complaint\n");
        }
        feed.close();
        let output = feed.take_output();
        assert!(output.len() <= MAX_OUTPUT_BYTES + 100 && output.ends_with("line 199999\n"));
        assert!(output.starts_with('['), "says that something is missing");
        assert!(feed.take_live().unwrap().len() <= MAX_LIVE_BYTES + 100);
        assert!(feed.take_heard().error.len() <= MAX_ERROR_BYTES + 100);
    }
}
