//! The real binary on a temporary directory.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

pub mod api;
pub mod place;
pub mod relay;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The admin token of test servers.
pub const TOKEN: &str = "test-admin-token-0123456789abcdef";

/// A command of the binary, free of the environment's own configuration.
pub fn adjutant(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adjutant"));
    command.current_dir(directory).stdin(Stdio::null());
    let foreign = |name: &str| name.starts_with("ADJUTANT_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| foreign(name)) {
        command.env_remove(name);
    }
    command
}

/// Waits for the end of a program, and does something meanwhile, over and over; one that takes too long is killed.
pub fn ended(child: &mut Child, patience: Duration, mut meanwhile: impl FnMut()) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        meanwhile();
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the binary to its end.
pub fn run(directory: &Path, arguments: &[&str]) -> Ran {
    Ran::of(adjutant(directory).args(arguments).output().unwrap())
}

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts success and gives stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Asserts success and gives stdout as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Asserts a failure that is told as a person needs it: an error line, hints, and nothing else.
    #[track_caller]
    pub fn fails(&self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(message), "expected `{message}` in {self:?}");
        assert!(
            self.stderr
                .lines()
                .filter(|line| !line.starts_with("listening on "))
                .all(|line| line.starts_with("error: ") || line.starts_with("hint: ")),
            "{self:?}"
        );
        assert_eq!(
            self.stderr
                .lines()
                .filter(|line| line.starts_with("error: "))
                .count(),
            1,
            "{self:?}"
        );
    }
}

/// A server; killed when it is dropped.
pub struct Server {
    child: Child,
    errors: Option<thread::JoinHandle<String>>,
    pub url: String,
    pub directory: PathBuf,
    // Removed last.
    owned: Option<TempDir>,
}

impl Server {
    /// Starts one on a fresh directory.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(directory.path(), &[]);
        server.owned = Some(directory);
        server
    }

    /// Starts one on a directory.
    pub fn start_in(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = adjutant(directory);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("ADJUTANT_ADMIN_TOKEN", TOKEN);
        Self::spawn(command, directory)
    }

    /// Starts one with a command of its own.
    pub fn spawn(command: Command, directory: &Path) -> Self {
        Self::try_spawn(command, directory).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"))
    }

    /// Starts one with a command of its own, or gives what it said instead.
    pub fn try_spawn(mut command: Command, directory: &Path) -> Result<Self, Ran> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Both are read on, so that the server never waits for a reader.
        let mut stderr = child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut errors = String::new();
            stderr.read_to_string(&mut errors).unwrap();
            errors
        });
        let first = lines.next().transpose().unwrap().unwrap_or_default();
        let Some(url) = first.strip_prefix("listening on ").map(str::to_owned) else {
            return Err(Ran {
                code: child.wait().unwrap().code().unwrap_or(-1),
                stdout: first,
                stderr: errors.join().unwrap(),
            });
        };
        thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            errors: Some(errors),
            url,
            directory: directory.to_owned(),
            owned: None,
        })
    }

    /// Runs a command of the binary against it.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command().args(arguments).output().unwrap();
        Ran::of(output)
    }

    /// A command of the binary that talks to it.
    pub fn command(&self) -> Command {
        let mut command = adjutant(&self.directory);
        command
            .env("ADJUTANT_URL", &self.url)
            .env("ADJUTANT_TOKEN", TOKEN);
        command
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(mut self) -> i32 {
        terminate(&self.child);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself, and gives what it said.
    pub fn ended(mut self) -> Ran {
        let code = eventually("the end of the server", || self.child.try_wait().unwrap());
        Ran {
            code: code.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: self.errors.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that is killed when it is dropped, so that a failed test leaves nothing behind.
pub struct Program(Option<Child>);

impl Program {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let child = self.0.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and what it gave in the end.
    pub fn terminate(mut self) -> Ran {
        let child = self.0.take().unwrap();
        terminate(&child);
        Ran::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends SIGTERM to a child.
fn terminate(child: &Child) {
    signal(child, "TERM");
}

/// Sends a signal to a child.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits until `check` gives something, which must be soon.
#[track_caller]
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(30));
    }
}

/// Writes a file.
pub fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}
