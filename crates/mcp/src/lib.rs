//! The Model Context Protocol: adjutant's tools for models that work, and for models that plan.
//!
//! Every tool translates its arguments to requests of the HTTP API and the answers back; who may do what, what is valid
//! and what an error means is decided there. The server gives this crate an [`Api`] that speaks with the caller's own
//! token, and an [`Audience`], which says which tools the caller is shown.
//!
//! Nothing is kept between requests: any server of a fleet answers any of them, and a proxy may stand in front.
//!
//! # Entry points
//! [`service`] is the HTTP service. `tools` has a table of all tools, and a file for each kind of caller. `handles`
//! shows tasks of ours as tasks of the protocol's extension of that name.
//!
//! # Not here
//! Tokens, hosts and origins: the server's guard. The bridge to standard input and output: the command line.

mod api;
mod arguments;
mod audience;
mod handler;
mod handles;
mod outcome;
#[cfg(test)]
mod tests;
mod tools;
mod words;

pub use api::{Api, ApiError, Reply, Request};
pub use audience::{Audience, Role};
pub use handler::{Service, Visitor, service};
