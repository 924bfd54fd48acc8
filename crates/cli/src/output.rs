//! Output: one answer per command, as JSON for programs or as text for people.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Prints what a command has to say.
#[derive(Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    /// A printer of JSON, or of text.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read the output.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints the value as one JSON document, or what `text` makes of it.
    pub(crate) fn show<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce() -> String) -> Outcome {
        if self.json { json_line(value) } else { put(&text()) }
    }
}

/// Prints a JSON document on a line of its own.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> Outcome {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("the answer cannot be written as JSON: {error}")))?;
    put(&format!("{text}\n"))
}

/// Prints a line of text.
pub(crate) fn say(text: impl Display) -> Outcome {
    put(&format!("{text}\n"))
}

/// Writes to stdout. A reader that went away (`| head`) is no failure worth a message, but nothing is left to do.
pub(crate) fn put(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::told()),
        Err(error) => Err(Failure::new(format!("cannot write to stdout: {error}"))),
    }
}
