//! Figures: what was measured, printed as it comes or as one JSON object at the end.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// All figures of a run.
pub(crate) struct Figures {
    json: bool,
    all: Map<String, Value>,
}

impl Figures {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            all: Map::new(),
        }
    }

    /// Takes a figure and prints it, unless all of them are to be printed as JSON.
    pub(crate) fn put(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        let name = name.into();
        if !self.json {
            let digits = if value.abs() < 100.0 { 2 } else { 0 };
            println!("{name:<44} {value:>12.digits$} {unit}");
        }
        self.all.insert(name, json!({ "value": value, "unit": unit }));
    }

    /// Takes the median and the 99th percentile of durations.
    pub(crate) fn put_times(&mut self, name: &str, times: &mut Times) {
        self.put(format!("{name}.p50"), times.percentile(50), "ms");
        self.put(format!("{name}.p99"), times.percentile(99), "ms");
    }

    /// Ends the run.
    pub(crate) fn finish(self) {
        if self.json {
            println!("{:#}", Value::Object(self.all));
        }
    }
}

/// A collection of durations.
#[derive(Debug, Default)]
pub(crate) struct Times {
    nanos: Vec<u64>,
}

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.nanos
            .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.nanos.append(&mut other.nanos);
    }

    pub(crate) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The time that so many percent of all do not exceed, in milliseconds.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        if self.nanos.is_empty() {
            return f64::NAN;
        }
        self.nanos.sort_unstable();
        let index = (self.nanos.len() * percent).div_ceil(100).saturating_sub(1);
        Duration::from_nanos(self.nanos[index]).as_secs_f64() * 1_000.0
    }
}

/// A count as a figure.
pub(crate) fn count(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut times = Times::default();
        assert!(times.percentile(50).is_nan());
        for millis in (1..=100).rev() {
            times.push(Duration::from_millis(millis));
        }
        assert!((times.percentile(50) - 50.0).abs() < 1e-9);
        assert!((times.percentile(99) - 99.0).abs() < 1e-9);
        assert_eq!(times.len(), 100);
    }
}
