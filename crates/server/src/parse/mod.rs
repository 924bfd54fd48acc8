//! Parsing: wire types become commands, and what is not well-formed is refused by the name of its field.
//!
//! Only shapes are checked here: lengths, characters, ranges, counts. Whether something exists, or may be done as
//! things stand, is the core's to say.

pub(crate) mod agent;
pub(crate) mod completion;
pub(crate) mod limit;
pub(crate) mod task;
pub(crate) mod usage;

use std::fmt::Display;

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use adjutant_core::name::{check_id, check_name};
use adjutant_core::rejection::Rejection;
use adjutant_wire::RawJson;

use crate::json::why_unreadable;

/// The most bytes of a description or a payload.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;
/// The most characters of a path, an artifact's name or another text of one line.
const MAX_LINE_CHARS: usize = 4_096;

/// An id: of a task or an agent.
pub(crate) fn id<T: for<'a> From<&'a str>>(field: impl Display, text: &str) -> Result<T, Rejection> {
    check_id(text).map_err(|why| Rejection::field(&field.to_string(), why))?;
    Ok(text.into())
}

/// An id that may be absent. An empty one is absent: programs write that for what they do not know.
pub(crate) fn optional_id<T: for<'a> From<&'a str>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Rejection> {
    text.filter(|text| !text.is_empty())
        .map(|text| id(field, text))
        .transpose()
}

/// A name: of a label, a model, a project, a lock.
pub(crate) fn name<T: for<'a> From<&'a str>>(field: impl Display, text: &str) -> Result<T, Rejection> {
    check_name(text).map_err(|why| Rejection::field(&field.to_string(), why))?;
    Ok(text.into())
}

/// A name that may be absent; an empty one is.
pub(crate) fn optional_name<T: for<'a> From<&'a str>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Rejection> {
    text.filter(|text| !text.is_empty())
        .map(|text| name(field, text))
        .transpose()
}

/// A repository: `owner/name`.
pub(crate) fn repo<T: for<'a> From<&'a str>>(field: &str, text: &str) -> Result<T, Rejection> {
    match text.split_once('/') {
        Some((owner, own)) if !owner.is_empty() && !own.is_empty() && !own.contains('/') => name(field, text),
        _ => Err(Rejection::field(field, "must be written owner/name")),
    }
}

/// Names without repetition, in the order given: they are sets.
pub(crate) fn names<T>(field: &str, texts: &[String], most: usize) -> Result<Vec<T>, Rejection>
where
    T: for<'a> From<&'a str> + PartialEq,
{
    at_most(field, texts.len(), most)?;
    let mut names: Vec<T> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let name = name(format_args!("{field}[{index}]"), text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Texts of one line each, as they are.
pub(crate) fn lines(field: &str, texts: Vec<String>, most: usize) -> Result<Vec<String>, Rejection> {
    at_most(field, texts.len(), most)?;
    for (index, text) in texts.iter().enumerate() {
        chars(format_args!("{field}[{index}]"), text, MAX_LINE_CHARS)?;
    }
    Ok(texts)
}

/// Refuses a list that is too long.
pub(crate) fn at_most(field: &str, count: usize, most: usize) -> Result<(), Rejection> {
    if count > most {
        return Err(Rejection::field(
            field,
            format_args!("must have at most {most} items"),
        ));
    }
    Ok(())
}

/// Refuses a text with too many characters.
pub(crate) fn chars(field: impl Display, text: &str, most: usize) -> Result<(), Rejection> {
    // The bytes are counted first: that decides for nearly all texts.
    if text.len() > most && text.chars().count() > most {
        return Err(Rejection::field(
            &field.to_string(),
            format_args!("must have at most {most} characters"),
        ));
    }
    Ok(())
}

/// Refuses a text with too many bytes.
pub(crate) fn bytes(field: &str, text: &str, most: usize) -> Result<(), Rejection> {
    if text.len() > most {
        return Err(Rejection::field(
            field,
            format_args!("must have at most {most} bytes"),
        ));
    }
    Ok(())
}

/// JSON that is handed on untouched, as text.
pub(crate) fn raw_json(
    field: &str,
    value: Option<RawJson>,
    most: usize,
) -> Result<Option<Box<str>>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let text: Box<str> = value.into();
    bytes(field, &text, most)?;
    if let Some(why) = why_unreadable(&text) {
        return Err(Rejection::field(field, why));
    }
    Ok(Some(text))
}

/// A number of tokens, or of anything else that is counted.
pub(crate) fn count(field: impl Display, count: u64) -> Result<u64, Rejection> {
    if count > Tokens::MAX {
        return Err(Rejection::field(
            &field.to_string(),
            format_args!("must be at most {}", Tokens::MAX),
        ));
    }
    Ok(count)
}

/// An amount of money that one request names.
pub(crate) fn money(field: &str, money: Money) -> Result<Money, Rejection> {
    if money > Money::MAX {
        return Err(Rejection::field(
            field,
            "must be at most a thousand million cents",
        ));
    }
    Ok(money)
}

/// A name in a body that the path gives already: it may be left out, and must not contradict.
pub(crate) fn same_as_path(field: &str, body: &str, path: &str) -> Result<(), Rejection> {
    if body.is_empty() || body == path {
        return Ok(());
    }
    Err(Rejection::field(
        field,
        format_args!("must be `{path}` as in the path, or be left out"),
    ))
}

/// Puts the place of an item before the field that is wrong with it.
pub(crate) fn in_item(list: &str, index: usize, mut rejection: Rejection) -> Rejection {
    rejection.message = format!("{list}[{index}].{}", rejection.message);
    rejection
}

#[cfg(test)]
mod tests {
    use adjutant_core::name::{Label, RepoName};

    use super::*;

    #[test]
    fn names_are_sets_and_their_places_are_told() {
        let texts = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let labels: Vec<Label> = names("labels", &texts(&["b", "a", "b"]), 9).unwrap();
        assert_eq!(labels, ["b".into(), "a".into()]);
        let refused = names::<Label>("labels", &texts(&["a", ""]), 9).unwrap_err();
        assert!(refused.message.starts_with("labels[1]: "), "{}", refused.message);
        assert!(names::<Label>("labels", &texts(&["a", "b"]), 1).is_err());
    }

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        assert!(repo::<RepoName>("repo", "o/n").is_ok());
        for wrong in ["", "o", "/n", "o/", "o/n/x"] {
            assert!(repo::<RepoName>("repo", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn characters_are_not_bytes() {
        assert!(chars("title", &"ä".repeat(500), 500).is_ok());
        assert!(chars("title", &"ä".repeat(501), 500).is_err());
        assert!(bytes("description", "ä", 1).is_err());
    }

    #[test]
    fn json_that_is_handed_on_is_bounded() {
        let raw = |text: String| {
            Some(RawJson::from(
                serde_json::value::RawValue::from_string(text).unwrap(),
            ))
        };
        assert_eq!(
            raw_json("payload", raw("[1, 2]".into()), 6).unwrap().as_deref(),
            Some("[1, 2]")
        );
        assert!(raw_json("payload", raw("[1, 2]".into()), 5).is_err());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for unreadable in [deep, "1e999".into(), r#"["\ud800"]"#.into()] {
            let refused = raw_json("payload", raw(unreadable), 1_000).unwrap_err();
            assert!(refused.message.starts_with("payload: "), "{}", refused.message);
        }
    }
}
