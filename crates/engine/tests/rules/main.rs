//! The rules, tested at the level that a user speaks: tasks are submitted, agents sync, time passes.
//!
//! One binary, one module for each noun of the contract. Every test runs on a store of its own with a clock that only
//! the test moves; when a [`Fleet`](harness::Fleet) goes, its ledger and its invariants are checked from the rows.
//!
//! # Not here
//! What crashes leave behind: the simulator. The wire: the server.

mod agents;
mod crossings;
mod custody;
mod dependencies;
mod dispatch;
mod events;
mod external_jobs;
mod harness;
mod holds;
mod late;
mod limits;
mod locks;
mod peers;
mod periods;
mod plain_clients;
mod roll_call;
mod speakers;
mod tasks;
mod turns;
mod usage;
mod waiting;
mod wake_ups;
mod webhooks;
