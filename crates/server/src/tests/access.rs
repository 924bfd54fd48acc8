//! Access: who is let in, and how far.

use adjutant_core::access::Actor;
use adjutant_core::command::Command;
use serde_json::json;

use super::TestApp;
use crate::config::Config;

#[tokio::test]
async fn health_needs_no_token_and_everything_else_does() {
    let app = TestApp::full().await;
    assert_eq!(app.nobody().get("/v1/health").await.good()["status"], "ok");
    for path in ["/api/tasks", "/metrics", "/openapi.json", "/api/tokens"] {
        app.nobody().get(path).await.refused(401, "unauthorized");
        app.speaker("wrong").get(path).await.refused(401, "unauthorized");
        app.admin().get(path).await.good();
    }
}

#[tokio::test]
async fn every_answer_carries_what_keeps_pages_out() {
    let app = TestApp::full().await;
    for path in ["/v1/health", "/api/tasks", "/nowhere"] {
        let answer = app.nobody().get(path).await;
        assert_eq!(
            answer.headers["content-security-policy"],
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            "{path}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(
            !answer.headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
    let foreign = app
        .admin()
        .ask(
            "GET",
            "/api/tasks",
            &[("origin", "https://evil.example.com")],
            None,
        )
        .await;
    foreign.refused(403, "foreign_origin");
    let own = app
        .admin()
        .ask("GET", "/api/tasks", &[("origin", "http://localhost:7717")], None)
        .await;
    own.good();
}

#[tokio::test]
async fn who_tries_too_many_tokens_is_told_to_wait_while_others_go_on() {
    let app = TestApp::full().await;
    for number in 0..20 {
        app.speaker(&format!("guess-{number}"))
            .get("/api/tasks")
            .await
            .refused(401, "unauthorized");
    }
    let refused = app.speaker("guess").get("/api/tasks").await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "too_many_attempts");
    app.admin().get("/api/tasks").await.good();
}

#[tokio::test]
async fn an_agent_reaches_itself_alone() {
    let app = TestApp::full().await;
    let own = app.with_roles("host", &["agent:a"]).await;
    own.post("/api/agents", json!({"id": "a"})).await.good();
    app.admin().post("/api/agents", json!({"id": "b"})).await.good();
    own.get("/api/agents/a").await.good();
    own.get("/api/allowances/a/check").await.good();
    own.post("/api/agents/a/sync", json!({"running": []}))
        .await
        .good();
    for refused in [
        own.post("/api/agents", json!({"id": "b"})).await,
        own.get("/api/agents/b").await,
        own.get("/api/allowances/b/usage").await,
        own.post("/api/agents/b/sync", json!({"running": []})).await,
        own.post("/api/agents/b/heartbeat", json!({})).await,
        own.delete("/api/agents/b").await,
        own.post("/api/usage", json!({"agent_id": "b", "job_id": "j"}))
            .await,
        own.post("/api/tasks/t/claim", json!({"agent_id": "b"})).await,
        own.put("/api/allowances/a", json!({})).await,
        own.get("/api/agents").await,
    ] {
        refused.refused(403, "forbidden");
    }
    own.delete("/api/agents/a").await.good();
}

#[tokio::test]
async fn an_agent_reads_the_tasks_that_it_holds_or_could_run_and_no_others() {
    let app = TestApp::full().await;
    let own = app.with_roles("host", &["agent:a"]).await;
    let admin = app.admin();
    for (id, label) in [
        ("mine", "go"),
        ("open", "go"),
        ("foreign", "rust"),
        ("theirs", "docs"),
    ] {
        admin
            .post("/api/tasks", json!({"id": id, "title": "x", "labels": [label]}))
            .await
            .good();
    }
    // An id that is not registered could claim whatever waits.
    own.get("/api/tasks/foreign").await.good();
    own.post(
        "/api/agents",
        json!({"id": "a", "capabilities": ["go"], "max_load": 1}),
    )
    .await
    .good();
    admin
        .post("/api/agents", json!({"id": "b", "capabilities": ["docs"]}))
        .await
        .good();
    let ids = |listed: serde_json::Value| -> Vec<String> {
        let tasks = listed.as_array().unwrap();
        tasks
            .iter()
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        own.get("/api/tasks/mine").await.good()["claimed_by"],
        "a",
        "the first task went to the only agent with its label"
    );
    own.get("/api/tasks/open").await.good();
    own.get("/api/tasks/foreign").await.refused(403, "forbidden");
    own.get("/api/tasks/theirs").await.refused(403, "forbidden");
    assert_eq!(ids(own.get("/api/tasks").await.good()), ["open", "mine"]);
    // What it ran stays its own; and a token that may submit reads everything.
    own.post("/api/tasks/mine/complete", json!({"success": true}))
        .await
        .good();
    own.get("/api/tasks/mine").await.good();
    let client = app.with_roles("client", &["submit", "agent:a"]).await;
    client.get("/api/tasks/theirs").await.good();
    assert_eq!(ids(client.get("/api/tasks").await.good()).len(), 4);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_at_once() {
    let app = TestApp::full().await;
    let admin = app.admin();
    let made = admin
        .post("/api/tokens", json!({"name": "ci", "roles": ["read"]}))
        .await;
    assert_eq!(made.status, 201);
    let secret = made.good()["token"].as_str().unwrap().to_owned();
    admin
        .post("/api/tokens", json!({"name": "ci", "roles": ["admin"]}))
        .await
        .refused(409, "token_exists");
    let reader = app.speaker(&secret);
    reader.get("/api/tasks").await.good();
    reader
        .post("/api/tasks", json!({"title": "x"}))
        .await
        .refused(403, "forbidden");
    let listed = admin.get("/api/tokens").await;
    assert!(!listed.text.contains(&secret));
    assert_eq!(listed.good().as_array().unwrap().len(), 2);
    admin.delete("/api/tokens/ci").await.good();
    reader.get("/api/tasks").await.refused(401, "unauthorized");
    admin
        .delete("/api/tokens/ci")
        .await
        .refused(404, "token_not_found");
}

#[tokio::test]
async fn of_two_who_make_the_same_name_at_once_one_is_refused() {
    let app = TestApp::full().await;
    for round in 0..20 {
        let name = format!("ci-{round}");
        let make = |role: &'static str| {
            let (admin, name) = (app.admin(), name.clone());
            tokio::spawn(async move {
                admin
                    .post("/api/tokens", json!({"name": name, "roles": [role]}))
                    .await
            })
        };
        let (one, other) = (make("read"), make("admin"));
        let answers = [one.await.unwrap(), other.await.unwrap()];
        let mut codes: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        codes.sort_unstable();
        assert_eq!(codes, [201, 409]);
        // The secret that was handed out is the one that counts.
        for made in answers.iter().filter(|answer| answer.status == 201) {
            let holder = app.speaker(made.body["token"].as_str().unwrap());
            holder.get("/api/tasks").await.good();
        }
    }
}

#[tokio::test]
async fn names_that_up_gives_to_its_own_tokens_are_taken() {
    let app = TestApp::full().await;
    for name in ["up", "up:a"] {
        let refused = app
            .admin()
            .post("/api/tokens", json!({"name": name, "roles": ["read"]}))
            .await;
        assert!(refused.refused(422, "invalid_field").starts_with("name: "));
    }
}

#[tokio::test]
async fn a_sync_that_waits_ends_when_its_token_is_revoked() {
    let app = TestApp::full().await;
    let own = app.with_roles("host", &["agent:a"]).await;
    let admin = app.admin();
    own.post("/api/agents", json!({"id": "a", "capabilities": ["go"]}))
        .await
        .good();
    let waits = tokio::spawn(async move {
        let body = json!({"running": [], "wait": 15});
        own.post("/api/agents/a/sync", body).await
    });
    // It was seen to wait once it was heard of.
    admin.get("/api/agents/a").await.good();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!waits.is_finished());
    admin.delete("/api/tokens/host").await.good();
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), waits);
    answer
        .await
        .expect("at once")
        .unwrap()
        .refused(401, "unauthorized");
    // What comes now is not handed to who waited.
    admin
        .post("/api/tasks", json!({"title": "x", "labels": ["go"]}))
        .await
        .good();
}

#[tokio::test]
async fn a_token_that_was_revoked_elsewhere_is_forgotten_soon() {
    let app = TestApp::full().await;
    let reader = app.with_roles("ci", &["read"]).await;
    reader.get("/api/tasks").await.good();
    app.handle
        .call(Actor::admin(), Command::RevokeToken("ci".into()), None)
        .await
        .unwrap();
    let forgotten = async {
        while reader.get("/api/tasks").await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), forgotten)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_open_server_asks_for_no_token() {
    let app = TestApp::with(Config {
        open: true,
        ..Config::default()
    })
    .await;
    app.nobody()
        .post("/api/tasks", json!({"id": "t", "title": "x"}))
        .await
        .good();
    assert_eq!(
        app.nobody().post_empty("/api/tasks/t/claim").await.good()["task"]["claimed_by"],
        "admin"
    );
}
