//! Git, as a program with arguments: no shell, nobody to ask, no hooks, no secrets, and never for longer than a limit.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use super::Error;

/// The longest that one call may take: a checkout of a large repository on a slow disk fits, a hang does not.
pub(super) const GIT_TIME: Duration = Duration::from_mins(2);
/// So much of what git says is passed on.
const MAX_SAID: usize = 400;
/// Who commits what an attempt left uncommitted.
const AUTHOR: (&str, &str) = ("adjutant", "adjutant@localhost");
/// What the repository's configuration must not change of what is done here. Its hooks are made for people: one that
/// waits or refuses would hang or lose an attempt.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "commit.gpgSign=false",
    "maintenance.auto=false",
    "gc.auto=0",
    "advice.addEmbeddedRepo=false",
];

/// What git sees of the worker's environment, and nothing else: an agent may set a filter in the configuration that its
/// worktree shares with the clone, and what git starts for it must not find the worker's tokens. None of these names a
/// repository either: a worker may have been started from a hook of another one.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    // A filter, or a clone that is not complete, may fetch what is checked out.
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// How git is called.
#[derive(Clone, Debug)]
pub(super) struct Git {
    /// Where it is looked for, instead of in this process's PATH.
    pub(super) search: Option<OsString>,
    /// The longest that a call may take.
    pub(super) limit: Duration,
}

impl Git {
    pub(super) const fn new() -> Self {
        Self {
            search: None,
            limit: GIT_TIME,
        }
    }

    /// What git prints, without the last line end; an error where it says no.
    pub(super) async fn run<S: AsRef<OsStr>>(
        &self,
        doing: &str,
        at: &Path,
        arguments: &[S],
    ) -> Result<String, Error> {
        let output = self.output(doing, at, arguments).await?;
        if !output.status.success() {
            return Err(Error::Git {
                doing: doing.to_owned(),
                said: said(&output),
            });
        }
        Ok(text(&output.stdout))
    }

    /// Whether git says yes (exit code 0) or no (1), and what it prints.
    pub(super) async fn ask<S: AsRef<OsStr>>(
        &self,
        doing: &str,
        at: &Path,
        arguments: &[S],
    ) -> Result<Option<String>, Error> {
        let output = self.output(doing, at, arguments).await?;
        match output.status.code() {
            Some(0) => Ok(Some(text(&output.stdout))),
            Some(1) => Ok(None),
            _ => Err(Error::Git {
                doing: doing.to_owned(),
                said: said(&output),
            }),
        }
    }

    async fn output<S: AsRef<OsStr>>(
        &self,
        doing: &str,
        at: &Path,
        arguments: &[S],
    ) -> Result<Output, Error> {
        let mut command = Command::new("git");
        command.env_clear().envs(inherited(std::env::vars_os()));
        if let Some(search) = &self.search {
            command.env("PATH", search);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let child = command
            .args(arguments)
            .current_dir(at)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_EDITOR", "true")
            .env("GIT_AUTHOR_NAME", AUTHOR.0)
            .env("GIT_AUTHOR_EMAIL", AUTHOR.1)
            .env("GIT_COMMITTER_NAME", AUTHOR.0)
            .env("GIT_COMMITTER_EMAIL", AUTHOR.1)
            // Its words are looked at.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound if at.is_dir() => Error::NoGit,
                ErrorKind::NotFound => Error::NoDirectory(at.to_owned()),
                _ => Error::io(format!("cannot {doing}: git does not start"), error),
            })?;
        // What git itself starts, such as a filter, ends with it.
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let output = tokio::time::timeout(self.limit, child.wait_with_output()).await;
        match output {
            Ok(output) => {
                // It is over and collected: its number may be another's soon.
                group.0 = None;
                output.map_err(|error| Error::io(format!("cannot {doing}: git is lost"), error))
            }
            Err(_) => Err(Error::Slow {
                doing: doing.to_owned(),
                limit: self.limit,
            }),
        }
    }
}

/// What of these variables git sees.
pub(super) fn inherited(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.filter(|(name, _)| INHERITED.iter().any(|known| name == known))
}

/// A process group that is over when this is dropped, also when the call is abandoned.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that is gone already needs no signal.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// What git said, in one line that is safe to print.
pub(super) fn said(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| {
            let line = line.trim();
            line.strip_prefix("fatal: ")
                .or_else(|| line.strip_prefix("error: "))
                .or_else(|| line.strip_prefix("hint: "))
                .unwrap_or(line)
        })
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return format!("nothing ({})", output.status);
    }
    let line = lines.join("; ").replace(char::is_control, "\u{FFFD}");
    match line.char_indices().nth(MAX_SAID) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
