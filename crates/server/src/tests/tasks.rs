//! Tasks: created, listed, worked on, in batches.

use serde_json::json;

use super::TestApp;

#[tokio::test]
async fn a_task_comes_back_as_it_was_sent() {
    let app = TestApp::full().await;
    let sent = json!({"id": "task-123", "title": "Implement X", "description": "Add it", "priority": "high",
        "labels": ["feature", "backend"], "files": ["a.go"], "project": "core", "payload": {"k": [1, {"x": null}]},
        "repo": "o/n", "locks": ["main"], "timeout": 90, "estimated_tokens": 5});
    let created = app.admin().post("/api/tasks", sent.clone()).await;
    assert_eq!(created.status, 201);
    let read = app.admin().get("/api/tasks/task-123").await.good();
    for (field, value) in sent.as_object().unwrap() {
        assert_eq!(&read[field], value, "{field}");
    }
    assert_eq!(
        (read["attempt"].as_u64(), read["status"].as_str()),
        (Some(0), Some("pending"))
    );
    assert_eq!(read["waiting"]["reason"], "no_agents");
    assert!(read["claimed_by"].is_null() && read["created_at"].as_str().unwrap().ends_with('Z'));
    app.admin()
        .get("/api/tasks/nope")
        .await
        .refused(404, "task_not_found");
}

