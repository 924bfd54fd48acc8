//! Agents: the registry, and work that reaches them.

use serde_json::json;

use super::TestApp;

#[tokio::test]
async fn agents_register_are_listed_and_leave() {
    let app = TestApp::full().await;
    let admin = app.admin();
    let agent = json!({"id": "g", "capabilities": ["go", "testing"], "max_load": 2, "metadata": {"k": [1]}});
    let made = admin.post("/api/agents", agent).await.good();
    assert_eq!(
        (made["status"].as_str(), made["name"].as_str()),
        (Some("available"), Some("g"))
    );
    assert_eq!(made["metadata"], json!({"k": [1]}));
    admin
        .post("/api/agents", json!({"id": "p", "capabilities": ["python"]}))
        .await
        .good();
    let found = admin
        .get("/api/agents?capabilities=go,testing&status=available")
        .await
        .good();
    assert_eq!(
        (found.as_array().unwrap().len(), found[0]["id"].as_str()),
        (1, Some("g"))
    );
    admin.delete("/api/agents/g").await.good();
    admin.get("/api/agents/g").await.refused(404, "agent_not_found");
    admin
        .delete("/api/agents/g")
        .await
        .refused(404, "agent_not_found");
    admin
        .post("/api/agents", json!({"id": "", "name": "x"}))
        .await
        .refused(422, "invalid_field");
    admin
        .post("/api/agents/none/heartbeat", json!({}))
        .await
        .refused(404, "agent_not_found");
    assert_eq!(
        admin.post_empty("/api/agents/p/drain").await.good()["status"],
        "draining"
    );
    assert_eq!(
        admin.post_empty("/api/agents/p/undrain").await.good()["status"],
        "available"
    );
    admin.post_empty("/api/agents/p/lift").await.good();
}

#[tokio::test]
async fn agents_are_read_in_pages_by_id() {
    let app = TestApp::full().await;
    let admin = app.admin();
    for id in ["d", "b", "e", "a", "c"] {
        let agent = json!({"id": id, "capabilities": ["x"]});
        admin.post("/api/agents", agent).await.good();
    }
    let mut path = "/api/agents?capabilities=x&limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = admin.get(&path).await;
        let next = page.headers.get("link").map(|link| {
            let link = link.to_str().unwrap();
            link[1..link.find('>').unwrap()].to_owned()
        });
        let agents = page.good();
        seen.extend(
            agents
                .as_array()
                .unwrap()
                .iter()
                .map(|agent| agent["id"].to_string()),
        );
        let Some(next) = next else { break };
        assert_eq!(agents.as_array().unwrap().len(), 2);
        path = next;
    }
    assert_eq!(seen, ["\"a\"", "\"b\"", "\"c\"", "\"d\"", "\"e\""]);
    let all = admin.get("/api/agents").await;
    assert!(all.headers.get("link").is_none());
    assert_eq!(all.good().as_array().unwrap().len(), 5);
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=a%20b"] {
        admin
            .get(&format!("/api/agents?{query}"))
            .await
            .refused(422, "invalid_field");
    }
    let counts = admin.get("/api/status?agents=false").await.good();
    assert_eq!(
        (&counts["agents"], &counts["tasks"]["pending"]),
        (&json!([]), &json!(0))
    );
    admin
        .get("/api/status?agents=some")
        .await
        .refused(422, "invalid_field");
}

#[tokio::test]
async fn a_waiting_agent_gets_its_task_with_a_token_for_it_alone() {
    let app = TestApp::full().await;
    let worker = app.with_roles("host", &["agent:w"]).await;
    worker
        .post("/api/agents", json!({"id": "w", "max_load": 2}))
        .await
        .good();
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move {
            worker
                .post("/api/agents/w/sync", json!({"running": [], "wait": 10}))
                .await
                .good()
        }
    });
    app.admin()
        .post(
            "/api/tasks",
            json!({"id": "t", "title": "now", "payload": {"p": 1}}),
        )
        .await
        .good();
    app.admin()
        .post("/api/tasks", json!({"id": "other", "title": "other"}))
        .await
        .good();
    let start = waiting.await.unwrap()["start"][0].clone();
    assert_eq!(
        (start["task"]["id"].as_str(), start["attempt"].as_u64()),
        (Some("t"), Some(1))
    );
    assert_eq!(start["task"]["payload"], json!({"p": 1}));
    let child = app.speaker(start["token"].as_str().unwrap());
    child.patch("/api/tasks/t", json!({"progress": 10})).await.good();
    let usage = json!({"job_id": "t", "model": "m", "tokens_in": 7, "total": true});
    child.post("/api/usage", usage).await.good();
    child
        .post("/api/tasks/t/output", json!({"text": "x"}))
        .await
        .good();
    child
        .patch("/api/tasks/other", json!({"progress": 10}))
        .await
        .refused(403, "forbidden");
    child.get("/api/tasks/t").await.refused(403, "forbidden");
    child
        .post("/api/tasks", json!({"title": "x"}))
        .await
        .refused(403, "forbidden");
    child
        .post("/api/tasks/t/complete", json!({"success": true}))
        .await
        .good();
    let read = worker.get("/api/tasks/t").await.good();
    assert_eq!(
        (read["status"].as_str(), read["usage"]["tokens_in"].as_u64()),
        (Some("completed"), Some(7))
    );
}

#[tokio::test]
async fn what_is_done_rides_along_with_a_roll_call() {
    let app = TestApp::full().await;
    let worker = app.with_roles("host", &["agent:w"]).await;
    worker.post("/api/agents", json!({"id": "w"})).await.good();
    for id in ["one", "two"] {
        app.admin()
            .post("/api/tasks", json!({"id": id, "title": id}))
            .await
            .good();
    }
    let first = worker
        .post("/api/agents/w/sync", json!({"running": []}))
        .await
        .good();
    assert_eq!(first["start"][0]["task"]["id"], "one");
    let done = json!({"running": [], "done": [{"id": "one", "attempt": 1, "success": true, "output": "o"}]});
    let second = worker.post("/api/agents/w/sync", done).await.good();
    assert_eq!(
        (
            second["done"][0]["status"].as_u64(),
            second["done"][0]["task"]["result"]["output"].as_str()
        ),
        (Some(200), Some("o"))
    );
    assert_eq!(second["start"][0]["task"]["id"], "two");
    let beat = worker.post_empty("/api/agents/w/heartbeat").await.good();
    assert_eq!(
        (beat["start"].as_array().unwrap().len(), beat["drain"].as_bool()),
        (0, Some(false))
    );
    worker
        .post("/api/agents/w/sync", json!({"wait": -1}))
        .await
        .refused(422, "invalid_field");
}
