//! Who waits for the end of a task, and who follows it.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::super::{Reply, Speaker, TestApp};
use super::{Events, complete, message, quick, sent, submitter, take};
use crate::config::Config;

#[tokio::test]
async fn who_waits_is_answered_with_what_came_out() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.post("/message:send", message("m", "work")).await.good() }
    });
    let id = loop {
        let tasks = client.get("/api/tasks").await.good();
        if let Some(id) = tasks[0]["id"].as_str() {
            break id.to_owned();
        }
        tokio::task::yield_now().await;
    };
    take(&app, &id).await;
    assert!(!waits.is_finished());
    complete(&app, &id, "done").await;
    let task = timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
    assert_eq!(task["task"]["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(task["task"]["artifacts"][0]["parts"][0]["text"], "done");
}

/// Begins to wait for the end of a task, with a place of its own.
async fn waiting(app: &TestApp, client: &Speaker) -> tokio::task::JoinHandle<Reply> {
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.post("/message:send", message("m", "work")).await }
    });
    while app.admin().get("/api/tasks").await.good()[0].is_null() {
        tokio::task::yield_now().await;
    }
    waits
}

#[tokio::test]
async fn a_wait_ends_when_the_server_stops_and_when_the_token_is_revoked() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let waits = waiting(&app, &client).await;
    app.shutdown.cancel();
    let task = timeout(Duration::from_secs(10), waits)
        .await
        .unwrap()
        .unwrap()
        .good();
    assert_eq!(task["task"]["status"]["state"], "TASK_STATE_SUBMITTED");

    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let waits = waiting(&app, &client).await;
    app.admin().delete("/api/tokens/submitter").await.good();
    timeout(Duration::from_secs(10), waits)
        .await
        .unwrap()
        .unwrap()
        .told(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_wait_is_bounded() {
    let app = TestApp::light().await;
    let client = submitter(&app).await;
    let waits = waiting(&app, &client).await;
    while !waits.is_finished() {
        tokio::time::pause();
        tokio::time::advance(crate::a2a::LONGEST_WAIT + Duration::from_secs(1)).await;
        tokio::time::resume();
        // Whoever did not wait yet does after this.
        client.get("/api/tasks").await.good();
    }
    let task = waits.await.unwrap().good();
    assert_eq!(task["task"]["status"]["state"], "TASK_STATE_SUBMITTED");
}

#[tokio::test]
async fn who_waits_or_follows_takes_a_place_and_changes_nothing_without_one() {
    let app = TestApp::with(Config {
        max_streams: 1,
        ..Config::default()
    })
    .await;
    let client = submitter(&app).await;
    let id = sent(&client, quick("m", "work")).await;
    let mut events = Events::open(&client, "GET", &format!("/tasks/{id}:subscribe"), None).await;
    events.next().await.unwrap();
    for path in ["/message:send", "/message:stream"] {
        let refused = client.post(path, message("m-2", "work")).await;
        assert!(refused.headers.contains_key("retry-after"));
        refused.told(503, "OVERLOADED");
    }
    assert_eq!(client.get("/api/tasks").await.good().as_array().unwrap().len(), 1);
    drop(events);
    let mut events = Events::open(&client, "POST", "/message:stream", Some(message("m-2", "work"))).await;
    events.next().await.unwrap();
}

#[tokio::test]
async fn a_stream_tells_every_step_and_ends_with_what_came_out() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let mut events = Events::open(&client, "POST", "/message:stream", Some(message("m", "work"))).await;
    let first = events.next().await.unwrap();
    let id = first["task"]["id"].as_str().unwrap().to_owned();
    assert_eq!(first["task"]["status"]["state"], "TASK_STATE_SUBMITTED");
    take(&app, &id).await;
    let update = events.state("WORKING").await;
    assert_eq!(
        (update["taskId"].as_str(), &update["contextId"]),
        (Some(id.as_str()), &first["task"]["contextId"])
    );
    let progress = json!({"progress": 50, "notes": "half\nway", "agent_id": "a"});
    app.admin()
        .patch(&format!("/api/tasks/{id}"), progress)
        .await
        .good();
    let update = events.state("WORKING").await;
    assert_eq!(update["status"]["message"]["parts"][0]["text"], "half\nway");
    assert_eq!(update["metadata"]["adjutant"]["progress"], 50);
    // What happens to others is not told.
    let other = sent(&client, quick("other", "else")).await;
    take(&app, &other).await;
    complete(&app, &id, "out").await;
    let artifact = events.next().await.unwrap();
    assert_eq!(artifact["artifactUpdate"]["artifact"]["parts"][0]["text"], "out");
    let artifact = events.next().await.unwrap();
    assert_eq!(artifact["artifactUpdate"]["artifact"]["artifactId"], "artifact-1");
    events.state("COMPLETED").await;
    assert!(events.next().await.is_none());
    // The same message again gives the same task, which has nothing more to tell.
    let mut events = Events::open(&client, "POST", "/message:stream", Some(message("m", "work"))).await;
    let again = events.next().await.unwrap();
    assert_eq!(again["task"]["id"], id.as_str());
    assert_eq!(again["task"]["artifacts"][0]["parts"][0]["text"], "out");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn readers_may_follow_by_either_method_and_streams_end_with_the_token() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let reader = app.with_roles("reader", &["read"]).await;
    let id = sent(&client, quick("m", "work")).await;
    let path = format!("/tasks/{id}:subscribe");
    let mut by_get = Events::open(&reader, "GET", &path, None).await;
    let mut by_post = Events::open(&reader, "POST", &path, Some(json!({}))).await;
    for events in [&mut by_get, &mut by_post] {
        assert_eq!(events.next().await.unwrap()["task"]["id"], id.as_str());
    }
    take(&app, &id).await;
    by_get.state("WORKING").await;
    app.admin().delete("/api/tokens/reader").await.good();
    while by_get.next().await.is_some() {}
    while by_post.next().await.is_some() {}
    let mut events = Events::open(&client, "GET", &path, None).await;
    app.shutdown.cancel();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn hostile_texts_stay_texts() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    for (index, text) in [
        "data: x\n\nevent: error\ndata: y",
        "\u{2028}\r\n<script>",
        "\"}]}}",
        "{{payload}} $(id)",
    ]
    .into_iter()
    .enumerate()
    {
        let message = message(&format!("m-{index}"), text);
        let mut events = Events::open(&client, "POST", "/message:stream", Some(message)).await;
        let first = events.next().await.unwrap();
        assert_eq!(first["task"]["history"][0]["parts"][0]["text"], text);
        let id = first["task"]["id"].as_str().unwrap().to_owned();
        take(&app, &id).await;
        events.state("WORKING").await;
        complete(&app, &id, text).await;
        let artifact = events.next().await.unwrap();
        assert_eq!(artifact["artifactUpdate"]["artifact"]["parts"][0]["text"], text);
        events.next().await.unwrap();
        events.state("COMPLETED").await;
    }
}