#[tokio::test]
async fn pages_follow_each_other_until_the_list_ends() {
    let app = TestApp::full().await;
    for number in 0..5 {
        let task = json!({"id": format!("t{number}"), "title": "x", "labels": ["a"]});
        app.admin().post("/api/tasks", task).await.good();
    }
    let (mut path, mut seen) = (
        "/api/tasks?status=pending&labels=a&limit=2".to_owned(),
        Vec::new(),
    );
    loop {
        let page = app.admin().get(&path).await;
        let link = page
            .headers
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let tasks = page.good();
        seen.extend(
            tasks
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        let Some(link) = link else { break };
        path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
    let newest = app.admin().get("/api/tasks?limit=1").await.good();
    assert_eq!(newest[0]["id"], "t4");
}

#[tokio::test]
async fn a_plain_client_claims_updates_and_completes() {
    let app = TestApp::full().await;
    let client = app.with_roles("me", &["submit", "agent:agent-001"]).await;
    client
        .post("/api/tasks", json!({"id": "t", "title": "work"}))
        .await
        .good();
    let claimed = client.post_empty("/api/tasks/t/claim").await.good();
    assert_eq!(claimed["task"]["claimed_by"], "agent-001");
    let again = client
        .post("/api/tasks/t/claim", json!({"agent_id": "agent-001"}))
        .await;
    assert!(
        again
            .refused(409, "task_already_claimed")
            .contains("already claimed")
    );
    let change = json!({"status": "in_progress", "progress": 50, "notes": "half"});
    let changed = client.patch("/api/tasks/t", change).await.good();
    assert_eq!(
        (changed["progress"].as_u64(), changed["notes"][0]["text"].as_str()),
        (Some(50), Some("half"))
    );
    let done = client
        .post("/api/tasks/t/complete", json!({"success": true, "output": "o"}))
        .await
        .good();
    assert_eq!(
        (done["task"]["status"].as_str(), done["message"].as_str()),
        (Some("completed"), Some("task completed"))
    );
    assert_eq!(done["task"]["result"]["output"], "o");
    let mine = client.get("/api/tasks?claimed_by=agent-001").await.good();
    assert_eq!(mine[0]["result"]["output"], "o");
}

#[tokio::test]
async fn output_is_appended_and_read() {
    let app = TestApp::full().await;
    app.admin()
        .post("/api/tasks", json!({"id": "t", "title": "work"}))
        .await
        .good();
    app.admin()
        .post("/api/tasks/t/claim", json!({"agent_id": "a"}))
        .await
        .good();
    for text in ["one\n", "two\n"] {
        app.admin()
            .post("/api/tasks/t/output", json!({"text": text, "agent_id": "a"}))
            .await
            .good();
    }
    assert_eq!(
        app.admin().get("/api/tasks/t/output").await.good()["text"],
        "one\ntwo\n"
    );
}

#[tokio::test]
async fn a_bad_item_of_a_batch_fails_alone() {
    let app = TestApp::full().await;
    let batch = json!([{"id": "a", "title": "a"}, {"title": 7}, {"id": "b", "title": "b", "dependencies": ["a"]},
        {"title": "c", "dependencies": ["nope"]}]);
    let items = app.admin().post("/api/batch/tasks", batch).await.good();
    let statuses: Vec<_> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [201, 422, 201, 422]);
    assert_eq!(
        (
            items[2]["task"]["status"].as_str(),
            items[1]["error"]["error"].as_str()
        ),
        (Some("blocked"), Some("invalid_field"))
    );
    app.admin()
        .post("/api/tasks/a/claim", json!({"agent_id": "me"}))
        .await
        .good();
    let completions = json!([{"id": "a", "success": true}, {"id": "b", "success": true}]);
    let items = app.admin().post("/api/batch/complete", completions).await.good();
    assert_eq!(
        (items[0]["status"].as_u64(), items[1]["status"].as_u64()),
        (Some(200), Some(409))
    );
    let many = vec![json!({"title": "x"}); 1_001];
    app.admin()
        .post("/api/batch/tasks", many.into())
        .await
        .refused(422, "batch_too_large");
}

#[tokio::test]
async fn a_repeat_with_the_same_key_changes_nothing() {
    let app = TestApp::full().await;
    let key = [("idempotency-key", "k-1")];
    let send = |title: &str| {
        let (admin, body) = (app.admin(), json!({"title": title}).to_string());
        async move { admin.ask("POST", "/api/tasks", &key, Some(body)).await }
    };
    let first = send("y").await.good();
    assert_eq!(send("y").await.good()["id"], first["id"]);
    assert_eq!(
        app.admin()
            .get("/api/tasks")
            .await
            .good()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    send("z").await.refused(422, "idempotency_mismatch");
}

#[tokio::test]
async fn operators_hold_cancel_and_retry() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .post("/api/tasks", json!({"id": "t", "title": "x"}))
        .await
        .good();
    admin
        .post(
            "/api/tasks",
            json!({"id": "u", "title": "x", "dependencies": ["t"]}),
        )
        .await
        .good();
    assert_eq!(admin.get("/api/tasks/t").await.good()["blockers"], json!(["u"]));
    assert_eq!(
        admin.post_empty("/api/tasks/t/hold").await.good()["waiting"]["reason"],
        "held"
    );
    assert_eq!(
        admin.post_empty("/api/tasks/t/unhold").await.good()["status"],
        "pending"
    );
    assert_eq!(
        admin.post_empty("/api/tasks/t/cancel?cascade=true").await.good()["status"],
        "cancelled"
    );
    assert_eq!(admin.get("/api/tasks/u").await.good()["status"], "cancelled");
    assert_eq!(
        admin.post_empty("/api/tasks/t/retry").await.good()["status"],
        "pending"
    );
    let explained = admin.get("/api/tasks/t/explain").await.good();
    assert_eq!(
        (explained["task_id"].as_str(), explained["considered"].as_u64()),
        (Some("t"), Some(0))
    );
    let events = admin.get("/api/tasks/t/events").await.good();
    assert_eq!(events[0]["type"], "task_created");
}

#[tokio::test]
async fn what_is_malformed_is_told_apart() {
    let app = TestApp::full().await;
    let admin = app.admin();
    let raw = |body: &str, kind: &'static str| {
        let (admin, body) = (admin.clone(), body.to_owned());
        async move {
            admin
                .ask("POST", "/api/tasks", &[("content-type", kind)], Some(body))
                .await
        }
    };
    // The harness sets the usual type as well: the first of the two counts.
    raw("{not json", "application/json")
        .await
        .refused(400, "malformed_json");
    assert!(
        raw("{}", "application/json")
            .await
            .refused(422, "invalid_field")
            .contains("title")
    );
    assert!(
        raw(r#"{"title": "x", "priority": "urgent"}"#, "application/json")
            .await
            .refused(422, "invalid_field")
            .contains("priority")
    );
    assert!(
        raw(r#"{"title": "x", "description": "\u0000"}"#, "application/json")
            .await
            .refused(422, "invalid_field")
            .contains("description")
    );
    raw(
        &format!(r#"{{"title": "{}"}}"#, "x".repeat(5 << 20)),
        "application/json",
    )
    .await
    .refused(413, "body_too_large");
    admin
        .get("/api/tasks?limit=1001")
        .await
        .refused(422, "invalid_field");
    admin.get("/nowhere").await.refused(404, "not_found");
    let wrong = admin.delete("/api/tasks").await;
    assert_eq!(wrong.headers["allow"], "GET,HEAD,POST");
    wrong.refused(405, "method_not_allowed");
}
