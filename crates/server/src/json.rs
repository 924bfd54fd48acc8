//! JSON as it comes in: read once when it is right, explained when it is wrong.
//!
//! Malformed text is 400 `malformed_json`; a wrong type or value is 422 `invalid_field` that names the field. Finding
//! the field's path costs a second pass, so only what failed pays for it.

use std::fmt;

use adjutant_core::rejection::{Rejection, Slug};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// JSON of a client may be nested this deep: what is handed on must be readable for usual parsers, which give up
/// at about 128 levels, a few of which are around it.
const MAX_DEPTH: usize = 100;
/// What the reader of a list says when there are more items than may be.
const TOO_MANY: &str = "too many items";

/// Reads an object, and refuses U+0000 in any string of it: no store and no program argument can carry it.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Rejection> {
    // A sequence would be taken for the fields in their order.
    let value = read(text, b'{', "an object")?;
    refuse_nul(text)?;
    Ok(value)
}

/// The items of a list as they stand in the text; none when there are more than `most`. It is counted while it is
/// read, so that a list of millions of small items does not become many times its size in memory.
pub(crate) fn list(text: &[u8], most: usize) -> Result<Option<Vec<&RawValue>>, Rejection> {
    struct Items {
        most: usize,
    }

    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut read = Vec::new();
            while let Some(item) = items.next_element()? {
                if read.len() == self.most {
                    return Err(serde::de::Error::custom(TOO_MANY));
                }
                read.push(item);
            }
            Ok(read)
        }
    }

    must_begin(text, b'[', "an array")?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let items = reader.deserialize_seq(Items { most });
    match items.and_then(|items| reader.end().map(|()| items)) {
        Ok(items) => Ok(Some(items)),
        Err(error) if error.is_data() && error.to_string().starts_with(TOO_MANY) => Ok(None),
        Err(error) => Err(malformed(&error)),
    }
}

fn read<T: DeserializeOwned>(text: &[u8], opening: u8, shape: &str) -> Result<T, Rejection> {
    must_begin(text, opening, shape)?;
    serde_json::from_slice(text).map_err(|error| explain::<T>(text, &error))
}

fn must_begin(text: &[u8], opening: u8, shape: &str) -> Result<(), Rejection> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&opening) {
        return Ok(());
    }
    Err(match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(_) => Rejection::field("body", format_args!("must be {shape}")),
        Err(error) => malformed(&error),
    })
}

/// Refuses U+0000 in any string of a text that is JSON.
fn refuse_nul(text: &[u8]) -> Result<(), Rejection> {
    if !has_nul_escape(text) {
        return Ok(());
    }
    let place = serde_json::from_slice::<serde_json::Value>(text)
        .ok()
        .and_then(|value| nul_path(&value));
    Err(Rejection::field(
        place.as_deref().unwrap_or("body"),
        "must not contain U+0000",
    ))
}

