//! Messages, one by one, and the tasks that they become.

use adjutant_core::command::NewTask;
use adjutant_core::task::Priority;
use adjutant_core::time::Span;
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::message::{Incoming, context_of};
use crate::extract::FromBody as _;

fn incoming(message: &Value) -> Incoming {
    Incoming::from_body(message.to_string().as_bytes(), 0).unwrap()
}

/// A request of a message with these parts, and what else is in it.
fn said(parts: &Value, more: &Value) -> Value {
    let mut request = json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": parts}});
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "configuration" | "metadata" => request[name] = value.clone(),
            _ => request["message"][name] = value.clone(),
        }
    }
    request
}

fn task_of(parts: &Value, more: &Value) -> NewTask {
    incoming(&said(parts, more)).into_task().unwrap()
}

#[test]
fn the_parts_of_a_message_become_the_texts_of_a_task() {
    for (parts, title, description, files, payload) in [
        (json!([{"text": "Do it"}]), "Do it", "Do it", vec![], None),
        (
            json!([{"text": "\n  First  \nsecond"}, {"text": "third"}]),
            "First",
            "\n  First  \nsecond\n\nthird",
            vec![],
            None,
        ),
        (
            json!([{"text": "T"}, {"data": {"k": [1, null]}}]),
            "T",
            "T",
            vec![],
            Some(json!({"k": [1, null]})),
        ),
        (
            json!([{"data": 1}, {"data": "x"}]),
            "A2A message m",
            "",
            vec![],
            Some(json!([1, "x"])),
        ),
        (
            json!([{"text": "Read"}, {"url": "https://h/a", "filename": "a"}, {"url": "https://h/b"}]),
            "Read",
            "Read\n\na: https://h/a\nhttps://h/b",
            vec!["https://h/a", "https://h/b"],
            None,
        ),
    ] {
        let task = task_of(&parts, &json!({}));
        assert_eq!(
            (task.body.title.as_str(), task.body.description.as_str()),
            (title, description)
        );
        assert_eq!(task.body.files, files, "{parts}");
        let read = task
            .body
            .payload
            .as_deref()
            .map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(read, payload, "{parts}");
    }
}

#[test]
fn data_is_handed_on_as_it_was_written() {
    let text = r#"{"message": {"messageId": "m", "parts": [{"data": {"z":1, "a": 123456789012345678901234567890}}]}}"#;
    let task = Incoming::from_body(text.as_bytes(), 0)
        .unwrap()
        .into_task()
        .unwrap();
    assert_eq!(
        task.body.payload.as_deref(),
        Some(r#"{"z":1, "a": 123456789012345678901234567890}"#)
    );
}

#[test]
fn a_long_first_line_is_clipped_between_characters() {
    let task = task_of(&json!([{"text": "ä".repeat(501)}]), &json!({}));
    assert_eq!(task.body.title, "ä".repeat(500));
    assert_eq!(task.body.description.chars().count(), 501);
}

#[test]
fn a_context_is_kept_in_the_id() {
    let task = task_of(&json!([{"text": "x"}]), &json!({"contextId": "my.context-1"}));
    assert!(task.id.as_str().starts_with("a2a:my.context-1:"), "{}", task.id);
    assert_eq!(context_of(task.id.as_str()), "my.context-1");
    let (one, other) = (
        task_of(&json!([{"text": "x"}]), &json!({})),
        task_of(&json!([{"text": "x"}]), &json!({"contextId": ""})),
    );
    assert_ne!(context_of(one.id.as_str()), context_of(other.id.as_str()));
    for own in [
        "task_1",
        "a2a:x",
        "a2a::0194",
        "a2a:x:y",
        "b2b:x:0194c7f0a3b87cc2a0b1c2d3e4f50617",
    ] {
        assert_eq!(context_of(own), own);
    }
}

#[test]
fn metadata_carries_fields_of_the_task_with_numbers_of_either_kind() {
    let fields = json!({"labels": ["rust"], "prefers": ["fast"], "priority": "high", "model": "m", "project": "p",
        "repo": "o/n", "timeout": 90.0, "estimated_tokens": 1000.0, "max_retries": 2, "locks": ["l"], "title": "Own",
        "files": ["f"]});
    let on_request = json!({"metadata": {"adjutant": fields, "other": 1}});
    let task = task_of(&json!([{"text": "x"}, {"url": "u"}]), &on_request);
    assert_eq!((task.body.title.as_str(), task.priority), ("Own", Priority::High));
    assert_eq!((task.estimated_tokens, task.max_retries), (1_000, 2));
    assert_eq!(task.timeout, Some(Span::from_secs(90)));
    assert_eq!(task.body.files, ["u", "f"]);
    let mut message = said(&json!([{"text": "x"}]), &json!({}));
    message["message"]["metadata"] = json!({"adjutant": {"labels": ["a"], "project": "p"}});
    message["metadata"] = json!({"adjutant": {"labels": ["b"]}});
    let task = incoming(&message).into_task().unwrap();
    assert_eq!(
        task.demand.labels,
        ["b".into()],
        "what the request says counts more"
    );
    assert_eq!(task.project, Some("p".into()));
}

async fn refusal(request: &Value) -> (String, String) {
    let refused = match Incoming::from_body(request.to_string().as_bytes(), 0) {
        Ok(incoming) => incoming.into_task().unwrap_err(),
        Err(rejection) => rejection.into(),
    };
    let bytes = refused
        .into_response()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&body["error"]["details"][0]["reason"]),
        text(&body["error"]["message"]),
    )
}

