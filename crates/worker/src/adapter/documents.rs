//! JSON objects in a stream of bytes: one on each line, over many lines, or as the items of one array.
//!
//! What is not JSON is told apart as text. A line end within a string, and a line that begins with `{` while another
//! object is open, show that something was cut: the open object is given up, and reading goes on with what follows.

/// An object is held up to this size. What is read of one needs a small multiple of that for a moment.
pub(crate) const MAX_OBJECT_BYTES: usize = 2 * 1024 * 1024;
/// A buffer that a large object left behind is given back beyond this.
const MAX_IDLE_BYTES: usize = 64 * 1024;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole object, as far as its brackets tell.
    Object(&'a [u8]),
    /// A part of a line that is no JSON.
    Text(&'a [u8]),
    /// An object that was too large to be held.
    TooLong,
    /// An object that was cut.
    Broken,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before anything on a line, or after an object.
    #[default]
    Between,
    /// After a `[` at the start of a line, which may begin an array or a text.
    Bracket,
    /// In a line of text.
    Text,
    /// In an object, outside of its strings.
    Object,
    /// In a string of an object.
    String,
    /// After a backslash in a string.
    Escape,
}

/// Finds objects.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    state: State,
    /// Open brackets of the object.
    depth: usize,
    held: Vec<u8>,
    /// The object is too large, and only its end is waited for.
    skips: bool,
    /// The last byte was a line end.
    at_start: bool,
}

