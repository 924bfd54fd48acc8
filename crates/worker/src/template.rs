//! The command of a worker with placeholders, and what becomes of it for a task.
//!
//! A placeholder is `{name}` in an argument, where the name begins with a letter: `{title}`, `{description}`,
//! `{id}`, `{payload}` (all of it, as JSON) and `{payload.a.b}` (a part of it: text as it is, everything else as
//! JSON; list items by number). `{{name}}` stands for the text `{name}`, and `${name}` is left to the shell. Any
//! other brace is just a brace, so `{"a":1}` and `stash@{0}` need no care. The program itself has no placeholders:
//! a task never says what is run.
//!
//! # Invariants
//! - One argument stays one argument, and a value is never searched for placeholders again.
//! - No value makes an argument an option: one that would begin with `-` is refused, unless it stands after `--`.

use adjutant_wire::Task;
use serde_json::Value;

/// Longer values do not belong on a command line: Linux takes 128 KiB for one argument.
pub(crate) const MAX_VALUE_BYTES: usize = 100 * 1024;

/// A command with placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    program: String,
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug)]
struct Argument {
    pieces: Vec<Piece>,
    /// Whether a literal `--` stands before it.
    after_dashes: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    Placeholder(String),
}

impl Template {
    /// Reads a program and its arguments.
    pub(crate) fn parse(program: &str, arguments: &[String]) -> Self {
        let mut after_dashes = false;
        let arguments = arguments
            .iter()
            .map(|text| {
                let argument = Argument {
                    pieces: parse(text),
                    after_dashes,
                };
                after_dashes |= text == "--";
                argument
            })
            .collect();
        Self {
            program: program.to_owned(),
            arguments,
        }
    }

    /// The program that is run.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Whether there is any placeholder.
    pub(crate) fn has_placeholders(&self) -> bool {
        let mut pieces = self.arguments.iter().flat_map(|argument| &argument.pieces);
        pieces.any(|piece| matches!(piece, Piece::Placeholder(_)))
    }

    /// Placeholders that no task can fill.
    pub(crate) fn unknown(&self) -> Vec<&str> {
        self.arguments
            .iter()
            .flat_map(|argument| &argument.pieces)
            .filter_map(|piece| match piece {
                Piece::Placeholder(name) if !is_known(name) => Some(name.as_str()),
                Piece::Placeholder(_) | Piece::Literal(_) => None,
            })
            .collect()
    }

    /// The arguments for this task.
    ///
    /// # Errors
    /// Why they cannot be made, for people.
    pub(crate) fn expand(&self, task: &Task) -> Result<Vec<String>, String> {
        let values = Values::of(task);
        self.arguments
            .iter()
            .map(|argument| argument.expand(&values))
            .collect()
    }
}

impl Argument {
    fn expand(&self, values: &Values<'_>) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Placeholder(name) => text.push_str(&values.get(name)?),
            }
        }
        match self.pieces.first() {
            Some(Piece::Placeholder(name)) if text.starts_with('-') && !self.after_dashes => Err(format!(
                "the value of {{{name}}} would make an argument that begins with `-`, which the command could take \
                 for an option: put `--` before it, or let the command read the task from stdin"
            )),
            _ => Ok(text),
        }
    }
}

/// What a task has for placeholders.
struct Values<'a> {
    task: &'a Task,
    payload: Option<Value>,
}

impl<'a> Values<'a> {
    fn of(task: &'a Task) -> Self {
        let payload = task
            .payload
            .as_ref()
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self { task, payload }
    }

