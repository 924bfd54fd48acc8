//! Limits: set, checked, used, reset.

use serde_json::json;

use super::TestApp;

#[tokio::test]
async fn an_allowance_is_set_checked_used_and_reset() {
    let app = TestApp::full().await;
    let admin = app.admin();
    let allowance = json!({"daily_token_limit": 1_000, "daily_job_limit": 5, "model_allowlist": ["sonnet"],
        "max_job_duration": "2h"});
    let set = admin.put("/api/allowances/w", allowance).await.good();
    assert_eq!(
        (set["agent_id"].as_str(), set["max_job_duration"].as_u64()),
        (Some("w"), Some(7_200))
    );
    let check = admin.get("/api/allowances/w/check").await.good();
    assert_eq!(
        check,
        json!({"allowed": true, "status": "ok", "remaining_tokens": 1_000, "remaining_jobs": 5, "reason": ""})
    );
    let check = admin.get("/api/allowances/w/check?model=opus").await.good();
    assert_eq!(check["reason"], "model not in allowlist: opus");
    admin
        .post("/api/tasks", json!({"id": "t", "title": "x", "model": "sonnet"}))
        .await
        .good();
    admin
        .post("/api/tasks/t/claim", json!({"agent_id": "w"}))
        .await
        .good();
    let report =
        json!({"agent_id": "w", "job_id": "t", "model": "sonnet", "tokens_in": 300, "event": "usage"});
    admin.post("/api/usage", report).await.good();
    let used = admin.get("/api/allowances/w/usage").await.good();
    assert_eq!(
        (
            used["tokens_used"].as_i64(),
            used["jobs_started"].as_u64(),
            used["active_jobs"].as_u64()
        ),
        (Some(300), Some(1), Some(1))
    );
    admin.post_empty("/api/allowances/w/reset").await.good();
    assert_eq!(
        admin.get("/api/allowances/w/usage").await.good()["tokens_used"],
        0
    );
    let unknown = admin.get("/api/allowances/nobody/usage").await.good();
    assert_eq!(
        (unknown["tokens_used"].as_i64(), unknown["cost"].as_i64()),
        (Some(0), Some(0))
    );
}

#[tokio::test]
async fn scopes_and_models_may_have_a_slash_either_way() {
    let app = TestApp::full().await;
    let admin = app.admin();
    let limits = json!({"limits": [{"window": "day", "pull_requests": 3}]});
    let set = admin.put("/api/limits/repo:o/n", limits).await.good();
    assert_eq!(
        (set["scope"].as_str(), set["limits"][0]["pull_requests"].as_u64()),
        (Some("repo:o/n"), Some(3))
    );
    assert_eq!(
        admin.get("/api/limits/repo:o%2Fn").await.good()["limits"],
        set["limits"]
    );
    assert_eq!(admin.get("/api/repos/o/n").await.good()["max_daily_prs"], 3);
    admin.post_empty("/api/limits/repo:o/n/reset").await.good();
    admin.post_empty("/api/limits/fleet/reset").await.good();
    let model = json!({"daily_token_budget": 9, "cost_ceiling": 1.5, "prices": {"input": 300}});
    let set = admin.put("/api/models/lab/m", model).await.good();
    assert_eq!(
        (set["model"].as_str(), set["cost_ceiling"].as_f64()),
        (Some("lab/m"), Some(1.5))
    );
    assert_eq!(
        admin.get("/api/models/lab%2Fm").await.good()["prices"]["input"],
        300
    );
    admin
        .put(
            "/api/repos/o/n",
            json!({"max_daily_prs": 1, "cooldown_after_failure": "5m"}),
        )
        .await
        .good();
    assert_eq!(
        admin.get("/api/repos/o/n").await.good()["cooldown_after_failure"],
        300
    );
    let twice = json!({"limits": [{"window": "day"}, {"window": "day"}]});
    let message = admin
        .put("/api/limits/fleet", twice)
        .await
        .refused(422, "invalid_field");
    assert!(message.starts_with("limits[1].window"), "{message}");
}

#[tokio::test]
async fn a_refused_claim_says_when_to_come_back() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .put("/api/allowances/w", json!({"daily_job_limit": 1}))
        .await
        .good();
    for id in ["one", "two"] {
        admin
            .post("/api/tasks", json!({"id": id, "title": "x"}))
            .await
            .good();
    }
    admin
        .post("/api/tasks/one/claim", json!({"agent_id": "w"}))
        .await
        .good();
    let refused = admin.post("/api/tasks/two/claim", json!({"agent_id": "w"})).await;
    assert!(
        refused.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    assert!(
        refused
            .refused(429, "quota_exceeded")
            .contains("daily job limit exceeded")
    );
}

#[tokio::test]
async fn status_and_metrics_count_what_is_there() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .post(
            "/api/agents",
            json!({"id": "w", "capabilities": ["go"], "metadata": {"k": 1}}),
        )
        .await
        .good();
    admin
        .post("/api/tasks", json!({"title": "x", "labels": ["rust"]}))
        .await
        .good();
    let status = admin.get("/api/status").await.good();
    assert_eq!(
        (
            status["tasks"]["pending"].as_u64(),
            status["agents"][0]["id"].as_str()
        ),
        (Some(1), Some("w"))
    );
    assert_eq!(status["agents"][0]["allowance"]["remaining_tokens"], -1);
    assert!(status["last_seq"].as_u64().unwrap() >= 2);
    let metrics = admin.get("/metrics").await.text;
    assert!(
        metrics.contains("adjutant_tasks{status=\"pending\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("adjutant_agents{status=\"available\"} 1\n"),
        "{metrics}"
    );
}
