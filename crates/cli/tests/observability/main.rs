//! What can be observed of the real binary: its metrics, its traces, and what is written about both.
#![expect(
    clippy::float_cmp,
    reason = "figures are told as floats, and those that are compared are exact"
)]

#[path = "../support/mod.rs"]
mod support;

mod collector;
mod figures;
mod metrics;
mod servers;
mod traces;
mod written;
