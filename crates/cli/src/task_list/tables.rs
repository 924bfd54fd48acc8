//! TOML task lists: `[[tasks]]` tables with the keys of the API.

use std::path::Path;

use serde::Deserialize;
use toml::{Spanned, Table};

use super::{Draft, Item, json};
use crate::failure::{Failure, Outcome};
use crate::text::line_at;
use crate::toml_file;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    tasks: Vec<Spanned<Table>>,
}

/// Reads the list.
pub(super) fn read(file: &Path, text: &str) -> Outcome<Draft> {
    let list: List = toml_file::parse(file, text)?;
    let mut draft = Draft::default();
    for table in list.tasks {
        let line = line_at(text, table.span().start);
        let value =
            json(toml::Value::Table(table.into_inner())).map_err(|why| Failure::at(file, line, why))?;
        draft.items.push(Item {
            line,
            task: json::task(file, line, &value.to_string())?,
        });
    }
    Ok(draft)
}

/// The same value as JSON; times become text.
fn json(value: toml::Value) -> Result<serde_json::Value, String> {
    use toml::Value;
    Ok(match value {
        Value::String(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => serde_json::Number::from_f64(number)
            .ok_or_else(|| format!("`{number}` cannot be written in JSON"))?
            .into(),
        Value::Boolean(yes) => yes.into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(values) => values
            .into_iter()
            .map(json)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Value::Table(table) => serde_json::Value::Object(
            table
                .into_iter()
                .map(|(key, value)| json(value).map(|value| (key, value)))
                .collect::<Result<_, _>>()?,
        ),
    })
}
