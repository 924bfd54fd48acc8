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

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_server_alone_keeps_the_invariants(moves in moves()) {
        Play::alone().run(&moves);
    }

    #[test]
    fn servers_that_share_a_store_keep_the_invariants(moves in moves()) {
        Play::shared(3).run(&moves);
    }
}
