//! Servers of the real binary on one database.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::Database;
use tempfile::TempDir;

use crate::support::api::Api;
use crate::support::{Ran, Server, adjutant};

/// How servers of a database are started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    directory: PathBuf,
    store: String,
    token: String,
    ttl: &'static str,
    environment: Vec<(&'static str, String)>,
}

impl Start {
    /// On a database, with a token of its own: a server of another test that has the port of one that was killed
    /// shall not be taken for it.
    pub(crate) fn on(database: &Database, directory: &TempDir, ttl: &'static str) -> Self {
        Self::at(database.url(), directory, ttl)
    }

    /// On a database that is named by a URL.
    pub(crate) fn at(store: &str, directory: &TempDir, ttl: &'static str) -> Self {
        Self {
            directory: directory.path().to_owned(),
            store: store.to_owned(),
            token: format!("cluster-{:016x}{:016x}", random(), random()),
            ttl,
            environment: Vec::new(),
        }
    }

    /// With more in the environment of the servers.
    pub(crate) fn with(&self, environment: &[(&'static str, String)]) -> Self {
        Self {
            environment: environment.to_vec(),
            ..self.clone()
        }
    }

    fn listening(&self, address: &str) -> Result<Server, Ran> {
        let directory: &Path = &self.directory;
        let mut command = adjutant(directory);
        command
            .args(["serve", "--listen", address, "--store", &self.store])
            .args(["--agent-ttl", self.ttl, "--allow-private-peers"])
            .env("ADJUTANT_ADMIN_TOKEN", &self.token)
            .envs(self.environment.iter().cloned());
        Server::try_spawn(command, directory)
    }

    /// Starts one, or gives what it said instead.
    pub(crate) fn attempt(&self) -> Result<Server, Ran> {
        self.listening("127.0.0.1:0")
    }

    /// Starts one.
    #[track_caller]
    pub(crate) fn one(&self) -> (Server, Api) {
        let server = self
            .attempt()
            .unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"));
        let api = self.api(&server);
        (server, api)
    }

    /// Starts three.
    #[track_caller]
    pub(crate) fn three(&self) -> (Vec<Server>, Vec<Api>) {
        (0..3).map(|_| self.one()).unzip()
    }

    /// Starts one in the place of one that was killed. The database may be away, and the port in use for a moment by a
    /// connection that goes out; at last any port will do.
    #[track_caller]
    pub(crate) fn again(&self, address: &str) -> (Server, Api) {
        let began = Instant::now();
        loop {
            let listen = if began.elapsed() < Duration::from_secs(15) {
                address
            } else {
                "127.0.0.1:0"
            };
            match self.listening(listen) {
                Ok(server) => {
                    let api = self.api(&server);
                    return (server, api);
                }
                Err(ran) => assert!(
                    began.elapsed() < Duration::from_mins(1),
                    "the server does not start again: {ran:?}"
                ),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of the binary that talks to one of the servers.
    pub(crate) fn command(&self, api: &Api) -> Command {
        let mut command = adjutant(&self.directory);
        command
            .env("ADJUTANT_URL", format!("http://{}", api.address))
            .env("ADJUTANT_TOKEN", &self.token);
        command
    }

    fn api(&self, server: &Server) -> Api {
        Api {
            address: server.url.trim_start_matches("http://").to_owned(),
            token: self.token.clone(),
        }
    }
}

/// A random number.
pub(crate) fn random() -> u64 {
    // Each state has random keys of its own.
    RandomState::new().hash_one(())
}

/// Waits until `check` gives something, for so long at most.
#[track_caller]
pub(crate) fn within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "not in {patience:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
