//! What is refused, and in which words.

use serde_json::json;

use super::super::TestApp;
use super::{quick, sent, submitter, take};
use crate::config::Config;

#[tokio::test]
async fn what_is_not_served_is_refused_in_the_words_of_the_protocol() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let id = sent(&client, quick("m", "work")).await;
    let configs = format!("/tasks/{id}/pushNotificationConfigs");
    let one = format!("{configs}/1");
    client
        .post(&configs, json!({"url": "https://h"}))
        .await
        .told(400, "PUSH_NOTIFICATION_NOT_SUPPORTED");
    client
        .get(&configs)
        .await
        .told(400, "PUSH_NOTIFICATION_NOT_SUPPORTED");
    client
        .get(&one)
        .await
        .told(400, "PUSH_NOTIFICATION_NOT_SUPPORTED");
    client
        .delete(&one)
        .await
        .told(400, "PUSH_NOTIFICATION_NOT_SUPPORTED");
    client
        .get("/extendedAgentCard")
        .await
        .told(400, "EXTENDED_AGENT_CARD_NOT_CONFIGURED");
    let mut more = quick("m-2", "and this");
    more["message"]["taskId"] = json!(id);
    let told = client
        .post("/message:send", more.clone())
        .await
        .told(400, "UNSUPPORTED_OPERATION");
    assert!(told.contains("without taskId"), "{told}");
    for unknown in ["nope", "no such\u{7f}id", &"x".repeat(10_000)] {
        more["message"]["taskId"] = json!(unknown);
        client
            .post("/message:stream", more.clone())
            .await
            .told(404, "TASK_NOT_FOUND");
    }
    client.get("/tasks/nope").await.told(404, "TASK_NOT_FOUND");
    client.get("/tasks/no%20such").await.told(404, "TASK_NOT_FOUND");
    client
        .get("/tasks/nope:subscribe")
        .await
        .told(404, "TASK_NOT_FOUND");
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_told_so() {
    let app = TestApp::with(Config {
        max_body_bytes: 1_000,
        ..Config::default()
    })
    .await;
    let client = submitter(&app).await;
    let path = "/message:send";
    let raw = |text: &str, kind: &'static str| {
        let (client, text) = (client.clone(), text.to_owned());
        async move {
            let request = http::Request::builder()
                .method("POST")
                .uri(path)
                .header("host", "localhost:7717")
                .header("authorization", "Bearer submitter")
                .header("content-type", kind)
                .body(axum::body::Body::from(text))
                .unwrap();
            let response = tower_service::Service::call(&mut client.router.clone(), request)
                .await
                .unwrap();
            response.status().as_u16()
        }
    };
    assert_eq!(
        raw(&quick("m", "x").to_string(), "application/a2a+json").await,
        200
    );
    assert_eq!(raw("{}", "text/plain").await, 415);
    for (body, status, reason) in [
        ("{", 400, "INVALID_REQUEST"),
        ("", 400, "INVALID_REQUEST"),
        ("[]", 400, "INVALID_PARAMS"),
        ("{}", 400, "INVALID_PARAMS"),
        (
            r#"{"message": {"messageId": "m", "parts": {}}}"#,
            400,
            "INVALID_PARAMS",
        ),
        (
            r#"{"message": {"messageId": "m", "parts": [{"text": "a\u0000b"}]}}"#,
            400,
            "INVALID_PARAMS",
        ),
    ] {
        client
            .ask("POST", path, &[], Some(body.to_owned()))
            .await
            .told(status, reason);
    }
    client
        .post(path, quick("m", &"x".repeat(1_000)))
        .await
        .told(413, "BODY_TOO_LARGE");
    let mut negative = quick("m-3", "x");
    negative["configuration"]["historyLength"] = json!(-1);
    client.post(path, negative).await.told(400, "INVALID_PARAMS");
    client
        .get("/tasks?pageToken=%zz")
        .await
        .told(400, "INVALID_PARAMS");
    for (version, status) in [
        ("1.0", 200),
        ("1.7", 200),
        ("0.3", 400),
        ("", 400),
        ("2", 400),
        ("10.1", 400),
    ] {
        let headers = [("a2a-version", version)];
        let sent = client
            .ask("POST", path, &headers, Some(quick("v", "x").to_string()))
            .await;
        assert_eq!(sent.status, status, "{version}: {}", sent.text);
        if status == 400 {
            sent.told(400, "VERSION_NOT_SUPPORTED");
            client
                .ask("GET", "/tasks", &headers, None)
                .await
                .told(400, "VERSION_NOT_SUPPORTED");
        }
    }
}

#[tokio::test]
async fn each_role_gets_what_it_gets_elsewhere() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let reader = app.with_roles("reader", &["read"]).await;
    let (own, other) = (
        app.with_roles("own", &["agent:a"]).await,
        app.with_roles("other", &["agent:b"]).await,
    );
    let id = sent(&client, quick("m", "work")).await;
    take(&app, &id).await;
    let path = format!("/tasks/{id}");
    reader
        .post("/message:send", quick("n", "x"))
        .await
        .refused(403, "forbidden");
    own.post("/message:stream", quick("n", "x"))
        .await
        .refused(403, "forbidden");
    app.nobody().get("/tasks").await.refused(401, "unauthorized");
    reader
        .post_empty(&format!("{path}:cancel"))
        .await
        .told(403, "FORBIDDEN");
    own.post_empty(&format!("{path}:cancel"))
        .await
        .refused(403, "forbidden");
    assert_eq!(own.get(&path).await.good()["id"], id.as_str());
    other.get(&path).await.told(403, "FORBIDDEN");
    own.get(&format!("{path}:subscribe")).await.told(403, "FORBIDDEN");
    assert_eq!(
        reader.get("/tasks").await.good()["tasks"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        own.get("/tasks").await.good()["tasks"].as_array().unwrap().len(),
        1
    );
    assert!(
        other.get("/tasks").await.good()["tasks"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}
