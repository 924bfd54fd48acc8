//! The worker of the real binary: what it runs, what its commands may do, and how they end.

mod arguments;
mod ends;
mod environment;
mod limits;
#[path = "../support/mod.rs"]
mod support;
mod workspaces;

use std::fs::{File, read_to_string};
use std::path::PathBuf;
use std::process::{Child, Command};

use serde_json::Value;

use crate::support::api::Api;
use crate::support::{Server, eventually};

/// A worker whose words are kept; killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Worker {
    /// A worker that runs a shell script for each task, with these flags.
    pub(crate) fn script(server: &Server, id: &str, flags: &[&str], script: &str) -> Self {
        let mut command = server.command();
        command
            .args(["worker", "--id", id])
            .args(flags)
            .args(["--", "sh", "-c", script]);
        Self::start(server, id, &mut command)
    }

    pub(crate) fn start(server: &Server, id: &str, command: &mut Command) -> Self {
        let at = |name: &str| server.directory.join(format!("{id}.{name}"));
        let (out, err) = (at("out"), at("err"));
        let child = command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself; gives its exit code and what it said to stdout and stderr.
    pub(crate) fn ended(&mut self) -> (i32, String, String) {
        let status = eventually("the end of the worker", || self.child.try_wait().unwrap());
        let said = |path| read_to_string(path).unwrap();
        (status.code().unwrap_or(-1), said(&self.out), said(&self.err))
    }

    /// What it said to stdout so far.
    pub(crate) fn told(&self) -> String {
        read_to_string(&self.out).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // In good order, so that its command ends as well; a keeper sees to it otherwise.
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a task is as wanted.
#[track_caller]
pub(crate) fn task_when(api: &Api, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("task {id}"), || {
        let task = api.get(&format!("/api/tasks/{id}"));
        wanted(&task).then_some(task)
    })
}

/// Waits until a file has something in it.
#[track_caller]
pub(crate) fn text_of(path: &std::path::Path) -> String {
    eventually(&path.display().to_string(), || {
        read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}
