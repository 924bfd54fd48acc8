//! Events: pages and streams of what happened.

use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::command::Command;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{EventStream, Speaker, TestApp};
use crate::config::Config;

/// Messages of a stream as they arrive.
struct Messages(EventStream);

impl Messages {
    async fn open(speaker: &Speaker, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        Self(EventStream::of(speaker.send("GET", path, &all, None).await))
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let message = self.0.next().await?;
            let mut lines = message.lines();
            if let Some(data) = lines.find_map(|line| line.strip_prefix("data: ")) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn events_come_in_pages_without_gaps() {
    let app = TestApp::full().await;
    for _ in 0..3 {
        app.admin().post("/api/tasks", json!({"title": "x"})).await.good();
    }
    let all = app.admin().get("/api/events?since=0").await.good();
    let seqs: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let page = app.admin().get("/api/events?since=1&limit=1").await.good();
    assert_eq!(
        (page.as_array().unwrap().len(), page[0]["seq"].as_u64()),
        (1, Some(2))
    );
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_resumes() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .post("/api/tasks", json!({"id": "old", "title": "x"}))
        .await
        .good();
    let mut messages = Messages::open(&admin, "/api/events", &[]).await;
    let first = messages.next().await.unwrap();
    assert_eq!(
        (first["type"].as_str(), first["task_id"].as_str()),
        (Some("task_created"), Some("old"))
    );
    let last = app.admin().get("/api/status").await.good()["last_seq"]
        .as_u64()
        .unwrap();
    let mut resumed = Messages::open(
        &admin,
        "/api/events?since=0",
        &[("last-event-id", &last.to_string())],
    )
    .await;
    admin
        .post("/api/tasks", json!({"id": "new", "title": "x"}))
        .await
        .good();
    let next = resumed.next().await.unwrap();
    assert_eq!(
        (next["seq"].as_u64(), next["task_id"].as_str()),
        (Some(last + 1), Some("new"))
    );
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let app = TestApp::full().await;
    let mut messages = Messages::open(&app.admin(), "/api/events", &[]).await;
    app.shutdown.cancel();
    while messages.next().await.is_some() {}
}

/// Whether a stream ends within a second.
async fn ends_soon(messages: &mut Messages) -> bool {
    let end = async { while messages.next().await.is_some() {} };
    timeout(Duration::from_secs(1), end).await.is_ok()
}

#[tokio::test]
async fn a_stream_ends_at_once_when_its_token_is_revoked_and_others_go_on() {
    let app = TestApp::full().await;
    let reader = app.with_roles("eve", &["read"]).await;
    let mut messages = Messages::open(&reader, "/api/events", &[]).await;
    let mut others = Messages::open(&app.admin(), "/api/events", &[]).await;
    let body = json!({"name": "new", "roles": ["read"]});
    app.admin().post("/api/tokens", body).await.good();
    app.admin().post("/api/tasks", json!({"title": "x"})).await.good();
    assert!(messages.next().await.is_some());
    app.admin().delete("/api/tokens/eve").await.good();
    assert!(ends_soon(&mut messages).await);
    assert!(others.next().await.is_some());
    assert!(!ends_soon(&mut others).await);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked_elsewhere() {
    let app = TestApp::full().await;
    let reader = app.with_roles("eve", &["read"]).await;
    let mut messages = Messages::open(&reader, "/api/events", &[]).await;
    app.handle
        .call(Actor::admin(), Command::RevokeToken("eve".into()), None)
        .await
        .unwrap();
    while messages.next().await.is_some() {}
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_a_place_is_free_again_when_one_ends() {
    let app = TestApp::with(Config {
        max_streams: 1,
        ..Config::default()
    })
    .await;
    let open = || async {
        let accept = [("accept", "text/event-stream")];
        app.admin().send("GET", "/api/events", &accept, None).await
    };
    let first = open().await;
    let refused = open().await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    drop(first);
    assert_eq!(open().await.status(), 200);
}
