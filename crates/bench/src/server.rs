//! The server under measurement: a process of its own on a directory of its own.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adjutant_postgres_fixture::{Cluster, Database};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::arguments::Arguments;
use crate::http::Connection;
use crate::process;

/// A server that has not said where it listens by then does not work.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The administrator's token. The server listens on the loopback interface, and lives as long as a measurement.
const TOKEN: &str = "adjutant-bench-admin-token";

/// A running server. It ends, and its directory goes, when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    _dir: TemporaryDir,
    database: Option<Arc<Database>>,
}

impl Server {
    /// Starts the server, with more flags where a measurement needs them.
    pub(crate) async fn start(arguments: &Arguments, flags: &[&str]) -> io::Result<Self> {
        let database = arguments.cluster.as_ref().map(Cluster::database).map(Arc::new);
        Self::start_on(arguments, flags, database).await
    }

    /// Starts one more server on the database of another.
    pub(crate) async fn beside(arguments: &Arguments, other: &Self) -> io::Result<Self> {
        Self::start_on(arguments, &[], other.database.clone()).await
    }

    async fn start_on(
        arguments: &Arguments,
        flags: &[&str],
        database: Option<Arc<Database>>,
    ) -> io::Result<Self> {
        let binary = fs::canonicalize(&arguments.binary).map_err(|error| {
            let path = arguments.binary.display();
            io::Error::other(format!(
                "{path}: {error}; build it with `cargo build --release -p adjutant`"
            ))
        })?;
        let dir = TemporaryDir::new(arguments)?;
        let log = dir.path().join("server.log");
        let store = database.as_ref().map(|database| ["--store", database.url()]);
        let mut child = Command::new(&binary)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(store.into_iter().flatten())
            .args(flags)
            .current_dir(dir.path())
            // Settings of whoever measures would be measured too.
            .env_clear()
            .env("ADJUTANT_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("the server ended at once"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the server has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_TIMEOUT, lines.next_line())
            .await
            .unwrap_or(Ok(None))?;
        let address = line
            .as_deref()
            .and_then(|line| line.strip_prefix("listening on http://"))
            .and_then(|address| address.trim().parse().ok());
        match address {
            Some(address) => Ok(Self {
                child,
                address,
                pid,
                _dir: dir,
                database,
            }),
            None => Err(io::Error::other(format!(
                "the server did not start: {}",
                fs::read_to_string(&log).unwrap_or_default().trim()
            ))),
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        self.reach().connect().await
    }

    /// How to reach it from another thread.
    pub(crate) const fn reach(&self) -> Reach {
        Reach(self.address)
    }

    /// Its resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> io::Result<f64> {
        Ok(f64::from(process::resident_kib(self.pid)?) / 1_024.0)
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        process::cpu(self.pid)
    }

    /// Runs SQL in its database; gives what `psql -qAt` prints.
    pub(crate) async fn sql(&self, sql: &'static str) -> io::Result<String> {
        let database = self
            .database
            .clone()
            .ok_or_else(|| io::Error::other("there is no PostgreSQL"))?;
        tokio::task::spawn_blocking(move || database.sql(sql))
            .await
            .map_err(io::Error::other)
    }

    /// Ends it and waits until it is gone, so that it does not disturb the next measurement. Nothing that it holds
    /// is needed any more, so it is not asked to end in good order.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// How to reach a server.
#[derive(Clone, Copy)]
pub(crate) struct Reach(SocketAddr);

impl Reach {
    /// Opens a connection.
    pub(crate) async fn connect(self) -> io::Result<Connection> {
        Connection::open(self.0, TOKEN).await
    }
}

/// A directory that is removed when it is dropped.
pub(crate) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    pub(crate) fn new(arguments: &Arguments) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = match &arguments.dir {
            Some(dir) => dir.as_path(),
            None => arguments.binary.parent().unwrap_or(Path::new(".")),
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("adjutant-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            io::Error::other(format!("{}: {error}; choose another --dir", path.display()))
        })?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} was not removed: {error}", self.0.display());
        }
    }
}
