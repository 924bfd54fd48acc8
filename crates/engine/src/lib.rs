//! The engine: turns, time, wake-ups.

mod handle;

pub use handle::{Handle, Refusal};
