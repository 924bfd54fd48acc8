//! What a command prints, as it is taken apart while it runs: output for the result, output for those who watch,
//! usage, and the end of what it complains about.
//!
//! # Invariants
//! - Memory is bounded by the limits below, whatever is printed and however slowly the server takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::adapter::{Adapter, Meaning};
use crate::lines::{Lines, Piece};
use crate::text::{Decoder, Tail};
use crate::usage::Usage;

/// The newest output that becomes the result: as much as the server keeps of live output.
pub(crate) const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// The newest output that waits to be sent to those who watch.
pub(crate) const MAX_LIVE_BYTES: usize = 256 * 1024;
/// The end of stderr that becomes the error message.
pub(crate) const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Shared by those who read the command's pipes and those who tell the server.
pub(crate) struct Feed {
    state: Mutex<State>,
    /// Told when the command says that it used something.
    pub(crate) spent: Notify,
    /// Set once the command has ended and all was read.
    pub(crate) closed: tokio_util::sync::CancellationToken,
}

struct State {
    lines: Lines,
    decoder: Decoder,
    output: Tail,
    live: Tail,
    error_decoder: Decoder,
    error: Tail,
    usage: Usage,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: Lines::default(),
                decoder: Decoder::default(),
                output: Tail::new(MAX_OUTPUT_BYTES),
                live: Tail::new(MAX_LIVE_BYTES),
                error_decoder: Decoder::default(),
                error: Tail::new(MAX_ERROR_BYTES),
                usage: Usage::default(),
            }),
            spent: Notify::new(),
            closed: tokio_util::sync::CancellationToken::new(),
        }
    }

    /// Takes standard output in; says whether there was a report of usage in it.
    pub(crate) fn stdout(&self, bytes: &[u8], adapter: &dyn Adapter) -> bool {
        let state = &mut *self.lock();
        let mut reported = false;
        let (decoder, output, live, usage) = (
            &mut state.decoder,
            &mut state.output,
            &mut state.live,
            &mut state.usage,
        );
        state.lines.push(bytes, |piece| {
            reported |= take(&piece, adapter, decoder, output, live, usage);
        });
        if reported {
            self.spent.notify_one();
        }
        reported
    }

    /// Takes standard error in.
    pub(crate) fn stderr(&self, bytes: &[u8]) {
        let state = &mut *self.lock();
        let text = state.error_decoder.push(bytes);
        state.error.push(&text);
    }

    /// The command has ended: nothing more comes.
    pub(crate) fn close(&self, adapter: &dyn Adapter) {
        let state = &mut *self.lock();
        let (decoder, output, live, usage) = (
            &mut state.decoder,
            &mut state.output,
            &mut state.live,
            &mut state.usage,
        );
        state.lines.finish(|piece| {
            take(&piece, adapter, decoder, output, live, usage);
        });
        let rest = decoder.finish();
        output.push(rest);
        live.push(rest);
        let rest = state.error_decoder.finish();
        state.error.push(rest);
        self.closed.cancel();
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

    /// The output that becomes the result.
    pub(crate) fn take_output(&self) -> String {
        self.lock().output.take()
    }

    /// The end of what the command complained about.
    pub(crate) fn take_error(&self) -> String {
        self.lock().error.take()
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
    adapter: &dyn Adapter,
    decoder: &mut Decoder,
    output: &mut Tail,
    live: &mut Tail,
    usage: &mut Usage,
) -> bool {
    let bytes = match *piece {
        Piece::Text(bytes) => bytes,
        Piece::Candidate(candidate) => {
            if let Ok(text) = std::str::from_utf8(candidate)
                && let Meaning::Usage(totals) = adapter.interpret(text)
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
    use crate::adapter::Plain;

    #[test]
    fn usage_is_taken_out_of_the_output_and_the_rest_stays_as_it_is() {
        let feed = Feed::new();
        let plain = Plain::new(&["x".into()]);
        let stream =
            b"start\n{\"tokens_in\":1,\"tokens_out\":2}\n{\"a\":1}\n{broken\n\xff\0\n{\"tokens_in\":3}";
        for chunk in stream.chunks(5) {
            feed.stdout(chunk, &plain);
        }
        feed.close(&plain);
        let output = feed.take_output();
        assert_eq!(output, "start\n{\"a\":1}\n{broken\n\u{FFFD}\u{FFFD}\n");
        assert_eq!(feed.take_live(), Some(output));
        assert_eq!(feed.take_live(), None);
        let tokens = feed.usage(|usage| usage.sum().0);
        assert_eq!((tokens.tokens_in, tokens.tokens_out), (3, 2));
    }

    #[test]
    fn endless_output_is_bounded_and_its_end_is_kept() {
        let feed = Feed::new();
        let plain = Plain::new(&["x".into()]);
        for number in 0..200_000 {
            feed.stdout(format!("line {number}\n").as_bytes(), &plain);
            feed.stderr(b"complaint\n");
        }
        feed.close(&plain);
        let output = feed.take_output();
        assert!(output.len() <= MAX_OUTPUT_BYTES + 100 && output.ends_with("line 199999\n"));
        assert!(output.starts_with('['), "says that something is missing");
        assert!(feed.take_live().unwrap().len() <= MAX_LIVE_BYTES + 100);
        assert!(feed.take_error().len() <= MAX_ERROR_BYTES + 100);
    }
}
