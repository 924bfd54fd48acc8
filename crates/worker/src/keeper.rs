//! The keeper: a small process beside a worker that ends what the worker's commands left running when the worker is
//! killed (`kill -9`, out of memory), which no worker can do for itself.
//!
//! ```text
//!  worker ── "+ GROUP" when a command starts, "- GROUP" when it is gone ──► stdin of the keeper
//!         ╳  killed: the pipe closes                                   ──► SIGTERM, and SIGKILL after the grace,
//!                                                                          to the groups that are left
//! ```
//!
//! The kernel closes the pipe however the worker dies. A keeper that cannot be started, or dies, is missed only then.
//!
//! # Not here
//! Ends that the worker sees: it does all of that itself.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::sync::Mutex;

use crate::group::runs;

/// A keeper that does not read what it is told is given up after this: commands do not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long commands of a killed worker have after SIGTERM. They cannot report any more, and their tasks may already be
/// given to others: a new process of the worker makes the old attempts lost at once.
pub const KEEPER_GRACE: Duration = Duration::from_secs(2);
/// How often groups that were asked to end are looked at.
const POLL: Duration = Duration::from_millis(20);

/// A running keeper. It ends with the process that started it; clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Keeper {
    process: Arc<Mutex<Option<(Child, ChildStdin)>>>,
}

impl Keeper {
    /// Starts a program that calls [`keep`] on its stdin.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> std::io::Result<Self> {
        // A group of its own, so that Ctrl-C in a terminal does not end it before what it is for. It needs nothing of
        // the environment, and must not keep what it would get: a token, a directory, the pipes of a script.
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self {
            process: Arc::new(Mutex::new(pipe.map(|pipe| (child, pipe)))),
        })
    }

    /// A group runs.
    pub(crate) async fn watch(&self, group: i32) {
        self.tell('+', group).await;
    }

    /// A group is gone.
    pub(crate) async fn forget(&self, group: i32) {
        self.tell('-', group).await;
    }

    async fn tell(&self, what: char, group: i32) {
        let mut process = self.process.lock().await;
        let Some((child, pipe)) = process.as_mut() else {
            return;
        };
        let line = format!("{what} {group}\n");
        let told = tokio::time::timeout(PATIENCE, pipe.write_all(line.as_bytes())).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!("the keeper is gone: commands go on if this worker is killed");
            // Ended before its pipe closes: it would take that for the end of the worker. One that is gone is ended too.
            let _ = child.start_kill();
            *process = None;
        }
    }
}

/// What a keeper does: reads which groups run until its input ends, and ends those that are left.
pub fn keep(input: impl BufRead, grace: Duration) {
    let mut groups = BTreeSet::new();
    // An input that cannot be read has ended.
    for line in input.lines().map_while(Result::ok) {
        let number = |text: &str| text.trim().parse().ok().filter(|group| *group > 1);
        match (
            line.strip_prefix('+').and_then(number),
            line.strip_prefix('-').and_then(number),
        ) {
            (Some(group), _) => drop(groups.insert(group)),
            (_, Some(group)) => drop(groups.remove(&group)),
            (None, None) => {}
        }
    }
    let end = Instant::now() + grace;
    send(&groups, Signal::SIGTERM);
    while !groups.is_empty() && Instant::now() < end {
        std::thread::sleep(POLL);
        groups.retain(|group| runs(Pid::from_raw(*group)));
    }
    send(&groups, Signal::SIGKILL);
}

fn send(groups: &BTreeSet<i32>, signal: Signal) {
    for group in groups {
        // One that is gone needs no signal, and there is nobody to tell of another failure.
        let _ = killpg(Pid::from_raw(*group), signal);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};

    use super::*;

    fn group(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    #[test]
    fn groups_that_are_left_are_asked_to_end_and_made_to_and_others_are_not_touched() {
        let mut soft = group("exec sleep 1000");
        let mut hard = group("trap '' TERM; echo; while :; do sleep 1000; done");
        let mut gone = group("exec sleep 1000");
        // Once it has printed it ignores the signal.
        let mut ready = [0];
        std::io::Read::read_exact(hard.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let told = format!(
            "+ {}\n+ {}\n+ {}\nnonsense\n+ 0\n+ 1\n+ -1\n- {}\n",
            soft.id(),
            hard.id(),
            gone.id(),
            gone.id()
        );
        let keeping = std::thread::spawn(move || keep(told.as_bytes(), Duration::from_millis(200)));
        assert_eq!(soft.wait().unwrap().signal(), Some(15));
        assert_eq!(hard.wait().unwrap().signal(), Some(9));
        keeping.join().unwrap();
        assert!(gone.try_wait().unwrap().is_none());
        gone.kill().unwrap();
        gone.wait().unwrap();
    }
}
