//! Lines: stdin as lines of a bounded length, and stdout as whole lines.
//!
//! Both are blocking, so each has a thread of its own.

use std::io::{self, BufRead, BufReader, Read, Write};

use tokio::sync::mpsc;

/// The longest line that is read: the largest body that a server takes.
pub(super) const MAX_LINE_BYTES: usize = 4 << 20;
/// Lines that wait to be written, before those who write them wait.
const MAX_WAITING_LINES: usize = 256;
/// Lines that wait to be looked at: none more is read from a client that says more than is answered.
const MAX_UNREAD_LINES: usize = 16;

/// A line of stdin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// Its text, without its end.
    Text(String),
    /// It was too long, and was thrown away.
    TooLong,
}

/// The lines of stdin, until it ends.
pub(super) fn incoming() -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(MAX_UNREAD_LINES);
    std::thread::spawn(move || {
        let mut input = BufReader::new(io::stdin());
        loop {
            let line = match next(&mut input, MAX_LINE_BYTES) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "stdin cannot be read");
                    return;
                }
            };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Writes lines to stdout, each whole and at once, until everybody has let go of the sender or nobody reads any more.
pub(super) fn outgoing() -> (mpsc::Sender<String>, tokio::sync::oneshot::Receiver<()>) {
    let (sender, mut lines) = mpsc::channel::<String>(MAX_WAITING_LINES);
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        while let Some(mut line) = lines.blocking_recv() {
            line.push('\n');
            let mut output = io::stdout().lock();
            if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
                tracing::debug!(%error, "nobody reads stdout any more");
                break;
            }
        }
        // Nobody may be left to hear that.
        let _ = done.send(());
    });
    (sender, ended)
}

/// The next line that is not blank; none at the end. A last line need not be ended.
fn next(input: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = input.by_ref().take(most).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') && line.len() > limit {
            skip_line(input)?;
            return Ok(Some(Line::TooLong));
        }
        // What is not UTF-8 is not JSON either, and is told as such.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            return Ok(Some(Line::Text(text.to_owned())));
        }
    }
}

/// Throws away what is left of a line, without keeping any of it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (length, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(length);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, limit: usize) -> Vec<Line> {
        let mut input = BufReader::with_capacity(3, text.as_bytes());
        std::iter::from_fn(|| next(&mut input, limit).unwrap()).collect()
    }

    #[test]
    fn lines_are_read_one_by_one_and_blank_ones_are_passed_over() {
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(
            all("{}\r\n\n  \n[1]\nlast", 10),
            [text("{}"), text("[1]"), text("last")]
        );
        assert_eq!(all("", 10), []);
    }

    #[test]
    fn a_line_that_is_too_long_takes_no_other_with_it() {
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(
            all("12345\n123456\n1\n1234567890", 5),
            [text("12345"), Line::TooLong, text("1"), Line::TooLong]
        );
    }
}
