//! Server-sent events, as far as this API uses them: `id`, `data`, and comments that keep the connection alive.

/// Events are read up to this size: an event of this API is small, whatever is larger is not one.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Reads a stream of bytes into the data of events.
#[derive(Default)]
pub(crate) struct Parser {
    /// Bytes that no line end has come for yet.
    rest: Vec<u8>,
    /// How far `rest` was searched for a line end.
    searched: usize,
    /// The data lines of the event that no blank line has ended yet.
    data: String,
}

/// The stream is not one of server-sent events of this API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Parser {
    /// Takes bytes in, and gives the data of the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLarge> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + length;
            let line = String::from_utf8_lossy(&self.rest[start..end]);
            if let Some(event) = take_line(&mut self.data, line.trim_end_matches('\r')) {
                events.push(event);
            }
            start = end + 1;
            self.searched = start;
        }
        self.rest.drain(..start);
        self.searched = self.rest.len();
        if self.rest.len() + self.data.len() > MAX_EVENT_BYTES {
            return Err(TooLarge);
        }
        Ok(events)
    }
}

fn take_line(data: &mut String, line: &str) -> Option<String> {
    if line.is_empty() {
        return (!data.is_empty()).then(|| std::mem::take(data));
    }
    if let Some(value) = line.strip_prefix("data:") {
        if !data.is_empty() {
            data.push('\n');
        }
        data.push_str(value.strip_prefix(' ').unwrap_or(value));
    }
    // `id` repeats the `seq` of the data; `event`, `retry` and comments change nothing here.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let stream = ": hello\r\n\r\nid: 1\nevent: x\ndata: {\"a\":\ndata: \"ä\"}\n\ndata:2\r\n\r\ndata: never ended\n";
        for size in [1, 2, 3, 7, 1_000] {
            let mut parser = Parser::default();
            let events: Vec<String> = stream
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| parser.push(chunk).unwrap())
                .collect();
            assert_eq!(events, ["{\"a\":\n\"ä\"}", "2"], "cut at {size}");
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; MAX_EVENT_BYTES / 2 + 1];
        assert_eq!(parser.push(&chunk), Ok(Vec::new()));
        assert_eq!(parser.push(&chunk), Err(TooLarge));
    }
}
