//! The client against a scripted server.

use std::time::Duration;

use adjutant_wire::{NewTask, SyncRequest, TaskPatch};
use futures_util::StreamExt;
use serde_json::json;

use crate::stub::Stub;
use crate::{Client, Error, TaskFilter};

fn client(stub: &Stub) -> Client {
    Client::new(&stub.url, Some("secret".into())).unwrap()
}

fn task(id: &str) -> serde_json::Value {
    json!({"id": id, "title": "t", "status": "pending", "created_at": "2026-11-24T10:00:00Z"})
}

fn new_task() -> NewTask {
    NewTask {
        title: "t".into(),
        ..NewTask::default()
    }
}

#[tokio::test]
async fn a_task_of_a_foreign_server_needs_four_fields_only() {
    let mut stub = Stub::start().await;
    let client = client(&stub);
    let call = tokio::spawn(async move { client.get_task("a b/c").await });
    let request = stub.next().await;
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", "/api/tasks/a%20b%2Fc")
    );
    assert!(request.headers.contains("authorization: bearer secret"));
    let mut answer = task("x");
    answer["description"] = json!(null);
    answer["labels"] = json!(null);
    answer["notes"] = json!("a remark");
    answer["usage"] = json!(null);
    answer["progress"] = json!(null);
    request.json(200, &answer);
    let task = call.await.unwrap().unwrap();
    assert_eq!((task.id.as_str(), task.attempt), ("x", 0));
    assert_eq!(task.notes[0].text, "a remark");
}

#[tokio::test]
async fn pages_are_followed_on_the_same_server() {
    let mut stub = Stub::start().await;
    let client = client(&stub);
    let call = tokio::spawn(async move {
        let filter = TaskFilter {
            labels: vec!["a".into(), "b c".into()],
            ..TaskFilter::default()
        };
        client.all_tasks(&filter, 10).await
    });
    let first = stub.next().await;
    assert_eq!(first.path, "/api/tasks?labels=a%2Cb+c");
    let link = "link: <http://elsewhere.example/api/tasks?labels=a&after=1>; rel=\"next\"\r\n";
    first.with_headers(200, link, &json!([task("1")]));
    let second = stub.next().await;
    assert_eq!(second.path, "/api/tasks?labels=a&after=1");
    second.json(200, &json!([task("2")]));
    let ids: Vec<String> = call
        .await
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|task| task.id)
        .collect();
    assert_eq!(ids, ["1", "2"]);
}

#[tokio::test]
async fn a_get_is_repeated_and_a_post_is_not() {
    let mut stub = Stub::start().await;
    let client = client(&stub);
    let reader = client.clone();
    let call = tokio::spawn(async move { reader.get_task("x").await });
    stub.next().await.hang_up();
    stub.next().await.refuse(503, "overloaded");
    stub.next().await.with_headers(
        429,
        "retry-after: 0\r\n",
        &json!({"code": 429, "message": "later"}),
    );
    stub.next().await.json(200, &task("x"));
    assert!(call.await.unwrap().is_ok());

    let writer = client.clone();
    let call = tokio::spawn(async move { writer.create_task(&new_task(), None).await });
    stub.next().await.hang_up();
    let error = call.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Transport {
                unreachable: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_retryable());

    let call = tokio::spawn(async move { client.create_task(&new_task(), Some("k-1")).await });
    stub.next().await.hang_up();
    let again = stub.next().await;
    assert!(again.headers.contains("idempotency-key: k-1"));
    again.json(201, &task("x"));
    assert!(call.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_limit_without_a_time_is_passed_on_at_once() {
    let mut stub = Stub::start().await;
    let client = client(&stub);
    let call = tokio::spawn(async move { client.get_task("x").await });
    stub.next().await.refuse(429, "quota_exceeded");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.slug()), (Some(429), Some("quota_exceeded")));
    assert!(error.is_retryable() && error.hint().is_some());
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_this_api_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder(&url).retries(0).build().unwrap();
    let error = client.health().await.unwrap_err();
    assert!(
        error.to_string().contains("is `adjutant serve` running?"),
        "{error}"
    );

    let mut stub = Stub::start().await;
    let client = Client::new(&stub.url, None).unwrap();
    let call = tokio::spawn(async move {
        let moved = client.patch_task("x", &TaskPatch::default()).await.unwrap_err();
        (moved, client.health().await.unwrap_err())
    });
    stub.next()
        .await
        .raw("HTTP/1.1 301 x\r\nlocation: https://new.example/\r\ncontent-length: 0\r\n\r\n");
    stub.next().await.json(200, &json!("hello"));
    let (moved, odd) = call.await.unwrap();
    assert!(moved.to_string().contains("https://new.example/"), "{moved}");
    assert!(
        matches!(odd, Error::Unexpected { .. }) && !odd.is_retryable(),
        "{odd}"
    );
}

#[test]
fn addresses_are_checked_and_may_have_a_path() {
    for wrong in ["", "localhost:7717", "ftp://x", "http://user:pw@x"] {
        assert!(
            matches!(Client::new(wrong, None), Err(Error::Invalid(_))),
            "{wrong}"
        );
    }
    assert!(Client::new("http://x", Some("a\nb".into())).is_err());
    let client = Client::new("https://x.example/adjutant", Some("secret".into())).unwrap();
    assert_eq!(client.base_url(), "https://x.example/adjutant");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_roll_call_may_take_its_wait_and_a_margin() {
    let mut stub = Stub::start().await;
    let client = Client::builder(&stub.url)
        .timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let call = tokio::spawn(async move {
        let request = SyncRequest {
            wait: Some(0.1),
            ..SyncRequest::default()
        };
        client.sync("w", &request).await
    });
    stub.next().await.abandoned().await;
    assert!(matches!(call.await.unwrap(), Err(Error::Transport { .. })));
}

#[tokio::test]
async fn events_are_followed_over_a_broken_connection() {
    let mut stub = Stub::start().await;
    let client = client(&stub);
    let event = |seq: u64| {
        format!(
            "id: {seq}\ndata: {{\"seq\":{seq},\"type\":\"task_created\",\"task_id\":null,\"agent_id\":null,\
             \"timestamp\":\"2026-11-24T10:00:00Z\",\"payload\":{{\"a\":1}}}}\n\n"
        )
    };
    let head = "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n";
    let call = tokio::spawn(async move {
        let stream = client.follow_events(3);
        tokio::pin!(stream);
        let mut seen = Vec::new();
        while let Some(item) = stream.next().await {
            seen.push(item.map(|event| event.seq));
        }
        seen
    });
    stub.next().await.raw(format!("{head}{}{}", event(4), event(5)));
    let again = stub.next().await;
    assert_eq!(again.path, "/api/events?since=5");
    assert!(again.headers.contains("last-event-id: 5"));
    again.raw(format!("{head}{}{}", event(5), event(6)));
    stub.next().await.refuse(401, "unauthorized");
    let seen = call.await.unwrap();
    let seqs: Vec<u64> = seen
        .iter()
        .filter_map(|item| item.as_ref().ok().copied())
        .collect();
    assert_eq!(seqs, [4, 5, 6]);
    assert_eq!(seen.last().unwrap().as_ref().unwrap_err().code(), Some(401));
}
