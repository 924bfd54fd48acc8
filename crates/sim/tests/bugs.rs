//! The simulator finds what it is there to find: each planted bug, within a bounded number of seeds.

use adjutant_sim::bug::Bug;
use adjutant_sim::run::Script;
use adjutant_sim::shrink::{replay, shrink};

/// How many seeds a bug may go unseen: each takes about 10 ms.
const SEEDS: u64 = 200;
const STEPS: usize = 400;

fn finds(bug: Bug) -> Script {
    (0..SEEDS)
        .map(|seed| Script {
            seed,
            steps: STEPS,
            bug: Some(bug),
        })
        .find(|script| script.run().violation.is_some())
        .unwrap_or_else(|| panic!("{} was not found in {SEEDS} seeds", bug.name()))
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let script = finds(*bug);
        let sound = Script { bug: None, ..script };
        let same_without = sound.run().violation;
        assert_eq!(
            same_without,
            None,
            "seed {} fails without {}",
            script.seed,
            bug.name()
        );
    }
}

#[test]
fn a_seed_always_does_the_same() {
    let script = Script {
        seed: 6,
        steps: STEPS,
        bug: None,
    };
    assert_eq!(script.run(), script.run());
}

#[test]
fn a_failure_is_shrunk_to_fewer_steps_that_still_fail() {
    let script = finds(Bug::FencingIgnored);
    let report = script.run();
    let shrunk = shrink(&script, report, 500);
    assert!(
        shrunk.kept.len() < STEPS / 2,
        "{} steps are left",
        shrunk.kept.len()
    );
    let again = replay(&script, &script.draw(), &shrunk.kept);
    assert_eq!(again, shrunk.report);
    assert!(again.violation.is_some());
}
