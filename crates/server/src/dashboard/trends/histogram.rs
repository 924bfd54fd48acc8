//! How long things took, in a few numbers.

use adjutant_core::time::Span;

/// Steps of the scale: each is half as large again as the one before, from a millisecond to two days.
const STEPS: usize = 48;
/// How much larger a step is than the one before.
const GROWTH: f64 = 1.5;

/// How many things took how long: told as the upper edge of a step, so at most half too much.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: [u32; STEPS],
    total: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; STEPS],
            total: 0,
        }
    }
}

impl Histogram {
    /// Adds one.
    pub(super) fn add(&mut self, span: Span) {
        let (mut step, mut top) = (0, 1.0);
        let millis = millis(span);
        while millis > top && step + 1 < STEPS {
            top *= GROWTH;
            step += 1;
        }
        self.counts[step] = self.counts[step].saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    /// The time, in milliseconds, within which so many of a hundred were done; none where there were none.
    pub(super) fn percentile(&self, percent: u32) -> Option<f64> {
        let rank = u64::from(self.total) * u64::from(percent);
        let (mut seen, mut top) = (0, 1.0);
        for count in self.counts {
            seen += u64::from(count) * 100;
            if count > 0 && seen >= rank {
                return Some(top);
            }
            top *= GROWTH;
        }
        None
    }
}

fn millis(span: Span) -> f64 {
    let millis = span.as_micros().max(0) / 1_000;
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_about_right() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for millis in 1..=1_000 {
            histogram.add(Span::from_millis(millis));
        }
        for (percent, exact) in [(50, 500.0), (95, 950.0)] {
            let about = histogram.percentile(percent).unwrap();
            assert!(about >= exact && about <= exact * GROWTH, "{percent}: {about}");
        }
        histogram.add(Span::DAY.times(100_000));
        assert!(histogram.percentile(100).is_some_and(f64::is_finite));
    }
}
