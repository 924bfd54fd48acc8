//! The server: the HTTP API of adjutant.
//!
//! It translates and decides nothing. A request passes the `access` guard, is parsed into a command (`parse`),
//! asked of the engine, and its answer is shown (`view`). Read `access::table` for the list of all endpoints, and
//! `routes` for what each does.
//!
//! # Not here
//! The rules: `adjutant-core`. Time, waiting and commits: `adjutant-engine`. Flags and files: the command line.

mod a2a;
mod access;
mod app;
mod attempt_token;
mod body;
mod config;
mod dashboard;
mod extract;
mod failure;
mod json;
mod metrics;
mod outward;
mod page;
mod parse;
mod patience;
mod peers;
mod query;
mod reply;
mod routes;
mod serve;
mod stream;
#[cfg(test)]
mod tests;
pub mod token;
mod view;
mod webhooks;

pub use config::Config;
pub use serve::tls::{Tls, TlsError};
pub use serve::{ServeError, Server, SignInLinks};

/// The description of the API (`OpenAPI` 3.1) as JSON text.
pub fn openapi() -> String {
    routes::openapi::document()
}
