//! Random commands on one to three servers that share a store in memory, with turns that overlap and servers that
//! crash between load and commit: the invariants hold after every commit, and in the end nothing that could start
//! waits.

mod invariants;
mod play;

use proptest::prelude::*;

use play::{Move, Play};

fn moves() -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec(play::any_move(), 1..120)
}

/// Set `PROPTEST_CASES` for a longer run.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(cases);
    ProptestConfig {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn one_server_alone_keeps_the_invariants(moves in moves()) {
        Play::alone().run(&moves);
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn servers_that_share_a_store_keep_the_invariants(moves in moves()) {
        Play::shared(3).run(&moves);
    }
}
