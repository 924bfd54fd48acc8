//! Names of stores: `sqlite:PATH`, `postgres://…`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::configuration::beside;
use crate::failure::{Failure, Outcome};

/// The file that the admin token is written to.
const TOKEN_FILE: &str = "adjutant.token";

/// Where tasks are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StoreUrl {
    /// A file of one server.
    Sqlite(PathBuf),
    /// A database of many servers. The URL may hold a password.
    Postgres(String),
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
                Ok(Self::Sqlite(path.into()))
            }
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(text.to_owned()))
            }
            Some(("postgres" | "postgresql", _)) => Err(Failure::usage(format!(
                "{place}: `{}` is not a URL",
                without_password(text)
            ))
            .hint("write for example postgres://user@host/adjutant")),
            Some((scheme, _)) => Err(
                Failure::usage(format!("{place}: `{scheme}:` is not a kind of store"))
                    .hint("write for example sqlite:./adjutant.db, or postgres://user@host/adjutant"),
            ),
            None => Err(
                Failure::usage(format!("{place}: `{text}` does not name a kind of store"))
                    .hint(format!("did you mean sqlite:{text} ?")),
            ),
        }
    }

    /// The SQLite file, for commands that know nothing else; `instead` is what to use for a database.
    pub(crate) fn file(&self, instead: &str) -> Outcome<&Path> {
        match self {
            Self::Sqlite(path) => Ok(path),
            Self::Postgres(_) => {
                Err(Failure::usage("this command is for the file of a sqlite: store").hint(instead))
            }
        }
    }

    /// The file that holds the admin token: beside the store, or where the server of a database is started.
    pub(crate) fn token_file(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) => beside(path, TOKEN_FILE),
            Self::Postgres(_) => TOKEN_FILE.into(),
        }
    }
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_owned();
    };
    // The parameters may name a password as well.
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}//{user}@{place}")
        }
        None => format!("{scheme}//{rest}"),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            (
                "postgres://adjutant:geheim@db:5432/fleet",
                "postgres://adjutant@db:5432/fleet",
            ),
            ("postgresql://db/fleet?password=geheim", "postgresql://db/fleet"),
            ("postgres://a:p@ss@db/fleet", "postgres://a@db/fleet"),
            ("postgres://db", "postgres://db"),
        ] {
            let store = StoreUrl::parse(url, "--store").unwrap();
            assert_eq!(store.to_string(), shown);
            assert_eq!(store.token_file(), Path::new("adjutant.token"));
            assert!(store.file("use pg_dump").is_err());
        }
    }

    #[test]
    fn a_store_is_a_file_and_its_token_lies_beside_it() {
        let store = StoreUrl::parse("sqlite:/var/lib/a.db", "--store").unwrap();
        assert_eq!(store.token_file(), Path::new("/var/lib/adjutant.token"));
        assert_eq!(
            StoreUrl::parse("sqlite:a.db", "x").unwrap().token_file(),
            Path::new("adjutant.token")
        );
        for (text, message) in [
            ("postgres:db", "`postgres:db` is not a URL"),
            ("mysql:x", "`mysql:` is not a kind of store"),
            ("a.db", "does not name a kind of store"),
            ("sqlite:", "names no file"),
        ] {
            let failure = StoreUrl::parse(text, "--store").unwrap_err().to_string();
            assert!(failure.contains(message), "{failure}");
        }
    }
}
