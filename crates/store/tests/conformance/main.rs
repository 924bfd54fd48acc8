//! What every store must do, told once and run on each of them.
//!
//! A case is a function on a [`Subject`](subject::Subject): a fresh store that can crash and start again on the same
//! data. [`for_every_store!`] makes a test of each case for each store; a further store is one more line in it, and
//! its subject.
//!
//! Beside the common cases stand those of one store alone: what servers that share rows do to each other
//! ([`sharing`], [`skipping`], [`faults`], and [`servers`] and [`outcomes`] on PostgreSQL), and what the file of the
//! embedded store goes through ([`files`]).

/// Makes a test of each case for each store.
macro_rules! for_every_store {
    ($($case:ident),* $(,)?) => {
        on_store!(memory_alone, MemoryAlone, $($case),*);
        on_store!(memory_shared, MemoryShared, $($case),*);
        on_store!(sqlite, SqliteFile, $($case),*);
        on_store!(postgres, PostgresAlone, $($case),*);
        on_store!(postgres_shared, PostgresShared, $($case),*);
    };
}

/// Makes a test of each case for one store.
macro_rules! on_store {
    ($module:ident, $subject:ident, $($case:ident),*) => {
        mod $module {
            use crate::subject::{$subject, Subject};
            $(
                #[test]
                fn $case() {
                    // Without its server a store cannot be tested: that was said.
                    if let Some(mut subject) = <$subject as Subject>::fresh() {
                        super::$case(&mut subject);
                    }
                }
            )*
        }
    };
}

mod access;
mod agents;
mod archive;
mod attempts;
mod audit;
mod backups;
mod bodies;
mod classes;
mod dependents;
mod due;
mod elsewhere;
mod events;
mod experiences;
mod faults;
mod files;
mod ledger;
mod limits;
mod lists;
mod outcomes;
mod outputs;
mod play;
mod queues;
mod retention;
mod rows;
mod servers;
mod sharing;
mod skipping;
mod story;
mod subject;
mod tasks;
mod turns;
mod upgrade;
mod wanters;
mod webhooks;
mod write;
