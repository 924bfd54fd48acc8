//! The payload of an event, as the JSON object that is stored and sent.

use adjutant_core::set::rows::{NewEvent, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};

struct Object<'a>(&'a [(&'static str, Value)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The payload as text; nothing when there is none.
pub(crate) fn to_json(event: &NewEvent) -> Option<String> {
    if event.payload.is_empty() {
        return None;
    }
    serde_json::to_string(&Object(&event.payload)).ok()
}
