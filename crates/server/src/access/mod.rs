//! Access: whether a request is let in, and whom it speaks for.
//!
//! [`guard`] stands before every handler: the request must be addressed to this server ([`origin`]), its token must
//! be known ([`directory`], [`crate::attempt_token`]), and its roles must reach the endpoint ([`table`]). Handlers
//! then ask the [`caller`] which agent or attempt it speaks for.
//!
//! # Not here
//! Who holds a task, and whether an attempt lives: the core.

pub(crate) mod caller;
pub(crate) mod directory;
pub(crate) mod guard;
pub(crate) mod links;
pub(crate) mod origin;
pub(crate) mod session;
pub(crate) mod sight;
pub(crate) mod sign_in;
pub(crate) mod table;
