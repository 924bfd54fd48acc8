//! Operations: what whoever keeps a server running does with the real binary, while it works.

mod backups;
mod doctor;
mod load;
mod retention;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
