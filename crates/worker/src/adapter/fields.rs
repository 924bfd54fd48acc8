//! Fields of events that may be there, may be missing, and may be of another kind than expected.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use serde_json::Value;

/// A text that is not empty.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A number of tokens that the server would take.
pub(super) fn count(value: &Value, name: &str) -> Option<u64> {
    value.get(name)?.as_u64().filter(|count| *count <= Tokens::MAX)
}

/// Whether a flag is set.
pub(super) fn is(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// An amount of dollars, to the nearest nano-dollar.
pub(super) fn dollars(value: &Value, name: &str) -> Option<Money> {
    from_dollars(value.get(name)?.as_f64()?)
}

/// The same of a number: up to nine million dollars a double tells nano-dollars apart.
pub(super) fn from_dollars(dollars: f64) -> Option<Money> {
    Money::from_cents(dollars * 100.0).ok()
}

/// Where a program names what it counts.
pub(super) struct Names {
    /// What is fresh input. All of these are added up.
    pub(super) input: &'static [&'static str],
    /// What came from a cache.
    pub(super) cached: &'static str,
    /// What came out, thinking included. All of these are added up.
    pub(super) output: &'static [&'static str],
    /// Whether what came from a cache is in the input as well.
    pub(super) input_has_cached: bool,
}

impl Names {
    /// The tokens in `usage`; none where it says nothing of input or output.
    pub(super) fn read(&self, usage: &Value) -> Option<Tokens> {
        let sum = |names: &[&str]| {
            let counts = names.iter().filter_map(|name| count(usage, name));
            counts.fold(None, |sum: Option<u64>, count| {
                Some(sum.unwrap_or(0).saturating_add(count))
            })
        };
        let (input, output) = (sum(self.input), sum(self.output));
        if input.is_none() && output.is_none() {
            return None;
        }
        let cached = count(usage, self.cached).unwrap_or(0);
        let input = input.unwrap_or(0);
        Some(Tokens {
            tokens_in: if self.input_has_cached {
                input.saturating_sub(cached)
            } else {
                input
            },
            tokens_out: output.unwrap_or(0),
            tokens_cached: cached,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_of_another_kind_counts_as_missing() {
        let value = json!({"a": -1, "b": 1.5, "c": "7", "d": null, "e": 5_000_000_000_000_u64, "f": 7, "g": "", "h": -0.1});
        for name in ["a", "b", "c", "d", "e", "nope"] {
            assert_eq!(count(&value, name), None, "{name}");
        }
        assert_eq!(count(&value, "f"), Some(7));
        assert_eq!((text(&value, "g"), text(&value, "f")), (None, None));
        assert_eq!((dollars(&value, "h"), dollars(&value, "c")), (None, None));
        assert_eq!(
            dollars(&json!({"x": 0.012_345_678_9}), "x"),
            Some(Money::from_nanos(12_345_679))
        );
    }

    #[test]
    fn cached_input_is_taken_out_where_it_is_in() {
        let names = |input_has_cached| Names {
            input: &["i", "w"],
            cached: "c",
            output: &["o", "t"],
            input_has_cached,
        };
        let usage = json!({"i": 100, "w": 5, "c": 60, "o": 7, "t": 3});
        let read = |has| names(has).read(&usage).unwrap();
        assert_eq!((read(true).tokens_in, read(false).tokens_in), (45, 105));
        assert_eq!((read(true).tokens_out, read(true).tokens_cached), (10, 60));
        assert_eq!(names(true).read(&json!({"c": 60})), None);
        assert_eq!(names(true).read(&json!({"i": 1, "c": 60})).unwrap().tokens_in, 0);
    }
}