/// Whether some string has the escape of U+0000. Backslashes occur in strings only, and always with the character
/// that they escape, so no other state is needed. A raw NUL byte is malformed JSON anyway.
fn has_nul_escape(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn nul_path(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;

    fn walk(value: &Value, path: &mut Vec<String>) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().enumerate().any(|(index, item)| {
                path.push(format!("[{index}]"));
                walk(item, path) || path.pop().is_none()
            }),
            Value::Object(fields) => fields.iter().any(|(name, item)| {
                if name.contains('\0') {
                    return true;
                }
                path.push(format!("{}{name}", if path.is_empty() { "" } else { "." }));
                walk(item, path) || path.pop().is_none()
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    let mut path = Vec::new();
    (walk(value, &mut path) && !path.is_empty()).then(|| path.concat())
}

/// Why JSON that is handed on could not be read by those who get it, if so: raw text is passed over when it is taken
/// in, so half a surrogate, a number beyond all numbers or a thousand brackets would first be met by a client.
pub(crate) fn why_unreadable(text: &str) -> Option<String> {
    if is_too_deep(text) {
        return Some(format!("must not be nested deeper than {MAX_DEPTH} levels"));
    }
    let error = serde_json::from_str::<Probe>(text).err()?;
    let words = error.to_string();
    let (what, _) = words.rsplit_once(" at line ").unwrap_or((&words, ""));
    Some(format!("is not readable JSON: {what}"))
}

/// Reads JSON to its leaves and keeps nothing of it.
struct Probe;

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Leaves;

        impl<'de> Visitor<'de> for Leaves {
            type Value = Probe;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_str<E>(self, _: &str) -> Result<Probe, E> {
                Ok(Probe)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Probe, A::Error> {
                while items.next_element::<Probe>()?.is_some() {}
                Ok(Probe)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Probe, A::Error> {
                while fields.next_entry::<Probe, Probe>()?.is_some() {}
                Ok(Probe)
            }
        }

        deserializer.deserialize_any(Leaves)
    }
}

/// Whether valid JSON is nested too deep to be handed on.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn malformed(error: &serde_json::Error) -> Rejection {
    Rejection::new(Slug::MalformedJson, "the body is not valid JSON").with_details(error.to_string())
}

/// Says what is wrong with `text`, which `error` refused as a `T`.
fn explain<T: DeserializeOwned>(text: &[u8], error: &serde_json::Error) -> Rejection {
    // A wrong type may stand before what is malformed: then the whole is malformed.
    if let Err(syntax) = serde_json::from_slice::<IgnoredAny>(text) {
        return malformed(&syntax);
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => (error.path().to_string(), error.into_inner()),
        Ok(_) => return malformed(error),
    };
    let words = error.to_string();
    // The position goes to the details.
    let (what, place) = words.rsplit_once(" at line ").unwrap_or((&words, ""));
    let message = if path == "." {
        what.to_owned()
    } else {
        format!("{path}: {what}")
    };
    let details = if place.is_empty() {
        String::new()
    } else {
        format!("at line {place}")
    };
    Rejection::new(Slug::InvalidField, message).with_details(details)
}

#[cfg(test)]
mod tests {
    use adjutant_wire as wire;

    use super::*;

    fn refusal(text: &str) -> Rejection {
        object::<wire::NewTask>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_malformed_is_told_apart_from_what_is_wrong() {
        for text in [
            "",
            "{",
            "{not json",
            "{\"title\": 7",
            "{} x",
            "{\"title\": \"a\u{1}\"}",
            "]",
        ] {
            assert_eq!(refusal(text).slug, Slug::MalformedJson, "{text}");
        }
        for text in ["[]", "7", "\"x\"", "null", "[\"id\", \"title\"]"] {
            assert_eq!(refusal(text).slug, Slug::InvalidField, "{text}");
        }
    }

    #[test]
    fn the_field_is_named() {
        for (text, field) in [
            ("{}", "title"),
            (r#"{"title": 7}"#, "title"),
            (r#"{"title": "x", "priority": "urgent"}"#, "priority"),
            (r#"{"title": "x", "labels": ["a", 3]}"#, "labels[1]"),
            (r#"{"title": "x", "max_retries": -1}"#, "max_retries"),
            (r#"{"title": "x", "timeout": "soon"}"#, "timeout"),
            (r#"{"title": "x", "not_before": "tomorrow"}"#, "not_before"),
            (r#"{"title": "x", "title": "y"}"#, "title"),
            (
                r#"{"title": "x", "payload": {"a": 1}, "produces": "noise"}"#,
                "produces",
            ),
        ] {
            let rejection = refusal(text);
            assert_eq!(rejection.slug, Slug::InvalidField, "{text}");
            assert!(rejection.message.contains(field), "{text}: {}", rejection.message);
        }
    }

    #[test]
    fn nul_is_refused_wherever_it_stands_and_only_there() {
        for (text, field) in [
            (r#"{"title": "a\u0000b"}"#, "title"),
            (
                r#"{"title": "x", "payload": {"deep": ["ok", "\u0000"]}}"#,
                "payload.deep[1]",
            ),
            (r#"{"title": "x", "payload": "\\\u0000"}"#, "payload"),
            (r#"{"title": "x", "\u0000": 1}"#, "body"),
        ] {
            let rejection = refuse_nul(text.as_bytes()).unwrap_err();
            assert!(
                rejection.message.starts_with(&format!("{field}: ")),
                "{}",
                rejection.message
            );
        }
        for text in [
            r#"{"title": "\\u0000"}"#,
            r#"{"title": "\u0001"}"#,
            r#""\\"#,
            "\\",
        ] {
            assert!(refuse_nul(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!is_too_deep(&format!("{}{}", "[".repeat(100), "]".repeat(100))));
        assert!(is_too_deep(&format!("{}{}", "[".repeat(101), "]".repeat(101))));
        assert!(!is_too_deep(&format!("\"\\\"{}\"", "[".repeat(500))));
        assert!(!is_too_deep(&"[],".repeat(500)));
    }

    #[test]
    fn what_a_reader_could_not_read_again_is_told() {
        for text in [
            "1e999",
            r#"["\ud800"]"#,
            r#"{"\udc00": 1}"#,
            r#"{"a": -1e400}"#,
            r#""\ud83d\ud83d""#,
        ] {
            let why = why_unreadable(text).unwrap();
            assert!(why.starts_with("is not readable JSON: "), "{text}: {why}");
        }
        for text in [
            "null",
            "-0",
            "1e-999",
            "123456789012345678901234567890",
            r#"{"a": 1, "a": [true, "\ud83d\ude00"]}"#,
        ] {
            assert_eq!(why_unreadable(text), None, "{text}");
        }
        assert!(
            why_unreadable(&"[".repeat(101))
                .unwrap()
                .contains("deeper than 100")
        );
    }
}
