//! PostgreSQL for tests: clusters that start by themselves and leave nothing behind.
//!
//! A test asks for [`shared`], makes a [`Database`] in it and gives its URL to what it tests. A test that stops the
//! server has one of its [own](Cluster::own). Nothing is set up by hand: where the machine has PostgreSQL, a cluster is
//! made in a directory of its own, listens on a socket there and on no port unless a test asks for one, and ends with
//! the process, also where that is killed.
//!
//! # Environment
//! - `ADJUTANT_TEST_POSTGRES`: the URL of a server that runs already; [`shared`] makes its databases there. The user
//!   must be allowed to make databases. A test process that is killed leaves its databases in such a server.
//! - `ADJUTANT_REQUIRE_POSTGRES`: a machine without PostgreSQL fails the tests that need it.
//!
//! # Not here
//! A client of the database: the store has one. SQL runs through `psql`, which comes with the server.

mod binaries;
mod psql;
mod supervisor;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::sync::{Arc, Once, OnceLock};

use psql::Defaults;
use supervisor::{Order, Supervisor};

const SERVER_VARIABLE: &str = "ADJUTANT_TEST_POSTGRES";
const REQUIRE_VARIABLE: &str = "ADJUTANT_REQUIRE_POSTGRES";

/// Usually the server has no port: this one is only in the name of its socket, and it is what clients expect.
const SETTINGS: &str = "
listen_addresses = ''
port = 5432
unix_socket_permissions = 0777
max_connections = 300
shared_buffers = 128MB";

/// What a test of many does not need: data that outlives the machine, and work in the background.
const FAST: &str = "
fsync = off
full_page_writes = off
synchronous_commit = off
autovacuum = off";

/// As in production.
const DURABLE: &str = "
fsync = on
full_page_writes = on
synchronous_commit = on
autovacuum = on";

/// The cluster that the tests of this process share, started at its first use.
///
/// None where this machine has no PostgreSQL and none is named by `ADJUTANT_TEST_POSTGRES`. That is said once on
/// stderr, or is a panic where `ADJUTANT_REQUIRE_POSTGRES` is set.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED
        .get_or_init(|| match named_by(SERVER_VARIABLE) {
            Some(url) => Some(Cluster(Arc::new(Server::that_runs_at(url)))),
            None => Some(Cluster(Arc::new(Server::started(Use::Shared, None)?))),
        })
        .as_ref()
}

/// A PostgreSQL server and its databases.
pub struct Cluster(Arc<Server>);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster of its own, with durable commits, for tests that stop the server. It goes with the value and the
    /// databases in it.
    ///
    /// None as for [`shared`], except that the server's binaries must be on this machine.
    pub fn own() -> Option<Self> {
        Some(Self(Arc::new(Server::started(Use::Own, None)?)))
    }

    /// As [`own`](Self::own), for tests of what passes over a network: it listens on a port of 127.0.0.1 as well, and
    /// trusts whoever comes from there.
    pub fn own_on_port(port: u16) -> Option<Self> {
        Some(Self(Arc::new(Server::started(Use::Own, Some(port))?)))
    }

    /// A new, empty database with a random name. It is dropped with the value, whoever is still connected to it.
    #[track_caller]
    pub fn database(&self) -> Database {
        // Each state has random keys of its own.
        let name = format!("adjutant_test_{:016x}", RandomState::new().hash_one(()));
        // Nothing is in template0; people add things to template1.
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        done(self.0.administer(&sql), &sql);
        Database {
            url: psql::with_database(&self.0.url, &name),
            name,
            server: Arc::clone(&self.0),
        }
    }

    /// Restarts the server: connections are closed, open transactions rolled back. It takes connections again when
    /// this returns. Only for a cluster of a test's own, as is what follows.
    #[track_caller]
    pub fn restart(&self) {
        self.tell(Order::Restart);
    }

    /// Stops the server as a crash does: with no checkpoint, so that the next start recovers from the log.
    #[track_caller]
    pub fn stop_immediately(&self) {
        self.tell(Order::Stop);
    }

    /// Starts the server that was stopped, and waits until it takes connections.
    #[track_caller]
    pub fn start(&self) {
        self.tell(Order::Start);
    }

    /// Runs SQL in a database as a superuser; gives what `psql -qAt` prints, without the last newline.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        done(self.0.sql(&psql::with_database(&self.0.url, database), sql), sql)
    }

    #[track_caller]
    fn tell(&self, order: Order) {
        // The other tests of the process would be disturbed, and which ones would be a matter of time.
        let Ran::ByUs(supervisor, Use::Own) = &self.0.ran else {
            panic!("only a cluster of a test's own is stopped and started");
        };
        if let Err(printed) = supervisor.tell(order) {
            panic!("the cluster does not do as it is told:\n{printed}");
        }
    }
}

