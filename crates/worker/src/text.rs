//! Text of unknown origin in bounded memory: decoding bytes as they come, and keeping the newest part.

/// Stands for what is not text, and for U+0000, which the server refuses.
const REPLACEMENT: char = '\u{FFFD}';

/// Turns bytes into text, however they are cut; what is not UTF-8 and U+0000 become U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The start of a character whose end has not come yet: at most three bytes.
    started: Vec<u8>,
}

impl Decoder {
    /// The text that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.started.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.started).as_slice(), bytes].concat();
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break;
                }
                Err(error) => {
                    let (valid, wrong) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(length) = error.error_len() else {
                        self.started = wrong.to_vec();
                        break;
                    };
                    text.push(REPLACEMENT);
                    rest = &wrong[length..];
                }
            }
        }
        if text.contains('\0') {
            text = text.replace('\0', "\u{FFFD}");
        }
        text
    }

    /// What is left when no more bytes come.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.started).is_empty() {
            ""
        } else {
            "\u{FFFD}"
        }
    }
}

/// The newest part of a text that may be of any length.
#[derive(Debug)]
pub(crate) struct Tail {
    text: String,
    limit: usize,
    /// Bytes that came before `text` and are gone.
    lost: u64,
}

impl Tail {
    /// Keeps `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
            lost: 0,
        }
    }

    /// Adds to the end.
    pub(crate) fn push(&mut self, text: &str) {
        let skipped = start_of_last(text, self.limit);
        if skipped > 0 {
            self.lost += self.text.len() as u64 + skipped as u64;
            self.text.clear();
        }
        self.text.push_str(&text[skipped..]);
        // Cutting only at twice the limit makes it cheap however small the pieces are.
        if self.text.len() > self.limit.saturating_mul(2) {
            self.cut();
        }
    }

    /// Puts back what [`Tail::take`] gave, before what came since.
    pub(crate) fn restore(&mut self, text: &str) {
        self.text.insert_str(0, text);
        self.cut();
    }

    /// Whether there is nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The newest part, with a line before it that says how much is missing; empties the tail.
    pub(crate) fn take(&mut self) -> String {
        self.cut();
        let lost = std::mem::take(&mut self.lost);
        let text = std::mem::take(&mut self.text);
        if lost == 0 {
            text
        } else {
            format!("[{lost} earlier bytes left out]\n{text}")
        }
    }

    fn cut(&mut self) {
        let start = start_of_last(&self.text, self.limit);
        self.lost += start as u64;
        self.text.drain(..start);
    }
}

/// Where the last `limit` bytes of `text` begin, or the first whole character in them.
pub(crate) fn start_of_last(text: &str, limit: usize) -> usize {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_however_they_are_cut() {
        let bytes = b"a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\0\xff\xc3(\xe2\x82";
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut text: String = bytes.chunks(size).map(|chunk| decoder.push(chunk)).collect();
            text.push_str(decoder.finish());
            assert_eq!(text, "aä€😀\u{FFFD}\u{FFFD}\u{FFFD}(\u{FFFD}", "cut at {size}");
        }
    }

    #[test]
    fn the_newest_part_is_kept_and_the_rest_is_counted() {
        let mut tail = Tail::new(4);
        for piece in ["12", "34", "56", "78", "9ä"] {
            tail.push(piece);
            assert!(tail.text.len() <= 8);
        }
        assert_eq!(tail.take(), "[7 earlier bytes left out]\n89ä");
        assert_eq!(tail.take(), "");
        tail.push("abcdefgh");
        assert_eq!(tail.take(), "[4 earlier bytes left out]\nefgh");
        tail.push("cd");
        tail.restore("ab");
        assert_eq!(tail.take(), "abcd");
        tail.push("ä");
        tail.restore("äbc");
        assert_eq!(tail.take(), "[2 earlier bytes left out]\nbcä");
    }
}
