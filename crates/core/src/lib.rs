//! The core of adjutant: roll-call, routing and rations for fleets of AI agents, as pure rules.
//!
//! This crate cannot do IO. It reads no clock, draws no random numbers, opens no files and no sockets: time, ids and
//! rows come in, changes go out. Everything that the contract decides is decided here and nowhere else.

pub mod access;
pub mod agent;
pub mod attempt;
pub mod command;
pub mod counter;
pub mod decide;
pub mod event;
pub mod experience;
pub mod ledger;
pub mod limit;
pub mod money;
pub mod name;
pub mod rejection;
pub mod retention;
pub mod router;
pub mod set;
pub mod task;
pub mod time;
pub mod webhook;
