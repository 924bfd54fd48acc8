//! Names of directories and branches, made from text of any kind.
//!
//! A name is one component of a path and of a ref: letters, digits, `.`, `_` and `-`, beginning with a letter, a digit
//! or `_`, without `..`, not ending in `.` or `.lock`. An id that is such a name stays as it is; any other becomes one,
//! with a hash of the whole id, so that two ids do not get the same.

use super::MAX_NAMES;

/// The longest id that stays as it is. File systems have room for 255 bytes.
const MAX_WHOLE: usize = 80;
/// So much of another is kept for people.
const MAX_PART: usize = 40;
/// What the names of git's locks end with.
const LOCK: &str = ".lock";

/// The name for a task.
pub(super) fn of_task(id: &str) -> String {
    let part = readable(id);
    if part == id && (1..=MAX_WHOLE).contains(&part.len()) {
        return part;
    }
    let part = readable(&part[..part.len().min(MAX_PART)]);
    let part = if part.is_empty() { "task" } else { &part };
    format!("{part}-{:016x}", hash(id.as_bytes()))
}

/// Names for an attempt, in the order in which they are tried: the first ones may be taken by what a crash left.
pub(super) fn of_attempt(number: u32) -> impl Iterator<Item = String> {
    (1..=MAX_NAMES).map(move |turn| match turn {
        1 => number.to_string(),
        _ => format!("{number}-{turn}"),
    })
}

/// What of a text can stand in a name: only ASCII.
fn readable(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for character in text.chars() {
        let character = match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => character,
            _ => '-',
        };
        if character != '.' || !name.ends_with('.') {
            name.push(character);
        }
    }
    let mut name = name.trim_start_matches(['.', '-']).trim_end_matches('.');
    while is_lock(name) {
        name = name[..name.len() - LOCK.len()].trim_end_matches('.');
    }
    name.to_owned()
}

/// Whether git takes a ref of this name for a lock, or the file system does.
fn is_lock(name: &str) -> bool {
    let start = name.len().checked_sub(LOCK.len());
    start.is_some_and(|start| name[start..].eq_ignore_ascii_case(LOCK))
}

/// FNV-1a: it has to tell apart what is different, not to resist anybody. Two ids with one hash share a directory, and
/// their attempts still get names of their own.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_is_a_name_stays() {
        for id in ["fix-typo", "task_0190", "v1.2_b", "A", "7", "_x"] {
            assert_eq!(of_task(id), id);
        }
    }

    #[test]
    fn any_other_becomes_one_that_no_other_has() {
        let long = "x".repeat(200);
        let ids = [
            "",
            ".",
            "..",
            "../../etc",
            "/etc/passwd",
            "-rf",
            "--",
            "a..b",
            "a.lock",
            "a.LOCK",
            ".lock.lock",
            "a.",
            "a:b",
            "a b",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a~b",
            "a^b",
            "a@{b",
            "ä",
            "日本",
            "\u{202e}x",
            long.as_str(),
        ];
        let names: HashSet<String> = ids.iter().map(|id| of_task(id)).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        assert!(
            names.iter().any(|name| name.starts_with("etc-passwd-")),
            "{names:?}"
        );
        for name in &names {
            assert!(is_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_attempt_has_many_names_to_try() {
        let names: Vec<String> = of_attempt(3).take(3).collect();
        assert_eq!(names, ["3", "3-2", "3-3"]);
    }

    proptest! {
        #[test]
        fn every_text_gives_a_name(id in ".{0,220}|[-.a/@{]{0,12}(\\.lock){0,3}") {
            prop_assert!(is_name(&of_task(&id)), "{:?}: {:?}", id, of_task(&id));
        }
    }

    fn is_name(name: &str) -> bool {
        name.len() <= MAX_WHOLE
            && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !name.contains("..")
            && !name.ends_with('.')
            && !is_lock(name)
    }
}
