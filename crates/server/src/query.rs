//! The query of a URL, read strictly: what cannot be decoded is refused with the parameter's name.

use std::str::FromStr;

use adjutant_core::rejection::Rejection;

/// The parameters of a query, decoded, in the order given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads what stands behind the question mark.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Rejection> {
        let mut params = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| {
                Rejection::field(name, "the parameter's name is not valid percent-encoding")
            })?;
            let value = decode(value)
                .ok_or_else(|| Rejection::field(&name, "is not valid percent-encoding of UTF-8 text"))?;
            if value.contains('\0') {
                return Err(Rejection::field(&name, "must not contain U+0000"));
            }
            params.push((name, value));
        }
        Ok(Self(params))
    }

    /// The last value of a parameter. An empty one counts as absent: forms send what was not filled in like that.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The items of a list that is separated by commas, over all values of the parameter.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(own, _)| own == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect()
    }

    /// A number within bounds.
    pub(crate) fn number<T>(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, Rejection>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .map(Some)
            .ok_or_else(|| {
                let (low, high) = (bounds.start(), bounds.end());
                Rejection::field(name, format_args!("must be a whole number from {low} to {high}"))
            })
    }

    /// Whether a switch is on.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Rejection> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Rejection::field(name, "must be true or false")),
        }
    }

    /// One of the named values of an enumeration.
    pub(crate) fn choice<T: Copy>(
        &self,
        parameter: &str,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<Option<T>, Rejection> {
        let Some(text) = self.get(parameter) else {
            return Ok(None);
        };
        all.iter()
            .copied()
            .find(|value| name(*value) == text)
            .map(Some)
            .ok_or_else(|| {
                let names: Vec<_> = all.iter().map(|value| name(*value)).collect();
                Rejection::field(parameter, format_args!("must be one of {}", names.join(", ")))
            })
    }
}

/// Decodes `+` and `%XX`; none when that is not UTF-8 text.
fn decode(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(Some(query)).unwrap()
    }

    #[test]
    fn values_are_decoded_and_empty_ones_are_absent() {
        let params = params("status=pending&project=a%20b+c&claimed_by=&status=failed&x");
        assert_eq!(params.get("status"), Some("failed"));
        assert_eq!(params.get("project"), Some("a b c"));
        assert_eq!(params.get("claimed_by"), None);
        assert_eq!(params.get("x"), None);
    }

    #[test]
    fn lists_are_separated_by_commas_or_repeated() {
        assert_eq!(params("labels=a,b&labels=%2Cc,").list("labels"), ["a", "b", "c"]);
        assert!(params("").list("labels").is_empty());
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_by_name() {
        for query in ["limit=%zz", "limit=%f", "limit=%ff", "limit=a%00"] {
            let rejection = Params::parse(Some(query)).unwrap_err();
            assert!(
                rejection.message.contains("limit"),
                "{query}: {}",
                rejection.message
            );
        }
    }

    #[test]
    fn numbers_flags_and_choices_name_their_parameter() {
        for query in ["limit=0", "limit=-1", "limit=1001", "limit=ten", "limit=1.5"] {
            let rejection = params(query).number("limit", 1..=1_000_usize).unwrap_err();
            assert!(rejection.message.contains("limit"), "{query}");
        }
        assert_eq!(
            params("limit=1000").number("limit", 1..=1_000_usize),
            Ok(Some(1_000))
        );
        assert!(params("cascade=true").flag("cascade").unwrap());
        assert!(params("cascade=maybe").flag("cascade").is_err());
        let choice = |query| params(query).choice("on", &[true, false], |on| if on { "yes" } else { "no" });
        assert_eq!(choice("on=no"), Ok(Some(false)));
        assert!(choice("on=never").unwrap_err().message.contains("yes, no"));
    }
}
