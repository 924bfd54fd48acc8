//! Why a worker ended before it was told to.

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Another process registered as this agent.
    #[error(
        "another worker speaks for agent `{agent}` now: this one ended what it ran and exits; \
         give each worker an id of its own"
    )]
    Superseded {
        /// The agent.
        agent: String,
    },
    /// The server refuses for good.
    #[error("{doing}: {source}")]
    Server {
        /// What the worker was doing.
        doing: &'static str,
        /// What the server said.
        source: adjutant_client::Error,
    },
}
