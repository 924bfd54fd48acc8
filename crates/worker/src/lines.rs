//! The lines of a command's output: which may be reports, and which are plain output.
//!
//! Only a line whose first character is `{` can be a report and has to be held until it is complete; everything
//! else goes on at once, so that progress without a line end is seen as it is made.

/// A line is held up to this size; a longer one is output.
pub(crate) const MAX_HELD_BYTES: usize = 64 * 1024;

/// A part of a command's output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Plain output.
    Text(&'a [u8]),
    /// A whole line that begins with `{`, with its line end unless it is the last.
    Candidate(&'a [u8]),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line, or after blanks.
    #[default]
    Start,
    /// In a line that begins with `{`.
    Held,
    /// In a line that is output.
    Through,
}

/// Cuts a stream of bytes into pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    state: State,
    held: Vec<u8>,
}

impl Lines {
    /// Takes bytes in.
    pub(crate) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.part(part, &mut sink);
        }
    }

    /// No more bytes come.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            match self.state {
                State::Held => sink(Piece::Candidate(&held)),
                State::Start | State::Through => sink(Piece::Text(&held)),
            }
        }
        self.state = State::Start;
    }

    /// `part` has a line end at its end or nowhere.
    fn part(&mut self, part: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let ends = part.ends_with(b"\n");
        if self.state == State::Start {
            self.state = match part
                .iter()
                .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
            {
                Some(b'{') => State::Held,
                Some(_) => State::Through,
                None => State::Start,
            };
        }
        self.held.extend_from_slice(part);
        match self.state {
            State::Through => self.flush(sink),
            State::Start if ends || self.held.len() > MAX_HELD_BYTES => self.flush(sink),
            State::Held if self.held.len() > MAX_HELD_BYTES => {
                self.state = State::Through;
                self.flush(sink);
            }
            State::Held if ends => {
                sink(Piece::Candidate(&self.held));
                self.held.clear();
            }
            State::Start | State::Held => {}
        }
        if ends {
            self.state = State::Start;
        }
    }

    fn flush(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        sink(Piece::Text(&self.held));
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> (String, Vec<String>) {
        let (mut text, mut candidates) = (String::new(), Vec::new());
        let mut lines = Lines::default();
        let mut sink = |piece: Piece<'_>| match piece {
            Piece::Text(bytes) => text.push_str(std::str::from_utf8(bytes).unwrap()),
            Piece::Candidate(bytes) => candidates.push(String::from_utf8(bytes.to_vec()).unwrap()),
        };
        for chunk in chunks {
            lines.push(chunk, &mut sink);
        }
        lines.finish(&mut sink);
        (text, candidates)
    }

    #[test]
    fn lines_that_begin_with_a_brace_are_candidates_however_they_are_cut() {
        let stream = b"one {\n {\"a\":1}\r\n\n  two\n{\"b\":\n} three\n{last";
        for size in 1..=stream.len() {
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            let (text, candidates) = read(&chunks);
            assert_eq!(text, "one {\n\n  two\n} three\n", "cut at {size}");
            assert_eq!(
                candidates,
                [" {\"a\":1}\r\n", "{\"b\":\n", "{last"],
                "cut at {size}"
            );
        }
    }

    #[test]
    fn output_without_a_line_end_is_not_held_back() {
        let mut seen = Vec::new();
        Lines::default().push(b"50 %", |piece| seen.push(piece == Piece::Text(b"50 %")));
        assert_eq!(seen, [true]);
    }

    #[test]
    fn a_huge_line_is_output_and_is_not_kept() {
        let brace = vec![b'{'; MAX_HELD_BYTES];
        let blank = vec![b' '; MAX_HELD_BYTES * 3];
        let (text, candidates) = read(&[&brace, &brace, b"\n{x}\n", &blank, b"{y}"]);
        assert_eq!(text.len(), MAX_HELD_BYTES * 5 + 1);
        assert_eq!(candidates, ["{x}\n", "{y}"]);
    }
}
