//! Names that people and programs choose: ids of tasks and agents, labels, models, projects, repositories.
//!
//! All of them are cheap to clone (shared text), ordered by bytes, and checked where they enter.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most characters that an id may have.
pub const MAX_ID_CHARS: usize = 128;
/// The most characters of a label, a model, a project, a repository or a lock name.
pub const MAX_NAME_CHARS: usize = 200;

/// Says what is wrong with `text` as an id, if anything: 1–128 of `[A-Za-z0-9._:-]`.
pub fn check_id(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if matches!(text, "." | "..") {
        return Err("must not be `.` or `..`: no path could name it".into());
    }
    if text.len() > MAX_ID_CHARS {
        return Err(format!("must have at most {MAX_ID_CHARS} characters"));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._:-".contains(*c)))
    {
        Some(wrong) => Err(format!("must consist of A-Z a-z 0-9 . _ : - (found {wrong:?})")),
        None => Ok(()),
    }
}

/// Says what is wrong with `text` as a label, model, project, repository or lock name, if anything.
pub fn check_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.chars().count() > MAX_NAME_CHARS {
        return Err(format!("must have at most {MAX_NAME_CHARS} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Wraps `text` as it is; what comes from outside is checked first.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

name!(
    /// The id of a task, as clients know it.
    TaskId
);
name!(
    /// The id of an agent. Ids of agents that never registered occur too: any client may claim.
    AgentId
);
name!(
    /// A capability that a task asks for or an agent has.
    Label
);
name!(
    /// The name of a language model.
    ModelName
);
name!(
    /// The name of a project.
    ProjectName
);
name!(
    /// A repository, `owner/name`.
    RepoName
);
name!(
    /// The name of a lock: a file, a branch, anything that only one task may work on at a time.
    LockName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        assert!(check_id("task_0190-a:b.C").is_ok());
        let too_long = "x".repeat(129);
        for wrong in ["", ".", "..", "a b", "ä", "a/b", "a\0", too_long.as_str()] {
            assert!(check_id(wrong).is_err(), "{wrong:?}");
        }
    }
}
