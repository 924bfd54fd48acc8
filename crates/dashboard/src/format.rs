//! Numbers, times and money as people read them.

use adjutant_core::money::Money;
use adjutant_core::time::{Span, Timestamp};

/// `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `950`, `12.3 k`, `4.5 M`: for places where the exact number does not matter.
pub(crate) fn rough(number: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    for (size, unit) in STEPS {
        if number >= size {
            let (whole, tenth) = (number / size, number % size * 10 / size);
            return if whole >= 100 || tenth == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenth} {unit}")
            };
        }
    }
    number.to_string()
}

/// Tokens, which may be less than nothing where more was refunded than used.
pub(crate) fn signed(number: i64) -> String {
    let sign = if number < 0 { "−" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// `$1,234.50`, and four digits behind the point below a dollar.
pub(crate) fn dollars(money: Money) -> String {
    let nanos = money.as_nanos().unsigned_abs();
    let sign = if money.as_nanos() < 0 { "−" } else { "" };
    let whole = nanos / 1_000_000_000;
    if whole == 0 && nanos > 0 {
        let parts = (nanos + 50_000) / 100_000;
        return format!("{sign}${}.{:04}", parts / 10_000, parts % 10_000);
    }
    let cents = (nanos + 5_000_000) / 10_000_000;
    format!("{sign}${}.{:02}", count(cents / 100), cents % 100)
}

/// `850 ms`, `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn duration(span: Span) -> String {
    let micros = span.as_micros().max(0);
    let seconds = micros / 1_000_000;
    let two = |large: i64, unit: &str, small: i64, of: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {of}")
        }
    };
    match seconds {
        0 => format!("{} ms", micros / 1_000),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// `2026-11-24 18:30:05`, in UTC.
pub(crate) fn clock(time: Timestamp) -> String {
    let text = time.to_string();
    format!(
        "{} {}",
        text.get(..10).unwrap_or(&text),
        text.get(11..19).unwrap_or("")
    )
}

/// `18:30`, in UTC.
pub(crate) fn minute(time: Timestamp) -> String {
    time.to_string().get(11..16).unwrap_or("").to_owned()
}

/// `2026-11-24`, in UTC.
pub(crate) fn day(time: Timestamp) -> String {
    time.to_string().get(..10).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_units() {
        for (number, exact, about) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1,000", "1 k"),
            (12_345, "12,345", "12.3 k"),
            (1_234_567, "1,234,567", "1.2 M"),
            (250_400_000, "250,400,000", "250 M"),
        ] {
            assert_eq!((count(number).as_str(), rough(number).as_str()), (exact, about));
        }
        assert_eq!(signed(-1_500), "−1,500");
    }

    #[test]
    fn money_is_shown_in_dollars() {
        for (nanos, text) in [
            (0, "$0.00"),
            (4_500_000, "$0.0045"),
            (999_990_000, "$1.0000"),
            (1_234_567_000_000, "$1,234.57"),
            (-1_500_000_000, "−$1.50"),
        ] {
            assert_eq!(dollars(Money::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn times_are_as_short_as_they_may_be() {
        for (millis, text) in [
            (850, "850 ms"),
            (12_000, "12 s"),
            (240_000, "4 min"),
            (12_000_000, "3 h 20 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(duration(Span::from_millis(millis)), text);
        }
        let time: Timestamp = "2026-11-24T18:30:05Z".parse().unwrap();
        assert_eq!(
            (clock(time).as_str(), minute(time).as_str()),
            ("2026-11-24 18:30:05", "18:30")
        );
    }
}
