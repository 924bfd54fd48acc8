//! Shrinking: the fewest steps of a failing run that still fail.

use crate::run::{Report, Script, run};
use crate::step::Step;

/// A failing run made small.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// Which of the seed's steps are left.
    pub kept: Vec<usize>,
    /// What they violate.
    pub report: Report,
}

/// Leaves out as many steps as possible, larger stretches first, as long as something is still violated.
pub fn shrink(script: &Script, report: Report, most_runs: usize) -> Shrunk {
    let steps = script.draw();
    let mut kept: Vec<usize> = (0..steps.len()).collect();
    if let Some((Some(last), _)) = report.violation {
        kept.truncate(last + 1);
    }
    let mut report = report;
    let mut runs = 0;
    let mut stretch = (kept.len() / 2).max(1);
    loop {
        let mut start = 0;
        let mut helped = false;
        while start < kept.len() && runs < most_runs {
            let mut fewer = kept.clone();
            fewer.drain(start..(start + stretch).min(kept.len()));
            runs += 1;
            let tried = replay(script, &steps, &fewer);
            if tried.violation.is_some() {
                kept = fewer;
                report = tried;
                helped = true;
            } else {
                start += stretch;
            }
        }
        if runs >= most_runs || (stretch == 1 && !helped) {
            return Shrunk { kept, report };
        }
        stretch = (stretch / 2).max(1);
    }
}

/// Runs only these steps of a script.
pub fn replay(script: &Script, steps: &[Step], kept: &[usize]) -> Report {
    let chosen = kept
        .iter()
        .filter_map(|number| Some((*number, *steps.get(*number)?)));
    run(script.setup(), chosen)
}
