//! Why a worker ended before it was told to, or left something undone at its end.

use std::fmt;

/// The most results that are named; there is no use in more.
const MAX_NAMED: usize = 20;

/// Why a worker ended before it was told to, or what it left undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Another process registered as this agent.
    #[error(
        "another worker speaks for agent `{agent}` now: this one ended what it ran and exits; \
         give each worker an id of its own{undelivered}"
    )]
    Superseded {
        /// The agent.
        agent: String,
        /// Results that the server did not get.
        undelivered: Undelivered,
    },
    /// The server refuses for good.
    #[error("{doing}: {source}{undelivered}")]
    Server {
        /// What the worker was doing.
        doing: &'static str,
        /// What the server said.
        source: Box<adjutant_client::Error>,
        /// Results that the server did not get.
        undelivered: Undelivered,
    },
    /// The worker ended as it was told to, but the server could not be given all results.
    #[error("the server was away when the worker ended{undelivered}")]
    Undelivered {
        /// Results that the server did not get.
        undelivered: Undelivered,
    },
}

impl Error {
    pub(crate) fn server(doing: &'static str, source: adjutant_client::Error) -> Self {
        Self::Server {
            doing,
            source: Box::new(source),
            undelivered: Undelivered::default(),
        }
    }

    pub(crate) fn superseded(agent: &str) -> Self {
        Self::Superseded {
            agent: agent.to_owned(),
            undelivered: Undelivered::default(),
        }
    }

    /// Says which results the server did not get.
    pub(crate) fn name_undelivered(&mut self, results: impl Iterator<Item = String>) {
        match self {
            Self::Config(_) => {}
            Self::Superseded { undelivered, .. }
            | Self::Server { undelivered, .. }
            | Self::Undelivered { undelivered } => undelivered.0 = results.collect(),
        }
    }

    /// Results that the server did not get.
    pub fn undelivered(&self) -> &[String] {
        match self {
            Self::Config(_) => &[],
            Self::Superseded { undelivered, .. }
            | Self::Server { undelivered, .. }
            | Self::Undelivered { undelivered } => &undelivered.0,
        }
    }
}

/// Results of attempts that the server did not get, each as `task (attempt n)`; as a text nothing when there are none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Undelivered(Vec<String>);

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let named = &self.0[..self.0.len().min(MAX_NAMED)];
        write!(f, "; results that were not delivered: {}", named.join(", "))?;
        match self.0.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_delivered_is_named() {
        let mut error = Error::Undelivered {
            undelivered: Undelivered::default(),
        };
        assert_eq!(error.to_string(), "the server was away when the worker ended");
        error.name_undelivered((0..22).map(|number| format!("t{number} (attempt 1)")));
        let text = error.to_string();
        assert!(
            text.contains("delivered: t0 (attempt 1), t1 (attempt 1), "),
            "{text}"
        );
        assert!(text.ends_with("t19 (attempt 1) and 2 more"), "{text}");
    }
}
