//! Overload: what is refused at once, and what is bounded in bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Speaker, TestApp};
use crate::config::Config;
use crate::serve::Server;

/// A task of about two megabytes.
fn heavy(id: &str) -> Value {
    let text = "x".repeat(1_000_000);
    json!({"id": id, "title": "x", "description": text, "payload": {"text": text}, "labels": ["go"]})
}

async fn submit_heavy(admin: &Speaker, count: usize) {
    for number in 0..count {
        admin
            .post("/api/tasks", heavy(&format!("t{number:02}")))
            .await
            .good();
    }
}

#[tokio::test]
async fn a_page_of_large_tasks_ends_early_and_leads_to_the_rest() {
    let app = TestApp::full().await;
    let admin = app.admin();
    submit_heavy(&admin, 20).await;
    let mut path = "/api/tasks?status=pending&limit=1000".to_owned();
    let mut ids = Vec::new();
    let mut pages = 0;
    loop {
        let page = admin.get(&path).await;
        assert!(page.text.len() < 17 << 20, "{}", page.text.len());
        let link = page
            .headers
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let tasks = page.good();
        ids.extend(
            tasks
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match link {
            Some(link) => {
                path = link.split(['<', '>']).nth(1).unwrap().to_owned();
            }
            None => break,
        }
    }
    let expected: Vec<_> = (0..20).map(|number| format!("t{number:02}")).collect();
    assert_eq!(ids, expected, "each once, and in order");
    assert_eq!(pages, 3);
    // Small ones come in one page, whatever stands between the steps in which they are read.
    for _ in 0..200 {
        admin
            .post("/api/tasks", json!({"title": "small", "project": "p"}))
            .await
            .good();
    }
    let small = admin.get("/api/tasks?project=p&limit=150").await;
    assert!(small.headers.contains_key("link"));
    assert_eq!(small.good().as_array().unwrap().len(), 150);
    let all = admin.get("/api/tasks?project=p&limit=200").await;
    assert!(!all.headers.contains_key("link"));
    assert_eq!(all.good().as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn what_a_sync_cannot_carry_comes_with_the_next_one() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .post(
            "/api/agents",
            json!({"id": "a", "capabilities": ["go"], "max_load": 0}),
        )
        .await
        .good();
    submit_heavy(&admin, 20).await;
    let mut running: Vec<Value> = Vec::new();
    let mut syncs = 0;
    while running.len() < 20 {
        let answer = admin
            .post("/api/agents/a/sync", json!({"running": running}))
            .await;
        assert!(answer.text.len() < 17 << 20, "{}", answer.text.len());
        let answer = answer.good();
        assert_eq!(answer["stop"], json!([]));
        for start in answer["start"].as_array().unwrap() {
            running.push(json!({"id": start["task"]["id"], "attempt": start["attempt"]}));
        }
        syncs += 1;
        assert!(syncs <= 3, "{} of 20 started", running.len());
    }
    let ids: BTreeSet<_> = running.iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn the_answer_to_a_batch_of_large_tasks_is_bounded_and_every_item_has_its_status() {
    let app = TestApp::with(Config {
        max_batch_body_bytes: 6 << 20,
        ..Config::default()
    })
    .await;
    let admin = app.admin();
    submit_heavy(&admin, 5).await;
    admin
        .post(
            "/api/agents",
            json!({"id": "a", "capabilities": ["go"], "max_load": 0}),
        )
        .await
        .good();
    let done: Vec<_> = (0..5)
        .map(|number| json!({"id": format!("t{number:02}"), "success": true}))
        .collect();
    let answer = admin.post("/api/batch/complete", json!(done)).await;
    assert!(answer.text.len() < 7 << 20, "{}", answer.text.len());
    let items = answer.good();
    let items = items.as_array().unwrap();
    assert!(items.iter().all(|item| item["status"] == 200));
    let with_task = items.iter().filter(|item| item["task"].is_object()).count();
    assert_eq!((items.len(), with_task), (5, 3));
}

#[tokio::test]
async fn large_answers_that_nobody_reads_are_bounded_together() {
    let app = TestApp::with(Config {
        max_answer_memory_bytes: 3 << 20,
        ..Config::default()
    })
    .await;
    let admin = app.admin();
    submit_heavy(&admin, 1).await;
    let held = admin.send("GET", "/api/tasks/t00", &[], None).await;
    let refused = admin.get("/api/tasks/t00").await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.refused(503, "overloaded");
    // Small answers go on.
    admin.get("/api/tasks?status=failed").await.good();
    drop(held);
    let answer = admin.get("/api/tasks/t00").await;
    assert_eq!(
        answer.headers["content-length"].to_str().unwrap(),
        answer.text.len().to_string()
    );
    answer.good();
}

#[tokio::test]
async fn a_batch_is_counted_before_it_is_read_and_its_items_are_no_larger_than_a_body() {
    let app = TestApp::with(Config {
        max_body_bytes: 1_000,
        ..Config::default()
    })
    .await;
    let admin = app.admin();
    let many = format!("[{}]", vec!["0"; 1_000_000].join(","));
    admin
        .ask("POST", "/api/batch/tasks", &[], Some(many))
        .await
        .refused(422, "batch_too_large");
    let long = json!({"title": "x", "description": "y".repeat(1_000)});
    let items = admin
        .post("/api/batch/tasks", json!([long, {"title": "x"}]))
        .await
        .good();
    assert_eq!(items[0]["error"]["error"], "body_too_large");
    assert_eq!(items[1]["status"], 201);
}

/// Opens an event stream.
async fn follow(socket: TcpSocket, address: SocketAddr, since: u64) -> TcpStream {
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /api/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer admin\r\n\
         Accept: text/event-stream\r\nLast-Event-ID: {since}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The numbers of the whole messages in what was read of a stream.
fn seqs(text: &str) -> Vec<u64> {
    text.split("id: ")
        .skip(1)
        .filter(|message| message.contains("\n\n"))
        .map(|message| message.split('\n').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_dropped_and_resumes_without_a_gap() {
    let app = TestApp::light().await;
    let config = Config {
        stall_timeout: Duration::from_millis(200),
        max_streams: 1,
        ..Config::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, _) = Server::open(app.handle.clone(), config, app.shutdown.clone())
        .await
        .unwrap();
    let server = tokio::spawn(server.run(listener));
    let socket = || TcpSocket::new_v4().unwrap();
    let small = socket();
    small.set_recv_buffer_size(4_096).unwrap();
    let mut lazy = follow(small, address, 0).await;
    // More than the sockets between them hold.
    let tasks = json!(vec![json!({"title": "x", "labels": ["nobody"]}); 1_000]);
    for _ in 0..16 {
        app.admin().post("/api/batch/tasks", tasks.clone()).await.good();
    }
    let last = *app.handle.last_seq().borrow();
    // It was the only stream that may be open, so its place tells that it was dropped.
    let dropped = async {
        loop {
            let mut head = [0; 12];
            follow(socket(), address, last)
                .await
                .read_exact(&mut head)
                .await
                .unwrap();
            match &head {
                b"HTTP/1.1 200" => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dropped)
        .await
        .expect("the lazy reader is dropped");
    let mut bytes = Vec::new();
    // What was on its way may end in a reset.
    let _ = lazy.read_to_end(&mut bytes).await;
    let seen = seqs(&String::from_utf8_lossy(&bytes));
    let reached = seen.last().copied().unwrap_or(0);
    assert!(reached < last, "it was dropped before the end");
    assert!(seen.into_iter().eq(1..=reached));
    // The place of the last look may take a moment to be free again.
    let mut text = String::new();
    while text.is_empty() {
        let mut resumed = follow(socket(), address, reached).await;
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count) = resumed.read(&mut bytes).await
            && count > 0
        {
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            if text.contains(" 503 ") {
                text.clear();
                tokio::time::sleep(Duration::from_millis(50)).await;
                break;
            }
            // Only the end is looked at: who reads slowly is dropped.
            let tail = &text[text.len().saturating_sub(1_000)..];
            if seqs(tail).last() == Some(&last) {
                break;
            }
        }
    }
    let resumed = seqs(&text);
    assert_eq!(
        (resumed.first(), resumed.last(), resumed.len() as u64),
        (Some(&(reached + 1)), Some(&last), last - reached)
    );
    assert!(resumed.into_iter().eq(reached + 1..=last));
    app.shutdown.cancel();
    server.await.unwrap();
}
