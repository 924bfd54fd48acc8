//! One command in a process group of its own: started, and ended with all that it started.
//!
//! # Invariants
//! - Whatever happens here, a panic included, the group is gone when the [`Process`] is.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::adapter::Invocation;
use crate::group;

/// How often a group that was asked to end is looked at, once its leader is gone.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// A running command and its group.
pub(crate) struct Process {
    child: Child,
    group: Group,
}

/// The ends of its pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// Why it cannot be run, for people.
    pub(crate) fn start(
        invocation: &Invocation,
        environment: Vec<(OsString, OsString)>,
        cwd: Option<&Path>,
    ) -> Result<(Self, Pipes), String> {
        let program = &invocation.program;
        let mut command = Command::new(program);
        command
            .args(&invocation.arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = cwd {
            // The system's own error would read as if the program were missing.
            if !cwd.is_dir() {
                return Err(format!(
                    "cannot run `{program}`: there is no directory {}",
                    cwd.display()
                ));
            }
            command.current_dir(cwd);
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot run `{program}`: {error}"))?;
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        // The child leads its group, so the group has its number. A child without a number has ended already.
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        let group = Group(leader.map(Pid::from_raw));
        Ok((Self { child, group }, pipes))
    }

    /// Waits for the command itself to end.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the whole group to end, and makes it when `patience` is over. Returns when it is gone.
    pub(crate) async fn terminate(&mut self, patience: impl Future<Output = ()>) {
        self.group.signal(Signal::SIGTERM);
        let (child, members) = (&mut self.child, &self.group);
        let gone = async {
            if child.wait().await.is_ok() {
                // The command is gone; what it started may still be cleaning up.
                while members.runs() {
                    tokio::time::sleep(GROUP_POLL).await;
                }
            }
        };
        tokio::select! {
            () = gone => {}
            () = patience => {}
        }
        self.kill();
        if let Err(error) = self.child.wait().await {
            tracing::warn!(%error, "cannot wait for a killed command");
        }
    }

    /// The number of its group; none when it had ended before it could be told.
    pub(crate) fn group(&self) -> Option<i32> {
        self.group.0.map(Pid::as_raw)
    }

    /// Makes all that is left of the group end at once.
    pub(crate) fn kill(&self) {
        self.group.signal(Signal::SIGKILL);
    }
}

/// A process group. What is left of it dies when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0
            && let Err(error) = killpg(group, signal)
            && error != nix::errno::Errno::ESRCH
        {
            tracing::warn!(%error, %group, "cannot send {signal} to a process group");
        }
    }

    fn runs(&self) -> bool {
        self.0.is_some_and(group::runs)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
