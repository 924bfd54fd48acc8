//! What is kept of what is over.

use std::str::FromStr;

use adjutant_core::retention::{LEAST_EVENTS, LEAST_FINISHED, Retention};
use adjutant_core::time::Span;

use super::Configuration;
use crate::arguments::Keeping;
use crate::failure::{Failure, Outcome};

impl Configuration {
    /// What is kept of what is over.
    pub(crate) fn retention(&self, flags: &Keeping) -> Outcome<Retention> {
        let age = |flag: &Option<String>, name: &str, in_file: Option<Span>, least: Span, why: &str| {
            let age = self.parsed(flag.as_ref(), name, None)?.or(in_file);
            match age {
                Some(age) if age < least => {
                    Err(Failure::usage(format!("{name}: must be at least {least}")).hint(why))
                }
                _ => Ok(age),
            }
        };
        let count = |flag: &Option<String>, name: &str, in_file: Option<u64>| {
            let count = self.parsed::<Count>(flag.as_ref(), name, None)?;
            match count.map(|Count(count)| count).or(in_file) {
                Some(0) => Err(Failure::usage(format!("{name}: must be at least 1"))
                    .hint("leave it out to keep all of them")),
                count => Ok(count),
            }
        };
        let file = &self.file;
        Ok(Retention {
            finished_age: age(
                &flags.finished,
                "keep_finished",
                file.keep_finished,
                LEAST_FINISHED,
                "for a day what is over can be reported on and repeated requests are recognised",
            )?,
            finished_count: count(
                &flags.finished_count,
                "keep_finished_count",
                file.keep_finished_count,
            )?,
            event_age: age(
                &flags.events,
                "keep_events",
                file.keep_events,
                LEAST_EVENTS,
                "who follows the events must be able to come back after an interruption",
            )?,
            event_count: count(&flags.events_count, "keep_events_count", file.keep_events_count)?,
        })
    }
}

/// A whole number.
struct Count(u64);

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.replace('_', "");
        digits
            .parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is not a whole number"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::configuration;
    use super::*;

    #[test]
    fn what_is_kept_is_said_by_flags_environment_and_file_and_not_too_little() {
        let file = "keep_finished = '30d'\nkeep_events_count = 1_000\n";
        let one = configuration(file, &[("ADJUTANT_KEEP_EVENTS", "90d")]).unwrap();
        let flags = Keeping {
            finished_count: Some("10_000".into()),
            ..Keeping::default()
        };
        let expected = Retention {
            finished_age: Some(Span::DAY.times(30)),
            finished_count: Some(10_000),
            event_age: Some(Span::DAY.times(90)),
            event_count: Some(1_000),
        };
        assert_eq!(one.retention(&flags).unwrap(), expected);
        let nothing = configuration("", &[]).unwrap();
        assert!(nothing.retention(&Keeping::default()).unwrap().keeps_all());
        for (file, message) in [
            (
                "keep_finished = '24h'",
                "error: keep_finished: must be at least 25h",
            ),
            (
                "keep_finished_count = 0",
                "error: keep_finished_count: must be at least 1",
            ),
            ("keep_events = 60", "error: keep_events: must be at least 1h"),
            (
                "keep_events_count = 0",
                "error: keep_events_count: must be at least 1",
            ),
        ] {
            let failure = configuration(file, &[]).unwrap().retention(&Keeping::default());
            let failure = failure.unwrap_err().to_string();
            assert!(failure.starts_with(message), "{failure}");
        }
        let wrong = Keeping {
            events_count: Some("many".into()),
            ..Keeping::default()
        };
        let failure = nothing.retention(&wrong).unwrap_err().to_string();
        assert!(
            failure.starts_with("error: --keep-events-count: `many` is not a whole number"),
            "{failure}"
        );
    }
}
