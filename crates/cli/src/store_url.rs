//! Names of stores: `sqlite:PATH`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::configuration::beside;
use crate::failure::{Failure, Outcome};

/// The file that the admin token is written to.
const TOKEN_FILE: &str = "adjutant.token";

/// Where tasks are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoreUrl {
    path: PathBuf,
}

impl StoreUrl {
    /// Reads the name of a store; `place` is where it was written.
    pub(crate) fn parse(text: &str, place: &str) -> Outcome<Self> {
        match text.split_once(':') {
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.ends_with('/') || path.starts_with(':') {
                    return Err(Failure::usage(format!("{place}: `{text}` names no file"))
                        .hint("write for example sqlite:./adjutant.db"));
                }
                Ok(Self { path: path.into() })
            }
            Some(("postgres" | "postgresql", _)) => Err(Failure::usage(format!(
                "{place}: the PostgreSQL store comes with a later version"
            ))
            .hint("use a file, for example sqlite:./adjutant.db")),
            Some((scheme, _)) => Err(
                Failure::usage(format!("{place}: `{scheme}:` is not a kind of store"))
                    .hint("write for example sqlite:./adjutant.db"),
            ),
            None => Err(
                Failure::usage(format!("{place}: `{text}` does not name a kind of store"))
                    .hint(format!("did you mean sqlite:{text} ?")),
            ),
        }
    }

    /// The SQLite file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file beside it that holds the admin token.
    pub(crate) fn token_file(&self) -> PathBuf {
        beside(&self.path, TOKEN_FILE)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_and_its_token_lies_beside_it() {
        let store = StoreUrl::parse("sqlite:/var/lib/a.db", "--store").unwrap();
        assert_eq!(store.token_file(), Path::new("/var/lib/adjutant.token"));
        assert_eq!(
            StoreUrl::parse("sqlite:a.db", "x").unwrap().token_file(),
            Path::new("adjutant.token")
        );
        for (text, message) in [
            ("postgres://h/db", "comes with a later version"),
            ("mysql:x", "`mysql:` is not a kind of store"),
            ("a.db", "does not name a kind of store"),
            ("sqlite:", "names no file"),
        ] {
            let failure = StoreUrl::parse(text, "--store").unwrap_err().to_string();
            assert!(failure.contains(message), "{failure}");
        }
    }
}
