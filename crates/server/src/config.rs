//! Configuration: what the server must be told, and the bounds that it keeps.
//!
//! # Not here
//! Flags, environment and files: the command line fills this in.

use std::time::Duration;

use crate::serve::tls::Tls;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hosts that it listens on, without ports: a request's `Host` must be one of them, a loopback name, or the
    /// host of `public_url`. An unspecified address (`0.0.0.0`, `::`) admits every IP address.
    pub listen_names: Vec<String>,
    /// The URL that people and agents reach it by, when that is another one.
    pub public_url: Option<String>,
    /// The certificate and key, where the server speaks TLS.
    pub tls: Option<Tls>,
    /// Everyone is an administrator. The caller makes sure that it listens on loopback addresses only.
    pub open: bool,
    /// The largest body of a request.
    pub max_body_bytes: usize,
    /// The largest body of a request to `/api/batch/*`.
    pub max_batch_body_bytes: usize,
    /// The most memory that bodies may take together, from when they are read until they are answered; more is answered
    /// with 503.
    pub max_body_memory_bytes: usize,
    /// The most memory that large answers may take together while they are sent; more is answered with 503.
    pub max_answer_memory_bytes: usize,
    /// The most connections; further ones are answered with 503 and closed.
    pub max_connections: usize,
    /// The most event streams; further ones are answered with 503. Each reads the store once for every commit that it
    /// can keep up with, beside everyone else who reads.
    pub max_streams: usize,
    /// A new connection that has not sent the whole head of a request by then is closed, and one that has not agreed
    /// on TLS.
    pub opening_timeout: Duration,
    /// A connection without a request is closed after so long. It is longer than the time for which usual clients
    /// keep idle connections (90 s), so that they do not run into a connection that is just being closed.
    pub idle_timeout: Duration,
    /// A peer that neither sends nor takes a byte for so long while it should is disconnected.
    pub stall_timeout: Duration,
    /// Whether the server goes to agents and webhooks at addresses of its own machine and network.
    pub allow_private_peers: bool,
    /// An agent that the server goes to has so long for each answer. While it is at work it may be away twice as long.
    pub peer_patience: Duration,
    /// A place that is told of events has so long for each answer.
    pub webhook_patience: Duration,
    /// What is in flight at shutdown gets so long.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_names: Vec::new(),
            public_url: None,
            tls: None,
            open: false,
            max_body_bytes: 4 << 20,
            max_batch_body_bytes: 64 << 20,
            max_body_memory_bytes: 512 << 20,
            max_answer_memory_bytes: 512 << 20,
            max_connections: 20_000,
            max_streams: 500,
            opening_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            stall_timeout: Duration::from_secs(30),
            allow_private_peers: false,
            peer_patience: Duration::from_mins(1),
            webhook_patience: Duration::from_secs(15),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
