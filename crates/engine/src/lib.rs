//! The engine: turns, time, and wake-ups.
//!
//! Everything that arrives while one turn commits is the next turn: group commit without a timer. One thread owns the
//! store and the working set and takes one turn at a time; parsing before and serialising after it overlap it.
//!
//! ```text
//! Handle::call → inbox (bounded) → Turns::take: load ⇄ decide → commit → answers, events, wake-ups
//! ```
//!
//! - [`handle`]: how edges ask, and wait.
//! - [`turns`]: one turn after the other on a store, without threads or clocks: what the simulator drives.
//! - [`clock`]: time that never steps back.
//! - `forgetting`: when what is over is forgotten.
//! - [`watch`]: who is told of each turn, to count and to trace; [`tally`]: what is counted here.
//! - `run`: the thread, its inbox and its deadlines; `submissions`: what gives way to agents in it.
//!
//! # Not here
//! Rules: the core. Rows: the store. HTTP: the server.

mod bodies;
pub mod clock;
mod forgetting;
pub mod handle;
mod readers;
mod run;
mod submissions;
pub mod tally;
pub mod turns;
pub mod watch;

pub use adjutant_core::retention::Retention;
pub use adjutant_core::set::Settings;
pub use handle::{Handle, Refusal};
pub use run::{Engine, Failure};
