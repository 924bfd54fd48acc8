//! The supervisor: a shell that keeps one cluster for as long as this process lives.
//!
//! Nothing in a process runs when it is killed, and statics are not dropped when it exits. So the cluster belongs to a
//! shell whose stdin is a pipe that only this process holds: whatever ends the process ends the pipe, and the shell
//! then stops the server and removes the directory. The shell makes the directory as well: there is no moment at which
//! it has no owner.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::psql;

const SCRIPT: &str = include_str!("supervisor.sh");

/// A running supervisor. Its cluster is gone once this is dropped.
pub(crate) struct Supervisor {
    directory: String,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    shell: Child,
    /// Always there, until the drop.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// What a supervisor can be told.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Restart,
    Stop,
    Start,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }
}

impl Supervisor {
    /// Makes a cluster and waits until it takes connections.
    pub(crate) fn start(binaries: &Path, settings: &str) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "supervisor"])
            .arg(binaries)
            .arg(settings);
        // PGDATA, PGPORT and their like would be defaults of the server and its tools.
        psql::forget_defaults(&mut command);
        command
            .env("LC_ALL", "C")
            // Otherwise initdb compares the files of all time zones with this machine's.
            .env("TZ", "UTC")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A stderr that is inherited would keep open what a test runner reads to its end.
            .stderr(Stdio::null());
        if let Some(user) = User::instead_of_root()? {
            command.uid(user.id).gid(user.group);
        }
        let mut shell = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let stdin = shell.stdin.take();
        let stdout = BufReader::new(shell.stdout.take().expect("stdout is a pipe"));
        let mut pipes = Pipes { shell, stdin, stdout };
        // The drop of the pipes is the end of the supervisor, also where the start fails.
        let printed = pipes.answer()?;
        let directory = printed
            .lines()
            .find_map(|line| line.strip_prefix("=directory "))
            .ok_or("the supervisor has named no directory")?
            .to_owned();
        Ok(Self {
            directory,
            pipes: Mutex::new(pipes),
        })
    }

    /// Where the server's socket is.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// Has an order done.
    pub(crate) fn tell(&self, order: Order) -> Result<(), String> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = pipes.stdin.as_mut().expect("stdin is kept until the drop");
        writeln!(stdin, "{}", order.word()).map_err(|error| format!("the supervisor is gone: {error}"))?;
        pipes.answer().map(drop)
    }
}

impl Pipes {
    /// What was printed up to the word that says how it went.
    fn answer(&mut self) -> Result<String, String> {
        let mut printed = String::new();
        loop {
            let before = printed.len();
            let read = self.stdout.read_line(&mut printed);
            match (read, printed[before..].trim_end()) {
                (Ok(0) | Err(_), _) => return Err(format!("{printed}the supervisor is gone")),
                (_, "=done") => return Ok(printed),
                (_, "=failed") => return Err(printed),
                _ => {}
            }
        }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A shell that cannot be waited for has ended.
        drop(self.shell.wait());
    }
}

/// Who runs a server.
struct User {
    id: u32,
    group: u32,
}

impl User {
    /// The server refuses to be root: who it is instead. None where this process is somebody else already.
    fn instead_of_root() -> Result<Option<Self>, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(name, &users))
            .map(Some)
            .ok_or_else(|| "PostgreSQL does not run as root, and there is no user postgres or nobody".into())
    }

    /// A user in the text of a file of users: name, password, id, group and more in each line.
    fn named(name: &str, users: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then_some(())?;
            let id = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(Self { id, group })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:admin,,,:/:/bin/sh\n";
        let user = User::named("postgres", users).expect("the user is there");
        assert_eq!((user.id, user.group), (101, 104));
        assert!(User::named("nobody", users).is_none());
    }
}
