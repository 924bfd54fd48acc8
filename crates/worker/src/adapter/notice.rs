//! Notices of rate limits in words: for how long a provider takes no more requests, where an error message says so.
//!
//! `Rate limit reached … Please try again in 1m30.5s` · `You've hit your usage limit. Try again in 2 hours 5 minutes.` ·
//! `Your quota will reset after 18h31m10s.` Only what speaks of a limit is looked at, and only a time that stands there
//! is taken.

use std::time::Duration;

/// What a message about a limit has in it, in lower case.
const LIMIT_WORDS: &[&str] = &[
    "rate limit",
    "rate_limit",
    "ratelimit",
    "usage limit",
    "quota",
    "resource_exhausted",
    "too many requests",
    "429",
];

/// What stands before the time, in lower case.
const BEFORE_TIME: &[&str] = &[
    "try again in",
    "retry in",
    "retry after",
    "retry-after:",
    "reset after",
    "resets after",
    "reset in",
    "resets in",
    "available again in",
];

/// Longer waits are told by a date, if at all.
const MAX_WAIT: Duration = Duration::from_hours(31 * 24);

/// How long a message says that is to be waited, if it is about a limit.
pub(crate) fn wait_in(message: &str) -> Option<Duration> {
    let message = message.to_lowercase();
    if !LIMIT_WORDS.iter().any(|words| message.contains(words)) {
        return None;
    }
    BEFORE_TIME.iter().find_map(|before| {
        let at = message.find(before)? + before.len();
        length(&message[at..])
    })
}

/// The length of time at the start of a text: `1h 2m`, `2 hours and 5 minutes`, `1.5s`, or a bare number of seconds.
fn length(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum: Option<f64> = None;
    loop {
        rest = rest.trim_start_matches([' ', ',', '~', ':']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = rest[..digits].trim_end_matches('.');
        let Ok(number) = number.parse::<f64>() else { break };
        let unit_and_more = rest[digits..].trim_start();
        let letters = unit_and_more
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(unit_and_more.len());
        let (unit, after) = unit_and_more.split_at(letters);
        let seconds = match unit {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            // A bare number, as in a header.
            "" if sum.is_none() => {
                sum = Some(number);
                break;
            }
            _ => break,
        };
        sum = Some(sum.unwrap_or(0.0) + number * seconds);
        rest = after;
    }
    let wait = Duration::try_from_secs_f64(sum?).ok()?;
    (wait > Duration::ZERO && wait <= MAX_WAIT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_where_a_message_about_a_limit_states_one() {
        for (message, millis) in [
            (
                "Rate limit reached for gpt-5. Please try again in 1.898s. Visit …",
                1_898,
            ),
            (
                "You've hit your usage limit. Try again in 3 hours 20 minutes.",
                12_000_000,
            ),
            (
                "usage limit: try again in 2 days, 1 hour and 5 minutes",
                176_700_000,
            ),
            ("429: Your quota will reset after 18h31m10s.", 66_670_000),
            ("HTTP 429, Retry-After: 30", 30_000),
            ("Too Many Requests, please retry in 250ms", 250),
        ] {
            assert_eq!(wait_in(message), Some(Duration::from_millis(millis)), "{message}");
        }
        for message in [
            "connection lost, try again in 5 minutes",
            "rate limit reached",
            "rate limit reached, try again in a while",
            "rate limit reached, try again at 5:00 PM",
            "rate limit reached, try again in 0s",
            "rate limit reached, try again in 99999999999999999999 days",
            "",
        ] {
            assert_eq!(wait_in(message), None, "{message}");
        }
    }
}
