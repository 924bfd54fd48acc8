//! Random sequences of what may happen, on one server and on three that share a store: I1–I10 hold after every
//! transaction, and in the end every task comes to its end (I11).

use adjutant_sim::run::run;
use adjutant_sim::step::Step;
use adjutant_sim::world::Setup;
use fastrand::Rng;
use proptest::prelude::*;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<u64>(), 1..250).prop_map(|seeds| {
        seeds
            .into_iter()
            .map(|seed| Step::draw(&mut Rng::with_seed(seed)))
            .collect()
    })
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

fn keeps_the_invariants(servers: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let setup = Setup { servers, bug: None };
    let report = run(setup, steps.into_iter().enumerate());
    match report.violation {
        None => Ok(()),
        Some((step, what)) => Err(TestCaseError::fail(format!("step {step:?}: {what}"))),
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn one_server_alone_keeps_the_invariants(steps in steps()) {
        keeps_the_invariants(1, steps)?;
    }

    #[test]
    fn servers_that_share_a_store_keep_the_invariants(steps in steps()) {
        keeps_the_invariants(3, steps)?;
    }
}
