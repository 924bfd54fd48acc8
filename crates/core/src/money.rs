//! Money as whole nano-dollars; cents with decimals on the wire.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-dollars in a cent.
const NANOS_PER_CENT: i64 = 10_000_000;

/// An amount of money in nano-dollars. On the wire decimal cents, so `1.5` is one and a half cents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that is read: ten million dollars. Cents up to a tenth of it are exact in a JSON number; beyond
    /// that the last nano-dollar may be off.
    pub const MAX: Self = Self(10_000_000 * 1_000_000_000);

    /// `nanos` nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in nano-dollars.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The amount that `cents` cents are, rounded to the nearest nano-dollar.
    ///
    /// # Errors
    /// When the amount is negative, not finite or above [`Money::MAX`].
    pub fn from_cents(cents: f64) -> Result<Self, String> {
        let money = Self::from_any_cents(cents)?;
        if money > Self::MAX {
            return Err("must be at most a thousand million cents".into());
        }
        Ok(money)
    }

    /// The same without the bound: sums may exceed what one report may name.
    fn from_any_cents(cents: f64) -> Result<Self, String> {
        if !cents.is_finite() || cents < 0.0 {
            return Err("must not be negative".into());
        }
        #[expect(clippy::cast_precision_loss, reason = "the constant is exact as f64")]
        let nanos = (cents * NANOS_PER_CENT as f64).round();
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
        Ok(Self(nanos as i64))
    }

    /// The amount in cents.
    #[expect(
        clippy::cast_precision_loss,
        reason = "amounts up to Money::MAX keep their seven decimals"
    )]
    pub fn as_cents(self) -> f64 {
        self.0 as f64 / NANOS_PER_CENT as f64
    }

    /// The larger of this amount and nothing.
    #[must_use]
    pub fn or_zero(self) -> Self {
        Self(self.0.max(0))
    }

    /// What `tokens` tokens cost at `self` for a million, rounded up: a wall never rounds in favour of spending.
    #[must_use]
    pub fn per_million(self, tokens: u64) -> Self {
        let exact = (i128::from(self.0) * i128::from(tokens) + 999_999).div_euclid(1_000_000);
        Self(i64::try_from(exact).unwrap_or(i64::MAX))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.as_cents() / 100.0)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}n$", self.0)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % NANOS_PER_CENT == 0 {
            serializer.serialize_i64(self.0 / NANOS_PER_CENT)
        } else {
            serializer.serialize_f64(self.as_cents())
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_any_cents(f64::deserialize(deserializer)?)
            .map_err(|why| serde::de::Error::custom(format!("an amount in cents {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_keep_seven_decimals_both_ways() {
        let cases = [
            ("0", 0),
            ("1", 10_000_000),
            ("1.5", 15_000_000),
            ("1e-7", 1),
            ("123456789.1234567", 1_234_567_891_234_567),
        ];
        for (text, nanos) in cases {
            let money: Money = serde_json::from_str(text).unwrap();
            assert_eq!(money, Money::from_nanos(nanos), "{text}");
            assert_eq!(serde_json::to_string(&money).unwrap(), text);
        }
        assert!(serde_json::from_str::<Money>("-1").is_err());
        assert!(Money::from_cents(1e30).is_err());
        assert_eq!(
            serde_json::from_str::<Money>("2e9").unwrap(),
            Money::from_nanos(20_000_000_000_000_000)
        );
    }

    #[test]
    fn a_price_per_million_is_rounded_up() {
        let price = Money::from_cents(300.0).unwrap();
        assert_eq!(price.per_million(1), Money::from_nanos(3_000));
        assert_eq!(Money::from_nanos(1).per_million(1), Money::from_nanos(1));
        assert_eq!(Money::from_nanos(1).per_million(0), Money::ZERO);
    }
}
