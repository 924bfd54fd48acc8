//! Several servers on one PostgreSQL database: the real binary, killed, frozen, cut off and raced.
//!
//! Each test looks at what clients were told, and at the rows of the database at the end: not at what the program says
//! of itself. Where the machine has no PostgreSQL they do nothing, and say so.
//!
//! # Environment
//! - `ADJUTANT_CHAOS_SECONDS`: how long the chaos lasts; 20 without it.
//! - `ADJUTANT_CHAOS_SEED`: what chance it has; a new one each time without it. It is printed.
//! - `ADJUTANT_REQUIRE_FAKETIME`: a machine without libfaketime fails the test that needs it.

mod books;
mod chaos;
mod chronicle;
mod clocks;
mod crowd;
mod deaf;
mod dice;
mod faults;
mod follower;
mod locked;
mod peers;
mod processes;
mod race;
mod servers;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod wake;
mod webhooks;
mod worker;
