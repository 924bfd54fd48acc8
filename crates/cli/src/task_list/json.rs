//! JSON task lists: an object on each line, or one array.

use std::collections::HashMap;
use std::path::Path;

use adjutant_wire::NewTask;
use serde_json::value::RawValue;

use super::{Draft, Item};
use crate::failure::{Failure, Outcome};
use crate::text::line_at;

/// What a task to create may say.
pub(super) const KEYS: &[&str] = &[
    "id",
    "title",
    "description",
    "priority",
    "labels",
    "prefers",
    "model",
    "project",
    "repo",
    "produces",
    "files",
    "locks",
    "payload",
    "dependencies",
    "estimated_tokens",
    "timeout",
    "not_before",
    "max_retries",
];

/// What a task that was read from a server says beside that: passed over, so that an export can be imported.
const READ_ONLY: &[&str] = &[
    "status",
    "blockers",
    "blockers_count",
    "retry_count",
    "last_attempt",
    "fail_reason",
    "attempt",
    "claimed_by",
    "claimed_at",
    "lease_expires_at",
    "progress",
    "notes",
    "result",
    "usage",
    "waiting",
    "created_at",
    "updated_at",
];

/// Reads the list.
pub(super) fn read(file: &Path, text: &str) -> Outcome<Draft> {
    let mut draft = Draft::default();
    if text.trim_start().starts_with('[') {
        let values: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| Failure::at(file, error.line(), format!("not valid JSON: {}", words(&error))))?;
        for value in values {
            // The value is a part of the text, so the distance between their starts is its offset.
            let offset = value.get().as_ptr() as usize - text.as_ptr() as usize;
            let line = line_at(text, offset);
            draft.items.push(Item {
                line,
                task: task(file, line, value.get())?,
            });
        }
        return Ok(draft);
    }
    for (index, content) in text.lines().enumerate() {
        if content.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        draft.items.push(Item {
            line,
            task: task(file, line, content)?,
        });
    }
    Ok(draft)
}

/// Reads one task. A key that nobody reads is most likely a misspelt one, so it is refused.
pub(super) fn task(file: &Path, line: usize, text: &str) -> Outcome<NewTask> {
    let keys: HashMap<String, &RawValue> = serde_json::from_str(text)
        .map_err(|error| Failure::at(file, line, format!("not valid JSON: {}", words(&error))))?;
    if let Some(unknown) = keys
        .keys()
        .filter(|key| !KEYS.contains(&key.as_str()) && !READ_ONLY.contains(&key.as_str()))
        .min()
    {
        return Err(Failure::at(file, line, format!("unknown key `{unknown}`"))
            .hint(format!("a task may have: {}", KEYS.join(", "))));
    }
    serde_json::from_str(text).map_err(|error| Failure::at(file, line, words(&error)))
}

/// The error without its position, which is told as a line of the file.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((words, _)) => format!("{words} (column {})", error.column()),
        None => text,
    }
}
