//! The main job: a server, a fleet and a list of tasks in one process.
//!
//! ```text
//!  fleet file ─► host (store, engine, server) ◄── HTTP ── crew: a worker for each agent
//!  task list ──► submission ───────────────────► ▲              │ notices: titles of what starts
//!                                   event stream │              ▼
//!                       tally: who does what ◄───┘          progress: bars or lines
//!                         │ nothing runs
//!                         ▼
//!                       verdict: can anything still start by itself? ── no ──► summary
//! ```
//!
//! Nothing here decides what runs where, and nothing is asked again and again: the tally follows the events, and the
//! server is asked for more only when by the tally nothing runs.

pub(crate) mod crew;
pub(crate) mod progress;
pub(crate) mod summary;
pub(crate) mod tally;
pub(crate) mod verdict;
