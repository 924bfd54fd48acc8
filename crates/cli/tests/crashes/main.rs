//! Real crashes: the real binary is killed, frozen, starved of room and given broken files.
//!
//! Each test looks at what clients were told, and at the rows of the store after the end: not at what the program says
//! of itself.

mod books;
mod damage;
mod freeze;
mod full_disk;
mod load;
mod places;
mod power_cut;
mod server_kills;
#[path = "../support/mod.rs"]
mod support;
mod syscalls;
mod worker_kills;
