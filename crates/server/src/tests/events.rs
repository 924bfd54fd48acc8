//! Events: pages and streams of what happened.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Speaker, TestApp};

/// Messages of a stream as they arrive.
struct Messages {
    stream: BodyDataStream,
    text: String,
}

impl Messages {
    async fn open(speaker: &Speaker, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let response = speaker.send("GET", path, &all, None).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            stream: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let event = message
                    .lines()
                    .find_map(|line| line.strip_prefix("data: "))
                    .map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = timeout(Duration::from_secs(5), self.stream.next())
                .await
                .expect("an event in time")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
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
