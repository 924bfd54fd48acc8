//! Views: what the core and the store say becomes wire types.

pub(crate) mod agent;
pub(crate) mod limit;
pub(crate) mod ops;
pub(crate) mod task;

use adjutant_wire::RawJson;
use serde_json::value::RawValue;

/// Stored JSON text as it goes out. It was JSON when it came in.
pub(crate) fn raw_json(text: Option<&str>) -> Option<RawJson> {
    match RawValue::from_string(text?.to_owned()) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(%error, "the store holds a text that is no longer JSON; it is shown as null");
            None
        }
    }
}

/// Names as they go out.
pub(crate) fn texts<T: std::fmt::Display>(names: &[T]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
