//! The dashboard: who sees what, signing in, paging, and what keeps foreign pages out.

use http::header::{COOKIE, SET_COOKIE};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::{Reply, Speaker, TestApp};
use crate::config::Config;

/// All pages that need nothing to be there.
const PAGES: &[&str] = &[
    "/",
    "/dashboard/fleet",
    "/dashboard/queue",
    "/dashboard/queue?status=pending",
    "/dashboard/dead-letters",
    "/dashboard/limits",
    "/dashboard/limits?scope=fleet",
    "/dashboard/limits?scope=model:opus",
    "/dashboard/limits?scope=agent:a",
    "/dashboard/limits?scope=repo:o/n",
    "/dashboard/limits?scope=project:p",
    "/dashboard/trends",
    "/dashboard/events",
];

/// A browser that has signed in: the cookie that it sends along.
async fn signed_in(app: &TestApp, speaker: &Speaker) -> String {
    let link = speaker.post("/api/sign-in-links", json!({})).await.good();
    let url = link["url"].as_str().unwrap();
    assert!(url.starts_with("http://localhost:7717/sign-in#"), "{url}");
    let code = url.split('#').nth(1).unwrap();
    let reply = app.nobody().post("/sign-in", json!({ "code": code })).await;
    let cookie = reply.headers[SET_COOKIE].to_str().unwrap().to_owned();
    reply.good();
    cookie.split(';').next().unwrap().to_owned()
}

async fn with_cookie(app: &TestApp, cookie: &str, method: &str, path: &str, origin: Option<&str>) -> Reply {
    let mut headers = vec![(COOKIE.as_str(), cookie)];
    headers.extend(origin.map(|origin| ("origin", origin)));
    let body = (method != "GET").then(|| "{}".to_owned());
    app.nobody().ask(method, path, &headers, body).await
}

