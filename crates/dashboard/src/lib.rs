//! The dashboard: pages for people, from plain data.
//!
//! Every function here takes what is to be seen and gives markup. Text of others (titles, notes, output, names) is
//! escaped by the templates; nothing in a page is a script or a style, since the pages' policy lets none run.
//!
//! # Not here
//! Where the data comes from, who may see a page, and how pages are kept fresh: the server's `dashboard`.

pub mod agent;
pub mod api;
pub mod assets;
pub mod dead_letters;
pub mod events;
pub mod fleet;
mod format;
pub mod frame;
pub mod limits;
pub mod overview;
mod pieces;
pub mod plot;
pub mod queue;
pub mod sign_in;
pub mod task;
#[cfg(test)]
mod tests;
pub mod trends;

pub use maud::Markup;
pub use pieces::encoded;

/// What a viewer may do: buttons that would be refused are not shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Abilities {
    /// See agents and limits.
    pub read: bool,
    /// Cancel tasks.
    pub submit: bool,
    /// Everything else: retry, hold, release, drain, set limits.
    pub admin: bool,
}
