//! Configuration: what the server must be told, and the bounds that it keeps.
//!
//! # Not here
//! Flags, environment and files: the command line fills this in.

use std::time::Duration;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hosts that it listens on, without ports: a request's `Host` must be one of them, a loopback name, or the
    /// host of `public_url`. An unspecified address (`0.0.0.0`, `::`) admits every IP address.
    pub listen_names: Vec<String>,
    /// The URL that people and agents reach it by, when that is another one.
    pub public_url: Option<String>,
    /// Everyone is an administrator. The caller makes sure that it listens on loopback addresses only.
    pub open: bool,
    /// The largest body of a request.
    pub max_body_bytes: usize,
    /// The largest body of a request to `/api/batch/*`.
    pub max_batch_body_bytes: usize,
    /// The most memory that bodies being read may take together; more is answered with 503.
    pub max_body_memory_bytes: usize,
    /// The most connections; further ones wait to be accepted.
    pub max_connections: usize,
    /// A connection without a request is closed after so long. It is longer than the time for which usual clients
    /// keep idle connections (90 s), so that they do not run into a connection that is just being closed.
    pub idle_timeout: Duration,
    /// A peer that neither sends nor takes a byte for so long while it should is disconnected.
    pub stall_timeout: Duration,
    /// What is in flight at shutdown gets so long.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_names: Vec::new(),
            public_url: None,
            open: false,
            max_body_bytes: 4 << 20,
            max_batch_body_bytes: 64 << 20,
            max_body_memory_bytes: 512 << 20,
            max_connections: 20_000,
            idle_timeout: Duration::from_secs(100),
            stall_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
