//! A2A: a fleet that is asked as one agent.

mod refusals;
mod streams;

use serde_json::{Value, json};

use super::{EventStream, Reply, Speaker, TestApp};
use crate::config::Config;

/// A message with this id and text.
fn message(id: &str, text: &str) -> Value {
    json!({"message": {"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}]}})
}

/// The same, for who does not wait.
fn quick(id: &str, text: &str) -> Value {
    let mut message = message(id, text);
    message["configuration"] = json!({"returnImmediately": true});
    message
}

async fn submitter(app: &TestApp) -> Speaker {
    app.with_roles("submitter", &["submit"]).await
}

/// Sends a message and gives the id of its task.
async fn sent(speaker: &Speaker, message: Value) -> String {
    let task = speaker.post("/message:send", message).await.good();
    task["task"]["id"].as_str().unwrap().to_owned()
}

/// Hands the task to agent `a`.
async fn take(app: &TestApp, id: &str) {
    let claim = json!({"agent_id": "a"});
    app.admin()
        .post(&format!("/api/tasks/{id}/claim"), claim)
        .await
        .good();
}

async fn complete(app: &TestApp, id: &str, output: &str) {
    let result = json!({"success": true, "output": output, "artifacts": ["https://h/a"]});
    app.admin()
        .post(&format!("/api/tasks/{id}/complete"), result)
        .await
        .good();
}

impl Reply {
    /// Asserts the status and the reason of an error of A2A, and gives its message.
    #[track_caller]
    fn told(self, status: u16, reason: &str) -> String {
        let error = &self.body["error"];
        assert_eq!(
            (self.status.as_u16(), error["details"][0]["reason"].as_str()),
            (status, Some(reason)),
            "{}",
            self.text
        );
        assert_eq!(error["code"], status);
        error["message"].as_str().unwrap().to_owned()
    }
}

/// Events of a stream as they arrive.
struct Events(EventStream);

impl Events {
    async fn open(speaker: &Speaker, method: &str, path: &str, body: Option<Value>) -> Self {
        let body = body.map(|body| body.to_string());
        Self(EventStream::of(speaker.send(method, path, &[], body).await))
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.0.next().await?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next event, which tells of this state.
    async fn state(&mut self, state: &str) -> Value {
        let event = self.next().await.expect("an event");
        let status = &event["statusUpdate"]["status"];
        assert_eq!(status["state"], format!("TASK_STATE_{state}"), "{event}");
        event["statusUpdate"].clone()
    }
}

#[tokio::test]
async fn a_message_lives_the_whole_life_of_a_task() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let mut sent = quick("m-1", "Greet\nSay hello.");
    sent["message"]["contextId"] = json!("talk");
    sent["metadata"] = json!({"adjutant": {"labels": ["python"], "estimated_tokens": 5.0}});
    let reply = client.post("/message:send", sent).await;
    assert_eq!(reply.headers["content-type"], "application/a2a+json");
    let task = reply.good()["task"].clone();
    assert_eq!(
        (task["contextId"].as_str(), task["status"]["state"].as_str()),
        (Some("talk"), Some("TASK_STATE_SUBMITTED"))
    );
    let why = task["status"]["message"]["parts"][0]["text"].as_str().unwrap();
    assert!(why.starts_with("no_agents"), "{why}");
    let id = task["id"].as_str().unwrap();
    assert!(id.starts_with("a2a:talk:"), "{id}");

    let own = client.get(&format!("/api/tasks/{id}")).await.good();
    assert_eq!(
        (own["title"].as_str(), own["description"].as_str()),
        (Some("Greet"), Some("Greet\nSay hello."))
    );
    assert_eq!(
        (own["labels"].clone(), own["estimated_tokens"].as_u64()),
        (json!(["python"]), Some(5))
    );

    let admin = app.admin();
    admin
        .post("/api/agents", json!({"id": "a", "capabilities": ["python"]}))
        .await
        .good();
    let given = admin
        .post("/api/agents/a/sync", json!({"running": [], "wait": 5}))
        .await
        .good();
    assert_eq!(given["start"][0]["task"]["id"], id);
    let path = format!("/tasks/{id}");
    let working = client.get(&path).await.good();
    assert_eq!(working["status"]["state"], "TASK_STATE_WORKING");
    assert_eq!(working["metadata"]["adjutant"]["agent"], "a");
    complete(&app, id, "hello").await;
    let done = client.get(&path).await.good();
    assert_eq!(done["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(done["artifacts"][0]["parts"][0]["text"], "hello");
    assert_eq!(done["artifacts"][1]["parts"][0]["url"], "https://h/a");
    assert_eq!(done["history"][0]["parts"][0]["text"], "Greet\nSay hello.");
    let bare = client.get(&format!("{path}?historyLength=0")).await.good();
    assert!(bare.get("history").is_none());
}

#[tokio::test]
async fn a_task_is_cancelled_once() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let id = sent(&client, quick("m", "work")).await;
    let path = format!("/tasks/{id}:cancel");
    let task = client.post_empty(&path).await.good();
    assert_eq!(task["status"]["state"], "TASK_STATE_CANCELED");
    let id = sent(&client, quick("m-2", "work")).await;
    take(&app, &id).await;
    complete(&app, &id, "o").await;
    let path = format!("/tasks/{id}:cancel");
    client
        .post(&path, json!({"id": id}))
        .await
        .told(400, "TASK_NOT_CANCELABLE");
    let ended = client.get(&format!("/tasks/{id}:subscribe")).await;
    assert!(ended.told(400, "UNSUPPORTED_OPERATION").contains("has ended"));
    client
        .post_empty("/tasks/nope:cancel")
        .await
        .told(404, "TASK_NOT_FOUND");
    client
        .post_empty(&format!("/tasks/{id}:dance"))
        .await
        .told(404, "METHOD_NOT_FOUND");
    client
        .post_empty(&format!("/tasks/{id}"))
        .await
        .told(404, "METHOD_NOT_FOUND");
}

#[tokio::test]
async fn the_same_message_is_the_same_task() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let id = sent(&client, quick("m", "work")).await;
    assert_eq!(sent(&client, quick("m", "work")).await, id);
    let mut events = Events::open(&client, "POST", "/message:stream", Some(quick("m", "work"))).await;
    assert_eq!(events.next().await.unwrap()["task"]["id"], id.as_str());
    client
        .post("/message:send", quick("m", "other work"))
        .await
        .told(400, "INVALID_PARAMS");
    let other = app.with_roles("other", &["submit"]).await;
    assert_ne!(sent(&other, quick("m", "work")).await, id);
    assert_eq!(client.get("/api/tasks").await.good().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn lists_come_in_pages_by_state_and_by_context() {
    let app = TestApp::full().await;
    let client = submitter(&app).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let mut message = quick(&format!("m-{number}"), "work");
        message["message"]["contextId"] = json!(if number % 2 == 0 { "even" } else { "odd" });
        ids.push(sent(&client, message).await);
    }
    app.admin()
        .post("/api/tasks", json!({"id": "plain", "title": "x"}))
        .await
        .good();
    app.admin().post_empty("/api/tasks/plain/hold").await.good();
    take(&app, &ids[0]).await;
    complete(&app, &ids[0], "o").await;
    let all = |query: &'static str| {
        let client = client.clone();
        async move {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = client
                    .get(&format!("/tasks?{query}&pageToken={token}"))
                    .await
                    .good();
                let tasks = page["tasks"].as_array().unwrap().clone();
                assert!(tasks.len() as u64 <= page["pageSize"].as_u64().unwrap());
                seen.extend(tasks);
                match page["nextPageToken"].as_str().unwrap() {
                    "" => return (seen, page["totalSize"].as_u64().unwrap()),
                    next => next.clone_into(&mut token),
                }
            }
        }
    };
    let (tasks, total) = all("pageSize=2").await;
    assert_eq!((tasks.len(), total), (6, 6));
    assert!(tasks.iter().all(|task| task.get("artifacts").is_none()));
    let (tasks, total) = all("pageSize=2&status=TASK_STATE_SUBMITTED").await;
    assert_eq!((tasks.len(), total), (5, 5), "pending and held");
    let (tasks, _) = all("pageSize=1&contextId=even&includeArtifacts=true&historyLength=0").await;
    let own: Vec<_> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(own, [&ids[4], &ids[2], &ids[0]]);
    assert_eq!(tasks[2]["artifacts"][0]["parts"][0]["text"], "o");
    assert!(tasks[2].get("history").is_none());
    let (tasks, _) = all("contextId=plain").await;
    assert_eq!(tasks[0]["id"], "plain");
    assert!(all("status=TASK_STATE_REJECTED").await.0.is_empty());
    assert_eq!(client.get("/tasks?pageSize=7").await.good()["pageSize"], 7);
    client.get("/tasks?pageSize=0").await.told(400, "INVALID_PARAMS");
}

#[tokio::test]
async fn the_card_is_public_and_offers_what_the_agents_can_do() {
    let app = TestApp::full().await;
    let path = "/.well-known/agent-card.json";
    let card = app.nobody().get(path).await;
    assert_eq!(card.headers["content-type"], "application/json");
    let card = card.good();
    assert_eq!(
        card["supportedInterfaces"],
        json!([{"url": "http://localhost:7717", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"}])
    );
    assert_eq!(card["skills"].as_array().unwrap().len(), 1);
    assert_eq!(
        card["capabilities"],
        json!({"streaming": true, "pushNotifications": false, "extendedAgentCard": false})
    );
    assert_eq!(
        card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"],
        "Bearer"
    );
    assert_eq!(
        card["securityRequirements"],
        json!([{"schemes": {"bearer": {"list": []}}}])
    );
    app.admin()
        .post("/api/agents", json!({"id": "a", "capabilities": ["late"]}))
        .await
        .good();
    assert_eq!(
        app.nobody().get(path).await.good()["skills"],
        card["skills"],
        "it is kept for some seconds"
    );

    let public = Config {
        public_url: Some("https://fleet.example".to_owned()),
        ..Config::default()
    };
    let app = TestApp::with(public).await;
    for (id, capabilities) in [("a", json!(["rust", "docs"])), ("b", json!(["rust"]))] {
        app.admin()
            .post("/api/agents", json!({"id": id, "capabilities": capabilities}))
            .await
            .good();
    }
    let card = app.nobody().get(path).await.good();
    assert_eq!(card["supportedInterfaces"][0]["url"], "https://fleet.example");
    let skills: Vec<_> = card["skills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skill| {
            (
                skill["id"].as_str().unwrap(),
                skill["description"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        skills,
        [
            ("docs", "Tasks that need `docs`: one agent has it."),
            ("rust", "Tasks that need `rust`: 2 agents have it."),
        ]
    );
}
