//! The simulator: servers of the real core and engine, on one store in memory, with everything around them made up
//! from a seed: agents that vanish, restart and lie, messages that are lost, doubled, late and out of order, commits
//! that fail or whose outcome nobody knows, processes that die, clocks that jump, limits that change.
//!
//! ```text
//! seed ─► steps ─► world ─► turns of the real engine ─► tap ─► store in memory
//!                    ▲                                   │
//!                    └────────── answers                 └──► witness: an independent model that checks I1–I10
//! ```
//!
//! At the end nothing goes wrong any more, and every task must come to its end (I11). The same seed always does the
//! same. [`bug::Bug`] breaks safeguards on purpose, to see that it is found.
//!
//! # Not here
//! Real disks, processes and sockets: the crash tests of the command line.

pub mod bug;
mod clients;
mod clock;
mod minds;
mod network;
pub mod run;
pub mod shrink;
pub mod step;
mod tap;
pub mod witness;
pub mod world;
