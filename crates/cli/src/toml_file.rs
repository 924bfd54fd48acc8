//! TOML files that people write: mistakes are told with file, line and key.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::failure::{Failure, Outcome};
use crate::text::line_at;

/// Reads and parses a file.
pub(crate) fn read<T: DeserializeOwned>(what: &str, file: &Path) -> Outcome<T> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {what} {}: {error}", file.display())))?;
    parse(file, &text)
}

/// Parses the text of a file.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Outcome<T> {
    toml::from_str(text).map_err(|error| told(file, text, &error))
}

fn told(file: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let line = line_at(text, error.span().map_or(0, |span| span.start));
    // Serde's words for a key that no field takes: "unknown field `x`, expected one of `a`, `b`".
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (key, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
        let failure = Failure::at(file, line, format!("unknown key {key}"));
        let known = known.trim_start_matches("one of ").replace('`', "");
        return if known.is_empty() {
            failure
        } else {
            failure.hint(format!("known here: {known}"))
        };
    }
    Failure::at(file, line, message.replace("missing field", "missing key"))
}
