//! Where this machine has PostgreSQL.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The oldest major version that is supported.
pub(crate) const MIN_VERSION: u32 = 15;

/// What must be in a directory to be of use.
const NEEDED: [&str; 4] = ["initdb", "pg_ctl", "postgres", "psql"];

/// The directory of the server's binaries and of psql: the first place with a version that is new enough.
pub(crate) fn directory() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| candidates().find(|directory| is_of_use(directory)))
        .as_deref()
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    // Each place is looked at only when the ones before it were of no use.
    let configured = || printed_by(Command::new("pg_config").arg("--bindir")).map(PathBuf::from);
    let debian = || versions("/usr/lib/postgresql", "");
    let on_path = || {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).collect::<Vec<_>>()
    };
    let red_hat = || versions("/usr", "pgsql-");
    let homebrew = || {
        [
            "/opt/homebrew/opt",
            "/usr/local/opt",
            "/home/linuxbrew/.linuxbrew/opt",
        ]
        .into_iter()
        .flat_map(|prefix| versions(prefix, "postgresql@"))
    };
    std::iter::once_with(configured)
        .flatten()
        .chain(std::iter::once_with(debian).flatten())
        .chain(std::iter::once_with(on_path).flatten())
        .chain(std::iter::once_with(red_hat).flatten())
        .chain(std::iter::once_with(homebrew).flatten())
}

/// The `bin` of each directory that is called by a prefix and a number, the newest first.
fn versions(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version: u32 = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((Reverse(version), entry.path().join("bin")))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, directory)| directory).collect()
}

fn is_of_use(directory: &Path) -> bool {
    NEEDED.iter().all(|name| directory.join(name).is_file())
        && printed_by(Command::new(directory.join("postgres")).arg("--version"))
            .and_then(|printed| major_version(&printed))
            .is_some_and(|version| version >= MIN_VERSION)
}

fn printed_by(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let printed = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| printed.trim().to_owned())
}

/// From what `postgres --version` prints.
fn major_version(printed: &str) -> Option<u32> {
    let (_, version) = printed.split_once("(PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn a_version_is_read_from_releases_and_betas() {
        for (printed, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta2", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("something else", None),
        ] {
            assert_eq!(major_version(printed), version, "{printed}");
        }
    }
}
