//! Points and spans of time, as numbers that the core can compare, store and print.
//!
//! The core never reads a clock: a [`Timestamp`] always comes in from outside.
//!
//! # Not here
//! Which clock is read, and what happens when it jumps: the engine.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// A point in time: microseconds since 1970-01-01T00:00:00Z. On the wire RFC 3339 in UTC with microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of 1970.
    pub const EPOCH: Self = Self(0);
    /// A time after every deadline.
    pub const NEVER: Self = Self(i64::MAX);
    /// The last time that can be written with a four-digit year.
    const LAST_PRINTABLE: i64 = 253_402_300_799_999_999;

    /// The time `micros` microseconds after the start of 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0))
    }

    /// The start of the UTC hour that this time lies in.
    #[must_use]
    pub fn hour(self) -> Self {
        Self(self.0 - self.0.rem_euclid(Span::HOUR.0))
    }

    /// The start of the UTC day that this time lies in.
    #[must_use]
    pub fn day(self) -> Self {
        Self(self.0 - self.0.rem_euclid(Span::DAY.0))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = self.0.clamp(0, Self::LAST_PRINTABLE);
        match jiff::Timestamp::from_microsecond(printable) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            f.write_str("never")
        } else {
            fmt::Display::fmt(self, f)
        }
    }
}

impl FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_| format!("`{text}` is not a time: write RFC 3339, such as 2026-11-24T18:30:00Z"))?;
        if time.as_microsecond() < 0 {
            return Err(format!("`{text}` lies before 1970"));
        }
        Ok(Self(time.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A length of time in microseconds, never negative. On the wire whole seconds; read also as `"90s"`, `"30m"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// One UTC hour.
    pub const HOUR: Self = Self(3_600 * MICROS_PER_SECOND);
    /// One UTC day.
    pub const DAY: Self = Self(86_400 * MICROS_PER_SECOND);
    /// The longest span that is read: a hundred years.
    pub const MAX_SECONDS: u64 = 100 * 366 * 86_400;

    /// `seconds` seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as i64 * MICROS_PER_SECOND)
    }

    /// `millis` milliseconds.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis as i64 * 1_000)
    }

    /// `micros` microseconds; zero when negative.
    pub const fn from_micros(micros: i64) -> Self {
        Self(if micros < 0 { 0 } else { micros })
    }

    /// The length in microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The length in whole seconds, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0 / MICROS_PER_SECOND
    }

    /// The length in whole seconds, rounded up: what a `Retry-After` header needs.
    pub const fn as_secs_ceil(self) -> i64 {
        (self.0 + MICROS_PER_SECOND - 1) / MICROS_PER_SECOND
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This span, `factor` times.
    #[must_use]
    pub const fn times(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// The `divisor`-th part of this span.
    #[must_use]
    pub const fn part(self, divisor: i64) -> Self {
        Self(self.0 / divisor)
    }

    /// Up to a tenth of this span, from the bytes of names alone: the same history always gives the same times, and what
    /// began together does not end together.
    #[must_use]
    pub fn jitter(self, names: impl Iterator<Item = u8>) -> Self {
        // FNV-1a: short, stable over versions of the program, and spread well enough for this.
        let hash = names.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let thousandths = i64::try_from((hash >> 32) % 101).unwrap_or(0);
        self.part(1_000).times(thousandths)
    }

    fn from_whole_secs(seconds: u64, said: impl fmt::Display) -> Result<Self, String> {
        if seconds > Self::MAX_SECONDS {
            return Err(format!("`{said}` is longer than a hundred years"));
        }
        i64::try_from(seconds)
            .map(|seconds| Self(seconds * MICROS_PER_SECOND))
            .map_err(|_| format!("`{said}` is longer than a hundred years"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs();
        match seconds {
            s if s >= 86_400 && s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s >= 3_600 && s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            s if s >= 60 && s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µs", self.0)
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a duration: write seconds, or a number with s, m, h or d, such as 90s")
        };
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let seconds = number
            .checked_mul(factor)
            .ok_or_else(|| format!("`{text}` is longer than a hundred years"))?;
        Self::from_whole_secs(seconds, text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.as_secs())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration: whole seconds, or a string such as \"90s\", \"30m\", \"2h\"")
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Span, E> {
                Span::from_whole_secs(seconds, seconds).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Span, E> {
                let seconds =
                    u64::try_from(seconds).map_err(|_| E::custom("a duration is never negative"))?;
                Span::from_whole_secs(seconds, seconds).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_with_microseconds() {
        let time: Timestamp = "2026-11-24T19:30:00.5+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-24T18:30:00.500000Z");
        assert_eq!(time.hour().to_string(), "2026-11-24T18:00:00.000000Z");
        assert_eq!(time.day().to_string(), "2026-11-24T00:00:00.000000Z");
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn durations_are_read_with_units_and_bounded() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("30m", 1_800),
            ("2h", 7_200),
            ("1d", 86_400),
            ("0s", 0),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().as_secs(), seconds, "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5h",
            "10w",
            "99999999999999999999",
            "9999999999999h",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!(Span::from_secs(7_200).to_string(), "2h");
        assert_eq!(Span::from_millis(1).as_secs_ceil(), 1);
    }
}