/// A database in a [`Cluster`], which lasts at least as long.
pub struct Database {
    url: String,
    name: String,
    server: Arc<Server>,
}

impl Database {
    /// How a client connects to it. The host is the directory of a socket, percent-encoded.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is called in its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As [`Cluster::sql`], in this database.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        done(self.server.sql(&self.url, sql), sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropped = self.server.administer(&sql);
        // A cluster that was started here takes its databases along, and a test may have stopped it by now.
        if let (Err(error), Ran::ByOthers) = (dropped, &self.server.ran) {
            loudly(&format!("the database {} is left behind: {error}", self.name));
        }
    }
}

/// A server that can be reached.
struct Server {
    /// Of the database that others are made from.
    url: String,
    ran: Ran,
}

enum Ran {
    ByUs(Supervisor, Use),
    ByOthers,
}

#[derive(Clone, Copy)]
enum Use {
    Shared,
    Own,
}

impl Server {
    fn started(purpose: Use, port: Option<u16>) -> Option<Self> {
        let Some(binaries) = binaries::directory() else {
            say_that_there_is_none();
            return None;
        };
        let more = match purpose {
            Use::Shared => FAST,
            Use::Own => DURABLE,
        };
        // Of a setting that is there twice, the last one counts.
        let network = port.map_or_else(String::new, |port| {
            format!("\nlisten_addresses = '127.0.0.1'\nport = {port}")
        });
        let supervisor = Supervisor::start(binaries, &format!("{SETTINGS}{more}{network}"))
            .unwrap_or_else(|printed| panic!("PostgreSQL does not start:\n{printed}"));
        let host = supervisor.directory().replace('/', "%2F");
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Some(Self {
            url: format!("postgres://adjutant@{host}{port}/postgres"),
            ran: Ran::ByUs(supervisor, purpose),
        })
    }

    fn that_runs_at(url: String) -> Self {
        assert!(
            url.starts_with("postgres://") || url.starts_with("postgresql://"),
            "{SERVER_VARIABLE} must be a URL: postgres://user:password@host/database"
        );
        let server = Self {
            url,
            ran: Ran::ByOthers,
        };
        let version = server
            .administer("SELECT current_setting('server_version_num')::int / 10000")
            .unwrap_or_else(|error| panic!("the server of {SERVER_VARIABLE}: {error}"));
        let min = binaries::MIN_VERSION;
        assert!(
            version.parse().is_ok_and(|version: u32| version >= min),
            "the server of {SERVER_VARIABLE} has version {version}; it must have {min} at least"
        );
        server
    }

    /// Runs SQL in the database that others are made from.
    fn administer(&self, sql: &str) -> Result<String, String> {
        self.sql(&self.url, sql)
    }

    fn sql(&self, url: &str, sql: &str) -> Result<String, String> {
        let defaults = match self.ran {
            Ran::ByUs(..) => Defaults::None,
            Ran::ByOthers => Defaults::Environment,
        };
        psql::run(url, defaults, sql)
    }
}

#[track_caller]
fn done(outcome: Result<String, String>, sql: &str) -> String {
    outcome.unwrap_or_else(|error| panic!("{error}in: {sql}"))
}

fn named_by(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

fn say_that_there_is_none() {
    static SAID: Once = Once::new();
    let min = binaries::MIN_VERSION;
    let advice = format!(
        "this machine has no PostgreSQL {min} or newer. Install the server and psql \
         (apt install postgresql, dnf install postgresql-server, brew install postgresql@17), \
         or name a server that runs: {SERVER_VARIABLE}=postgres://user:password@host/database"
    );
    assert!(named_by(REQUIRE_VARIABLE).is_none(), "{advice}");
    SAID.call_once(|| loudly(&format!("tests that need PostgreSQL DO NOTHING: {advice}")));
}

/// Past what `cargo test` captures: it shows nothing of a test that passes.
fn loudly(text: &str) {
    drop(writeln!(io::stderr(), "\nadjutant-postgres-fixture: {text}\n"));
}