impl Documents {
    /// Takes bytes in.
    pub(crate) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Found<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let run = self.run(rest);
            if run > 0 {
                let (plain, after) = rest.split_at(run);
                if self.state == State::Text {
                    sink(Found::Text(plain));
                } else {
                    self.hold(plain);
                    self.at_start = false;
                }
                rest = after;
            }
            if let Some((byte, after)) = rest.split_first() {
                self.byte(*byte, &mut sink);
                self.at_start = *byte == b'\n';
                rest = after;
            }
        }
    }

    /// No more bytes come.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Found<'_>)) {
        if self.is_inside() {
            self.give_up(&mut sink);
        }
        self.state = State::Between;
    }

    /// How many bytes there are before the next that matters.
    fn run(&self, bytes: &[u8]) -> usize {
        let matters = |byte: &u8| match self.state {
            State::Text => *byte == b'\n',
            State::String => matches!(byte, b'"' | b'\\' | b'\n'),
            State::Object => matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b'\n'),
            State::Between | State::Bracket | State::Escape => true,
        };
        bytes.iter().position(matters).unwrap_or(bytes.len())
    }

    const fn is_inside(&self) -> bool {
        matches!(self.state, State::Object | State::String | State::Escape)
    }

    fn byte(&mut self, byte: u8, sink: &mut impl FnMut(Found<'_>)) {
        if byte == b'{' && self.at_start && self.state == State::Object {
            self.give_up(sink);
        }
        match (self.state, byte) {
            (State::Between | State::Bracket, b'{') => {
                self.depth = 1;
                self.state = State::Object;
                self.hold(b"{");
            }
            (State::Between, b'[') => self.state = State::Bracket,
            // What parts the items of an array, and ends it.
            (State::Between, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']')
            | (State::Bracket, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Bracket, b']') => self.state = State::Between,
            (State::Text, b'\n') => {
                self.state = State::Between;
                sink(Found::Text(b"\n"));
            }
            (State::Bracket, _) => {
                self.state = State::Text;
                sink(Found::Text(b"["));
                sink(Found::Text(&[byte]));
            }
            (State::Between | State::Text, _) => {
                self.state = State::Text;
                sink(Found::Text(&[byte]));
            }
            (State::String, b'\n') => self.give_up(sink),
            (State::Escape, _) => {
                self.state = State::String;
                self.hold(&[byte]);
            }
            (State::String, _) => {
                self.hold(&[byte]);
                match byte {
                    b'"' => self.state = State::Object,
                    b'\\' => self.state = State::Escape,
                    _ => {}
                }
            }
            (State::Object, _) => {
                self.hold(&[byte]);
                self.bracket(byte, sink);
            }
        }
    }

    /// A byte of an object that is not in a string.
    fn bracket(&mut self, byte: u8, sink: &mut impl FnMut(Found<'_>)) {
        match byte {
            b'"' => self.state = State::String,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    if self.skips {
                        sink(Found::TooLong);
                    } else {
                        sink(Found::Object(&self.held));
                    }
                    self.forget();
                }
            }
            _ => {}
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.skips {
            return;
        }
        if self.held.len() + bytes.len() > MAX_OBJECT_BYTES {
            self.skips = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn give_up(&mut self, sink: &mut impl FnMut(Found<'_>)) {
        sink(if self.skips { Found::TooLong } else { Found::Broken });
        self.forget();
    }

    fn forget(&mut self) {
        self.state = State::Between;
        self.depth = 0;
        self.skips = false;
        self.held.clear();
        self.held.shrink_to(MAX_IDLE_BYTES);
    }

    /// How much memory is held.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.held.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> (Vec<String>, String, usize, usize) {
        let (mut objects, mut text, mut long, mut broken) = (Vec::new(), Vec::new(), 0, 0);
        let mut documents = Documents::default();
        let mut sink = |found: Found<'_>| match found {
            Found::Object(bytes) => objects.push(String::from_utf8(bytes.to_vec()).unwrap()),
            Found::Text(bytes) => text.extend_from_slice(bytes),
            Found::TooLong => long += 1,
            Found::Broken => broken += 1,
        };
        for chunk in chunks {
            documents.push(chunk, &mut sink);
        }
        documents.finish(&mut sink);
        (objects, String::from_utf8(text).unwrap(), long, broken)
    }

    #[test]
    fn objects_are_found_however_they_are_laid_out_and_cut() {
        for (stream, objects, text, broken) in [
            (
                "{\"a\":1}\n{\"b\":[{}]}\r\n",
                vec!["{\"a\":1}", "{\"b\":[{}]}"],
                "",
                0,
            ),
            (
                "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n",
                vec!["{\n  \"a\": {\n    \"b\": 1\n  }\n}"],
                "",
                0,
            ),
            ("[{\"a\":1},{\"b\":2}]\n", vec!["{\"a\":1}", "{\"b\":2}"], "", 0),
            (
                "[\n  {\"a\":1},\n  {\"b\":2}\n]\n",
                vec!["{\"a\":1}", "{\"b\":2}"],
                "",
                0,
            ),
            ("{\"a\":\"}\\\"{[\"}", vec!["{\"a\":\"}\\\"{[\"}"], "", 0),
            (
                "[INFO] up\nhello {x}\n{\"a\":1}\n",
                vec!["{\"a\":1}"],
                "[INFO] up\nhello {x}\n",
                0,
            ),
            ("{\"a\":\"cut\n{\"b\":2}\n", vec!["{\"b\":2}"], "", 1),
            ("{\"a\":[1,\n{\"b\":2}\n{\"c\":", vec!["{\"b\":2}"], "", 2),
            (
                "{\"a\":1} and more\n{\"b\":2}{\"c\":3}",
                vec!["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"],
                "and more\n",
                0,
            ),
        ] {
            for size in 1..=stream.len() {
                let chunks: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
                let read = read(&chunks);
                let objects: Vec<String> = objects.iter().map(|&object| object.to_owned()).collect();
                assert_eq!(
                    read,
                    (objects, text.to_owned(), 0, broken),
                    "{stream} cut at {size}"
                );
            }
        }
    }

    #[test]
    fn a_huge_object_is_passed_over_and_not_kept() {
        let string = vec![b'x'; MAX_OBJECT_BYTES];
        let (objects, _, long, broken) =
            read(&[b"{\"a\":\"", &string, &string, b"\"}\n{\"b\":2}\n{\"", &string]);
        assert_eq!((objects, long, broken), (vec!["{\"b\":2}".to_owned()], 2, 0));
        let mut documents = Documents::default();
        documents.push(b"{\"a\":\"", |_| {});
        documents.push(&string[..MAX_OBJECT_BYTES / 2], |_| {});
        documents.push(b"\"}", |_| {});
        assert!(documents.capacity() <= MAX_IDLE_BYTES, "{}", documents.capacity());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_well(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut documents = Documents::default();
            documents.push(&bytes, |_| {});
            documents.finish(|_| {});
            let mut objects = Vec::new();
            documents.push(b"\n{\"a\":1}\n", |found| if let Found::Object(object) = found { objects.push(object.to_vec()); });
            proptest::prop_assert_eq!(objects, vec![b"{\"a\":1}".to_vec()]);
        }
    }
}
