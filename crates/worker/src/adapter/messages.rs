//! Messages of a model in Claude's form: `{"message": {"id", "model", "content": [{"type": "text", "text"}], "usage"}}`.

use std::collections::VecDeque;

use adjutant_core::attempt::Tokens;
use serde_json::Value;

use super::fields::{Names, text};

/// What is read of usage in Claude's form. What is written to a cache is fresh input.
pub(super) const USAGE: Names = Names {
    input: &["input_tokens", "cache_creation_input_tokens"],
    cached: "cache_read_input_tokens",
    output: &["output_tokens"],
    input_has_cached: false,
};

/// So many messages are remembered: parts of one come close to each other.
const MAX_REMEMBERED: usize = 64;
/// A longer id is garbage.
const MAX_ID_BYTES: usize = 200;

/// Messages that were counted. One that is printed in parts has the same usage in each.
#[derive(Debug, Default)]
pub(super) struct Counted {
    recent: VecDeque<(String, Tokens)>,
}

impl Counted {
    /// What is new in the usage of a message.
    pub(super) fn increase(&mut self, message: &Value) -> Option<Tokens> {
        let tokens = USAGE.read(message.get("usage")?)?;
        let Some(id) = text(message, "id").filter(|id| id.len() <= MAX_ID_BYTES) else {
            return Some(tokens);
        };
        if let Some((_, known)) = self.recent.iter_mut().find(|(known, _)| known == id) {
            let more = tokens.beyond(*known);
            *known = known.plus(more);
            return Some(more);
        }
        self.recent.push_back((id.to_owned(), tokens));
        if self.recent.len() > MAX_REMEMBERED {
            self.recent.pop_front();
        }
        Some(tokens)
    }
}

/// The texts of a message.
pub(super) fn texts(message: &Value) -> impl Iterator<Item = &str> {
    let content = message.get("content");
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    let whole = content.and_then(Value::as_str);
    parts
        .filter(|part| text(part, "type") == Some("text"))
        .filter_map(|part| text(part, "text"))
        .chain(whole)
}
