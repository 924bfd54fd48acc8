//! Text for terminals: nothing that others wrote reaches a terminal raw, and all of it fits.

use std::fmt::Write as _;

use adjutant_core::money::Money;
use adjutant_core::time::{Span, Timestamp};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Characters that steer a terminal or turn the direction of text: a title made of them could hide or fake output.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with everything that steers a terminal made visible; lines and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if steers(c) && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    let text: String = text
        .trim()
        .chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
        .collect();
    plain(&text)
}

/// How many columns the text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// The text in at most `width` columns; what does not fit becomes `…`.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        clipped.push(c);
    }
    clipped.push('…');
    clipped
}

/// An id in at most `width` columns: ids that a server makes begin alike, and differ in the end.
pub(crate) fn clip_id(id: &str, width: usize) -> String {
    if id.len() <= width || !id.is_ascii() {
        return clip(id, width);
    }
    let head = width / 3;
    let tail = width.saturating_sub(head + 1);
    format!("{}…{}", &id[..head], &id[id.len() - tail..])
}

/// The line, from 1, that the byte at `offset` is on.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    1 + before.matches('\n').count()
}

/// A number with its thousands set apart.
pub(crate) fn number(n: impl Into<i128>) -> String {
    let n: i128 = n.into();
    let digits = n.unsigned_abs().to_string();
    let mut text = String::from(if n < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The text, or `-` where there is none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// A limit, where 0 is unlimited.
pub(crate) fn limit(n: u64) -> String {
    if n == 0 { "unlimited".to_owned() } else { number(n) }
}

/// What is left, where -1 is unlimited.
pub(crate) fn left(n: i64) -> String {
    if n == -1 {
        "unlimited".to_owned()
    } else {
        number(n)
    }
}

/// Money as dollars.
pub(crate) fn dollars(money: Money) -> String {
    let cents = money.as_cents();
    if cents == 0.0 || cents.abs() >= 1.0 {
        format!("${:.2}", cents / 100.0)
    } else {
        format!("${:.4}", cents / 100.0)
    }
}

/// A time to the second.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace('T', " ")),
        None => text,
    }
}

/// A length of time in the two largest units.
pub(crate) fn length(span: Span) -> String {
    let millis = span.as_micros() / 1_000;
    let seconds = millis / 1_000;
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = match seconds {
        0 => write!(text, "{millis}ms"),
        1..60 => write!(text, "{seconds}.{}s", millis % 1_000 / 100),
        60..3_600 => write!(text, "{}m{:02}s", seconds / 60, seconds % 60),
        _ => write!(text, "{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    };
    text
}

/// A size, in the largest unit of which there is at least one.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let power = (usize::try_from(bytes.ilog2()).unwrap_or(0) / 10).min(UNITS.len());
    // Tenths, rounded down, without a detour over floats.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_steer_the_terminal() {
        assert_eq!(
            one_line("a\u{1b}[2Jb\nc\u{202e}d\u{9b}"),
            "a\u{fffd}[2Jb c\u{fffd}d\u{fffd}"
        );
        assert_eq!(plain("a\r\n\tb"), "a\u{fffd}\n\tb");
    }

    #[test]
    fn clipping_counts_columns_not_characters() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "long…");
        assert_eq!(clip("漢字漢字", 5), "漢字…");
        assert!(columns(&clip("漢字漢字", 4)) <= 4);
    }

    #[test]
    fn long_ids_keep_their_end() {
        assert_eq!(clip_id("task_0190b2a4", 13), "task_0190b2a4");
        assert_eq!(
            clip_id("task_01a227634b7d74f4b41292e8eb46c7ae", 16),
            "task_…e8eb46c7ae"
        );
        assert_eq!(clip_id("漢字漢字漢字", 5), "漢字…");
        for width in 0..10 {
            assert!(
                columns(&clip_id("abcdefghijkl", width)) <= width.max(1),
                "{width}"
            );
        }
    }

    #[test]
    fn sizes_read_well() {
        for (size, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_589_999, "1.5 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn numbers_money_and_lengths_read_well() {
        assert_eq!(number(1_234_567_u64), "1,234,567");
        assert_eq!(number(-12_i64), "-12");
        assert_eq!(dollars(Money::from_cents(150.0).unwrap()), "$1.50");
        assert_eq!(dollars(Money::from_cents(0.25).unwrap()), "$0.0025");
        assert_eq!(length(Span::from_millis(250)), "250ms");
        assert_eq!(length(Span::from_millis(12_340)), "12.3s");
        assert_eq!(length(Span::from_secs(3_725)), "1h02m");
        assert_eq!(
            time("2026-11-24T18:30:00Z".parse().unwrap()),
            "2026-11-24 18:30:00Z"
        );
    }
}
