//! SQL through `psql`: a client that comes with the server, so that tests need no driver to prepare what they test.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// How long a server may take to answer a connection.
const CONNECT_TIMEOUT_SECONDS: &str = "30";

/// Whose defaults a connection has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// All is said in the URL.
    None,
    /// What the URL does not say, such as a password, may be in the environment.
    Environment,
}

/// Runs SQL, statement by statement, and gives what was printed, without the last newline.
pub(crate) fn run(url: &str, defaults: Defaults, sql: &str) -> Result<String, String> {
    let program = crate::binaries::directory().map_or_else(|| Path::new("psql").into(), |at| at.join("psql"));
    let mut command = Command::new(program);
    if defaults == Defaults::None {
        forget_defaults(&mut command);
    }
    let mut psql = command
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-qAt", "-f", "-", "-d", url])
        .env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_SECONDS)
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("psql, of the client's package of PostgreSQL: {error}"))?;
    let mut stdin = psql.stdin.take().expect("stdin is a pipe");
    let output = thread::scope(|scope| {
        // Beside the reading: psql prints while it reads, and either pipe may be full. One that stops at an error
        // reads no further; its stderr then says why.
        scope.spawn(move || drop(stdin.write_all(sql.as_bytes())));
        psql.wait_with_output()
    })
    .map_err(|error| format!("psql: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut printed = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    if printed.ends_with('\n') {
        printed.pop();
    }
    Ok(printed)
}

/// Takes all that is called PG… from the environment of a command.
pub(crate) fn forget_defaults(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

/// The URL of another database of the same server.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let after_scheme = url.find("://").map_or(0, |at| at + "://".len());
    let (before_query, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    let path = before_query[after_scheme..]
        .find('/')
        .map_or(before_query.len(), |at| after_scheme + at);
    format!("{}/{database}{query}", &before_query[..path])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_path_of_a_url_is_replaced() {
        for (url, other) in [
            ("postgres://u@h", "postgres://u@h/x"),
            ("postgres://u@h/", "postgres://u@h/x"),
            ("postgres://u:p@h:5/db", "postgres://u:p@h:5/x"),
            (
                "postgres://h/db?sslrootcert=/a/b",
                "postgres://h/x?sslrootcert=/a/b",
            ),
            ("postgres://h?host=/tmp", "postgres://h/x?host=/tmp"),
            ("postgresql:///db?host=/tmp", "postgresql:///x?host=/tmp"),
            ("postgres://u@%2Ftmp%2Fd/db", "postgres://u@%2Ftmp%2Fd/x"),
        ] {
            assert_eq!(with_database(url, "x"), other);
        }
    }
}