/// Asserts the reason of each refusal, and a word of its message.
async fn all_refused(cases: &[(Value, &str, &str)]) {
    for (request, reason, word) in cases {
        let (told, message) = refusal(request).await;
        assert_eq!(told, *reason, "{message}");
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[tokio::test]
async fn what_a_message_cannot_be_is_refused_by_the_name_of_its_field() {
    let text = json!([{"text": "x"}]);
    all_refused(&[
        (json!({}), "INVALID_PARAMS", "message"),
        (json!({"message": {"parts": []}}), "INVALID_PARAMS", "messageId"),
        (said(&json!([]), &json!({})), "INVALID_PARAMS", "message.parts"),
        (
            said(&json!([{"text": " \n"}]), &json!({})),
            "INVALID_PARAMS",
            "message.parts",
        ),
        (
            said(&json!([{}]), &json!({})),
            "INVALID_PARAMS",
            "message.parts[0]",
        ),
        (
            said(&json!([{"text": 7}]), &json!({})),
            "INVALID_PARAMS",
            "message.parts[0].text",
        ),
        (
            said(&json!(vec![json!({"text": "x"}); 1_001]), &json!({})),
            "INVALID_PARAMS",
            "message.parts: must have at most 1000",
        ),
        (
            said(&json!([{"text": "x"}, {"raw": "AA=="}]), &json!({})),
            "CONTENT_TYPE_NOT_SUPPORTED",
            "message.parts[1].raw",
        ),
        (
            said(&text, &json!({"messageId": ""})),
            "INVALID_PARAMS",
            "message.messageId",
        ),
        (
            said(&text, &json!({"role": "ROLE_AGENT"})),
            "INVALID_PARAMS",
            "message.role",
        ),
        (
            said(&text, &json!({"role": "user"})),
            "INVALID_PARAMS",
            "message.role",
        ),
        (
            said(&text, &json!({"contextId": "a b"})),
            "INVALID_PARAMS",
            "message.contextId",
        ),
        (
            said(&text, &json!({"contextId": "a:b"})),
            "INVALID_PARAMS",
            "message.contextId",
        ),
        (
            said(&text, &json!({"contextId": "x".repeat(81)})),
            "INVALID_PARAMS",
            "message.contextId",
        ),
        (
            said(
                &text,
                &json!({"configuration": {"taskPushNotificationConfig": {"url": "https://h"}}}),
            ),
            "PUSH_NOTIFICATION_NOT_SUPPORTED",
            "calls nobody back",
        ),
        (
            said(&json!([{"text": "x".repeat((1 << 20) + 1)}]), &json!({})),
            "INVALID_PARAMS",
            "message.parts",
        ),
        (
            said(&json!([{"text": "a\0b"}]), &json!({})),
            "INVALID_PARAMS",
            "U+0000",
        ),
    ])
    .await;
}

#[tokio::test]
async fn metadata_that_no_task_can_have_is_refused_by_the_name_of_its_field() {
    let text = json!([{"text": "x"}]);
    let fields = |fields: Value| json!({"metadata": {"adjutant": fields}});
    all_refused(&[
        (
            said(&text, &fields(json!({"labels": "rust"}))),
            "INVALID_PARAMS",
            "metadata.adjutant.labels",
        ),
        (
            said(&text, &fields(json!({"priority": "urgent"}))),
            "INVALID_PARAMS",
            "metadata.adjutant.priority",
        ),
        (
            said(&text, &fields(json!({"max_retries": 1.5}))),
            "INVALID_PARAMS",
            "metadata.adjutant.max_retries",
        ),
        (
            said(&text, &fields(json!({"id": "mine"}))),
            "INVALID_PARAMS",
            "metadata.adjutant.id",
        ),
        (
            said(&text, &fields(json!({"payload": 1}))),
            "INVALID_PARAMS",
            "metadata.adjutant.payload",
        ),
        (
            said(&text, &json!({"metadata": {"adjutant": 7}})),
            "INVALID_PARAMS",
            "metadata.adjutant: must be an object",
        ),
        (
            said(&text, &fields(json!({"labels": vec!["x"; 100_000]}))),
            "INVALID_PARAMS",
            "metadata.adjutant: must have at most",
        ),
    ])
    .await;
}
