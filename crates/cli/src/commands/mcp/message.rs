//! Messages: what the bridge must know of them, and the errors that it answers itself.

use serde_json::{Value, json};

/// The JSON-RPC code of a text that is not JSON.
const PARSE_ERROR: i32 = -32_700;
/// The JSON-RPC code of JSON that is no message.
const INVALID_REQUEST: i32 = -32_600;
/// The JSON-RPC code of a request that did not reach its server: of the range that is left to servers.
const NOT_REACHED: i32 = -32_000;
/// The first revision whose requests say what they ask in the head as well. Revisions are dates, and compare as texts.
const NAMED_IN_HEAD: &str = "2026-07-28";

/// What the client of the bridge says.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Said {
    /// Something to be answered.
    Request(Request),
    /// That it does not want the answer to a request any more.
    Cancelled(Value),
    /// Something that is not answered.
    Notice {
        /// The revision that it is of, where it says so.
        revision: Option<String>,
    },
    /// Nothing that can be passed on: what to answer.
    Unreadable(String),
}

/// A request, as far as the bridge must know it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Request {
    /// Its number or name.
    pub(super) id: Value,
    /// What is asked.
    pub(super) method: String,
    /// The tool or the task that it is about.
    pub(super) name: Option<String>,
    /// The revision that it is of, where it says so.
    pub(super) revision: Option<String>,
}

impl Said {
    /// Reads a line.
    pub(super) fn read(line: &str) -> Self {
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => {
                let why = format!("the line is not valid JSON: {error}");
                return Self::Unreadable(failure(&Value::Null, PARSE_ERROR, &why));
            }
        };
        if !value.is_object() {
            return Self::Unreadable(failure(
                &Value::Null,
                INVALID_REQUEST,
                "a message must be one JSON object: batches are not understood",
            ));
        }
        let params = &value["params"];
        let revision = params["_meta"]["io.modelcontextprotocol/protocolVersion"]
            .as_str()
            .map(str::to_owned);
        let Some(method) = value["method"].as_str() else {
            // An answer of the client: to nobody, since the server asks it nothing.
            return Self::Notice { revision };
        };
        match value.get("id") {
            Some(id) if !id.is_null() => Self::Request(Request {
                id: id.clone(),
                method: method.to_owned(),
                name: [&params["name"], &params["uri"], &params["taskId"]]
                    .into_iter()
                    .find_map(|name| name.as_str().map(str::to_owned)),
                revision,
            }),
            _ if method == "notifications/cancelled" => Self::Cancelled(params["requestId"].clone()),
            _ => Self::Notice { revision },
        }
    }
}

impl Request {
    /// Whether it begins a conversation, in which the revision is settled.
    pub(super) fn is_handshake(&self) -> bool {
        self.method == "initialize"
    }

    /// What the head says of it.
    pub(super) fn in_head(&self, revision: Option<&str>) -> (Option<String>, Option<String>) {
        if revision.is_some_and(|revision| revision >= NAMED_IN_HEAD) {
            (Some(self.method.clone()), self.name.clone())
        } else {
            (None, None)
        }
    }

    /// The answer when the server could not be asked.
    pub(super) fn not_reached(&self, why: &str) -> String {
        failure(&self.id, NOT_REACHED, why)
    }

    /// An answer of the server as this client can read it: on one line, and to this request even where the server could
    /// not tell which one it was.
    pub(super) fn fit(&self, answer: String) -> (String, Option<Value>) {
        let Ok(mut value) = serde_json::from_str::<Value>(&answer) else {
            let why =
                "the server answered something that is not JSON: is this the address of an adjutant server?";
            return (self.not_reached(why), None);
        };
        if value["error"].is_object() && value["id"].is_null() {
            value["id"] = self.id.clone();
            return (value.to_string(), None);
        }
        let line = if answer.contains(['\n', '\r']) {
            value.to_string()
        } else {
            answer
        };
        (line, Some(value))
    }
}

/// The error for a line that is too long to be read.
pub(super) fn too_long(limit: usize) -> String {
    failure(
        &Value::Null,
        INVALID_REQUEST,
        &format!("the line is longer than {limit} bytes, and was thrown away"),
    )
}

fn failure(id: &Value, code: i32, message: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        match Said::read(line) {
            Said::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_said_is_told_apart() {
        let call =
            request(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"next_task"}}"#);
        assert_eq!((&call.id, call.name.as_deref()), (&json!("a"), Some("next_task")));
        assert_eq!(
            Said::read(r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#),
            Said::Cancelled(json!(3))
        );
        assert_eq!(
            Said::read(r#"{"method":"notifications/initialized"}"#),
            Said::Notice { revision: None }
        );
        for (line, code) in [
            ("{", "-32700"),
            ("", "-32700"),
            ("[]", "-32600"),
            ("7", "-32600"),
            ("\u{0}", "-32700"),
        ] {
            let Said::Unreadable(answer) = Said::read(line) else {
                panic!("{line}")
            };
            assert!(
                answer.contains(code) && answer.contains("\"id\":null"),
                "{line}: {answer}"
            );
        }
    }

    #[test]
    fn only_new_revisions_say_what_they_ask_in_the_head() {
        let call = request(
            r#"{"id":1,"method":"tasks/get","params":{"taskId":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        let revision = call.revision.as_deref();
        assert_eq!(revision, Some("2026-07-28"));
        assert_eq!(
            call.in_head(revision),
            (Some("tasks/get".into()), Some("t".into()))
        );
        assert_eq!(call.in_head(Some("2025-11-25")), (None, None));
        assert_eq!(call.in_head(None), (None, None));
    }

    #[test]
    fn an_answer_is_one_line_and_has_its_number() {
        let call = request(r#"{"id":1,"method":"ping"}"#);
        let (line, _) = call.fit("{\n \"id\": 1,\r\n \"result\": {}}".to_owned());
        assert_eq!(line, r#"{"id":1,"result":{}}"#);
        let (line, told) = call.fit(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600}}"#.to_owned());
        assert!(line.contains("\"id\":1") && told.is_none(), "{line}");
        assert!(call.fit("<html>".to_owned()).0.contains("-32000"));
    }
}