    fn get(&self, name: &str) -> Result<String, String> {
        let value = match name {
            "title" => self.task.title.clone(),
            "description" => self.task.description.clone(),
            "id" => self.task.id.clone(),
            _ => self.part_of_payload(name)?,
        };
        if value.contains('\0') {
            return Err(format!(
                "the value of {{{name}}} contains NUL, which no argument can"
            ));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!(
                "the value of {{{name}}} has {} bytes, more than the {MAX_VALUE_BYTES} that fit on a command line: \
                 use stdin, where the command gets the whole task as JSON",
                value.len()
            ));
        }
        Ok(value)
    }

    fn part_of_payload(&self, name: &str) -> Result<String, String> {
        if !is_known(name) {
            return Err(format!(
                "unknown placeholder {{{name}}}: there are {{title}}, {{description}}, {{id}} and {{payload.x}}; \
                 write {{{{{name}}}}} where the braces are meant as they are"
            ));
        }
        let missing = || format!("the payload of this task has nothing for the placeholder {{{name}}}");
        let mut value = self.payload.as_ref().ok_or_else(missing)?;
        for key in name.split('.').skip(1) {
            value = match value {
                Value::Object(fields) => fields.get(key),
                Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            }
            .ok_or_else(missing)?;
        }
        Ok(match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

fn is_known(name: &str) -> bool {
    matches!(name, "title" | "description" | "id" | "payload")
        || name
            .strip_prefix("payload.")
            .is_some_and(|path| path.split('.').all(|key| !key.is_empty()))
}

fn parse(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((name, after)) = rest.strip_prefix("{{").and_then(|inner| name(inner, "}}")) {
            literal.push('{');
            literal.push_str(name);
            literal.push('}');
            rest = after;
        } else if literal.ends_with('$') {
            literal.push('{');
            rest = &rest[1..];
        } else if let Some((name, after)) = name(&rest[1..], "}") {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Placeholder(name.to_owned()));
            rest = after;
        } else {
            literal.push('{');
            rest = &rest[1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    pieces
}

/// The name at the start of `text` that `end` follows, and what comes after that.
fn name<'a>(text: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    let length = text
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
        .count();
    let (name, after) = text.split_at(length);
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins_well
        .then(|| after.strip_prefix(end))
        .flatten()
        .map(|after| (name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(title: &str, payload: &str) -> Task {
        let json = serde_json::json!({
            "id": "task_1", "title": title, "description": "two\nlines", "status": "in_progress",
            "payload": serde_json::from_str::<Value>(payload).unwrap(),
        });
        serde_json::from_str(&json.to_string()).unwrap()
    }

    fn expand(arguments: &[&str], task: &Task) -> Result<Vec<String>, String> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        Template::parse("x", &arguments).expand(task)
    }

    const PAYLOAD: &str = r#"{"s":"text","n":1.50,"o":{"k":[true,{"d":null}]},"dash-ed":"-v"}"#;

    #[test]
    fn placeholders_are_replaced_and_other_braces_are_not() {
        let task = task("A {id} title; $(rm) 'x'", PAYLOAD);
        for (argument, expanded) in [
            ("plain", "plain"),
            ("{title}", "A {id} title; $(rm) 'x'"),
            ("--title={title}", "--title=A {id} title; $(rm) 'x'"),
            ("{description}", "two\nlines"),
            ("<{id}|{id}>", "<task_1|task_1>"),
            ("{payload.s}", "text"),
            ("{payload.n}", "1.5"),
            ("{payload.o.k}", r#"[true,{"d":null}]"#),
            ("{payload.o.k.1.d}", "null"),
            ("{payload.o}", r#"{"k":[true,{"d":null}]}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":{"b":"{id}"}}"#, r#"{"a":{"b":"task_1"}}"#),
            ("{{title}}", "{title}"),
            ("${title} ${x}", "${title} ${x}"),
            ("stash@{0} {} { title } {a,b} {", "stash@{0} {} { title } {a,b} {"),
            ("}{", "}{"),
            ("", ""),
        ] {
            assert_eq!(
                expand(&[argument], &task),
                Ok(vec![expanded.to_owned()]),
                "{argument}"
            );
        }
    }

    #[test]
    fn what_cannot_be_an_argument_fails_with_its_reason() {
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        for (argument, title, why) in [
            ("{titel}", "t", "unknown placeholder {titel}"),
            ("{payload.}", "t", "unknown placeholder"),
            (
                "{payload.nope}",
                "t",
                "has nothing for the placeholder {payload.nope}",
            ),
            ("{payload.s.deeper}", "t", "has nothing for"),
            ("{title}", "-rf", "begins with `-`"),
            ("{payload.dash-ed}", "t", "begins with `-`"),
            ("{title}", "a\0b", "NUL"),
            ("--title={title}", &long, "use stdin"),
        ] {
            let error = expand(&[argument], &task(title, PAYLOAD)).unwrap_err();
            assert!(error.contains(why), "{argument}: {error}");
        }
        let without = serde_json::json!({"id": "a", "title": "t", "status": "pending"}).to_string();
        assert!(expand(&["{payload.s}"], &serde_json::from_str(&without).unwrap()).is_err());
    }

    #[test]
    fn an_empty_value_does_not_hide_a_dash() {
        assert!(expand(&["{title}-x"], &task("", PAYLOAD)).is_err());
        assert!(expand(&["{title}{payload.dash-ed}"], &task("", PAYLOAD)).is_err());
        assert_eq!(
            expand(&["-x{title}"], &task("-y", PAYLOAD)),
            Ok(vec!["-x-y".into()])
        );
    }

    #[test]
    fn after_two_dashes_a_value_may_begin_with_one() {
        let task = task("-rf", PAYLOAD);
        assert_eq!(expand(&["-v", "--", "{title}"], &task).unwrap()[2], "-rf");
        assert!(expand(&["{title}", "--"], &task).is_err());
        // Only a `--` that stands in the command counts, not one that a task brings.
        let dashes = self::task("--", PAYLOAD);
        assert!(expand(&["x{payload.s}", "{title}"], &dashes).is_err());
    }

    #[test]
    fn placeholders_that_no_task_can_fill_are_known_before() {
        let arguments = ["{title}".to_owned(), "{oops} {payload.x} {nope}".to_owned()];
        assert_eq!(Template::parse("x", &arguments).unknown(), ["oops", "nope"]);
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_never_expanded_or_split(title in "[a-z{} .$-]{0,40}") {
            let title = format!("x{title}");
            let expanded = expand(&["a", "{title}", "<{title}>"], &task(&title, PAYLOAD)).unwrap();
            proptest::prop_assert_eq!(expanded, vec!["a".to_owned(), title.clone(), format!("<{title}>")]);
        }

        #[test]
        fn any_argument_and_any_task_make_one_argument_or_a_reason(
            argument in "(-{0,2}|[a-z$]{0,2})(\\{(title|description|payload\\.[sno]|payload|nope|\\{title\\})\\}|[{}$a-]){0,4}",
            title in "(-|\\{id\\}|\\{\\{title\\}\\}|\u{0}|\\$\\{x\\}|[a\u{e4} ;'\"]){0,6}",
        ) {
            let Ok(expanded) = expand(&[argument.as_str()], &task(&title, PAYLOAD)) else { return Ok(()) };
            proptest::prop_assert_eq!(expanded.len(), 1);
            proptest::prop_assert!(!expanded[0].contains('\0'), "{:?}", expanded);
            // Only who wrote the command may make an argument an option.
            proptest::prop_assert!(!expanded[0].starts_with('-') || argument.starts_with('-'), "{:?}", expanded);
            // What a value says is not looked at again.
            if argument == "{title}" {
                proptest::prop_assert_eq!(&expanded[0], &title);
            }
        }

        #[test]
        fn text_without_placeholders_stays_as_it_is(text in "[{}\"$:, 0-9]{0,40}") {
            proptest::prop_assert_eq!(expand(&[&text], &task("t", PAYLOAD)).unwrap(), vec![text]);
        }
    }
}