#[tokio::test]
async fn every_page_is_there_for_administrators_and_told_as_a_page_to_others() {
    let app = TestApp::full().await;
    for path in PAGES {
        let page = app.admin().get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8", "{path}");
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        assert_eq!(page.headers["x-frame-options"], "DENY", "{path}");
        assert!(page.text.contains("<main id=\"main\""), "{path}");
        let refused = app.nobody().get(path).await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.text.contains("adjutant token link"), "{path}");
    }
    for (path, status) in [
        ("/dashboard/tasks/none", 404),
        ("/dashboard/tasks/a%20b", 404),
        ("/dashboard/agents/none", 404),
        ("/dashboard/find?id=%3Cscript%3E", 404),
        ("/dashboard/queue?status=odd", 422),
        ("/dashboard/queue?after=odd", 422),
        ("/dashboard/limits?scope=odd", 422),
        ("/dashboard/trends?minutes=1000000", 422),
        ("/dashboard/fleet?search=%zz", 422),
    ] {
        let refused = app.admin().get(path).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
        assert!(
            refused.text.starts_with("<!DOCTYPE html>") && !refused.text.contains("<script>"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_link_signs_in_once_and_a_session_ends_with_its_token() {
    let app = TestApp::full().await;
    let reader = app.with_roles("reader", &["read"]).await;
    let cookie = signed_in(&app, &reader).await;
    let page = with_cookie(&app, &cookie, "GET", "/", None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("reader") && page.text.contains("Sign out"));
    // It may what its token may, and no more; for the API too.
    assert_eq!(
        with_cookie(&app, &cookie, "GET", "/api/agents", None)
            .await
            .status,
        200
    );
    let own = Some("http://localhost:7717");
    let refused = with_cookie(&app, &cookie, "POST", "/api/tasks", own).await;
    refused.refused(403, "forbidden");
    let refused = with_cookie(&app, &cookie, "POST", "/api/sign-in-links", own).await;
    refused.refused(403, "forbidden");
    app.admin().delete("/api/tokens/reader").await.good();
    assert_eq!(with_cookie(&app, &cookie, "GET", "/", None).await.status, 401);
    let again = app.nobody().post("/sign-in", json!({"code": "guess"})).await;
    assert!(again.refused(401, "unauthorized").contains("used before"));
    app.nobody()
        .post("/sign-in", json!({}))
        .await
        .refused(422, "invalid_field");
}

#[tokio::test]
async fn who_guesses_codes_is_told_to_wait() {
    let app = TestApp::full().await;
    for _ in 0..20 {
        app.nobody()
            .post("/sign-in", json!({"code": "guess"}))
            .await
            .refused(401, "unauthorized");
    }
    let refused = app.nobody().post("/sign-in", json!({"code": "guess"})).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "too_many_attempts");
    // Who has a link is let in all the same: others may be behind the same address.
    signed_in(&app, &app.admin()).await;
}

#[tokio::test]
async fn a_session_changes_nothing_for_pages_of_others() {
    let app = TestApp::full().await;
    let cookie = signed_in(&app, &app.admin()).await;
    let cancel = "/api/tasks/t/cancel";
    app.admin()
        .post("/api/tasks", json!({"id": "t", "title": "x"}))
        .await
        .good();
    for origin in [
        None,
        Some("http://evil.example.com"),
        Some("http://localhost:3000"),
        Some("null"),
    ] {
        with_cookie(&app, &cookie, "POST", cancel, origin)
            .await
            .refused(403, "foreign_origin");
    }
    with_cookie(&app, &cookie, "POST", cancel, Some("http://localhost:7717"))
        .await
        .good();
}

#[tokio::test]
async fn a_session_at_an_address_with_tls_is_sent_over_tls_alone() {
    let config = Config {
        public_url: Some("https://adjutant.example.com".into()),
        ..Config::default()
    };
    let app = TestApp::with(config).await;
    let link = app.admin().post("/api/sign-in-links", json!({})).await.good();
    let url = link["url"].as_str().unwrap();
    let code = url.strip_prefix("https://adjutant.example.com/sign-in#").unwrap();
    let reply = app.nobody().post("/sign-in", json!({ "code": code })).await;
    assert!(reply.headers[SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn what_submitters_may_not_see_is_neither_shown_nor_offered() {
    let app = TestApp::full().await;
    let submitter = app.with_roles("submitter", &["submit"]).await;
    app.admin()
        .post("/api/tasks", json!({"id": "t", "title": "x"}))
        .await
        .good();
    let task = submitter.get("/dashboard/tasks/t").await.text;
    assert!(task.contains("/api/tasks/t/cancel") && !task.contains("/api/tasks/t/hold"));
    assert!(!task.contains("/dashboard/fleet") && !task.contains("/dashboard/limits"));
    assert!(
        app.admin()
            .get("/dashboard/tasks/t")
            .await
            .text
            .contains("/api/tasks/t/hold")
    );
    let refused = submitter.get("/dashboard/fleet").await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("Not yours to see"));
}

#[tokio::test]
async fn lists_are_paged_to_their_ends() {
    let app = TestApp::full().await;
    let tasks: Vec<_> = (0..120)
        .map(|number| json!({"id": format!("t{number:03}"), "title": format!("Task {number}"), "labels": ["none"]}))
        .collect();
    app.admin().post("/api/batch/tasks", json!(tasks)).await.good();
    for number in 0..120 {
        let agent = json!({"id": format!("a{number:03}"), "models": [format!("m{number}")]});
        app.admin().post("/api/agents", agent).await.good();
    }
    for (start, prefix, expected) in [
        ("/dashboard/queue", "/dashboard/tasks/t", 120),
        ("/dashboard/queue?status=pending", "/dashboard/tasks/t", 120),
        ("/dashboard/fleet", "/dashboard/agents/a", 120),
        ("/dashboard/fleet?search=A11", "/dashboard/agents/a", 10),
        ("/dashboard/limits", "/dashboard/limits?scope=agent:a", 120),
    ] {
        let (mut path, mut seen, mut pages) = (Some(start.to_owned()), std::collections::BTreeSet::new(), 0);
        while let Some(address) = path {
            let page = app.admin().get(&address).await.text;
            pages += 1;
            assert!(pages < 10, "{start} does not end");
            seen.extend(
                page.split(&format!("href=\"{prefix}"))
                    .skip(1)
                    .map(|rest| rest.split('"').next().unwrap().to_owned()),
            );
            path = page
                .split("\" rel=\"next\"")
                .next()
                .filter(|before| before.len() < page.len())
                .map(|before| before.rsplit("href=\"").next().unwrap().replace("&amp;", "&"));
        }
        assert_eq!((seen.len(), pages > 1), (expected, expected > 50), "{start}");
    }
}

#[tokio::test]
async fn the_content_alone_is_given_to_who_has_the_rest() {
    let app = TestApp::full().await;
    app.admin()
        .post("/api/tasks", json!({"id": "t", "title": "<b>bold</b>"}))
        .await
        .good();
    for part in ["content", "newest"] {
        let headers = [("adjutant-part", part)];
        let reply = app.admin().ask("GET", "/dashboard/queue", &headers, None).await;
        assert!(
            reply.text.contains("data-live") && !reply.text.contains("<html"),
            "{part}"
        );
        assert!(reply.text.contains("&lt;b&gt;bold&lt;/b&gt;"), "{part}");
    }
}

#[tokio::test]
async fn a_change_is_told_to_open_pages() {
    let app = TestApp::full().await;
    let response = app.admin().send("GET", "/dashboard/pulse", &[], None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    app.admin().post("/api/tasks", json!({"title": "x"})).await.good();
    let mut heard = String::new();
    while !heard.contains("data: ") {
        let frame = body.frame().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    // And no more once the token is gone.
    app.admin().delete("/api/tokens/admin").await.good();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
}
