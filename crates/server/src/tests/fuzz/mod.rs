//! Input that nobody would send on purpose, through the whole router: it is refused by name, or it is taken and can be
//! read again. A few hundred cases each time; `PROPTEST_CASES` says how many instead.

mod bodies;
mod heads;
mod odd;

use std::collections::BTreeSet;
use std::time::Duration;

use adjutant_wire as wire;
use axum::body::Body;
use http::{HeaderValue, Request};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::{Value, json};

use super::{Peer, Reply, TestApp};
use crate::access::table::Endpoint;

/// What is to be the same before and after a refusal.
async fn everything(app: &TestApp) -> String {
    let mut all = String::new();
    for path in [
        "/api/tasks",
        "/api/agents",
        "/api/events?limit=1000",
        "/api/limits/fleet",
        "/api/allowances/a",
        "/api/models/m",
        "/api/repos/o/n",
        "/api/tokens",
        "/api/webhooks",
        "/api/tasks/t/output",
        "/api/status",
    ] {
        let reply = app.admin().get(path).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        // What cannot be read again would stop every client that lists it.
        let read: Result<Value, _> = serde_json::from_str(&reply.text);
        assert!(read.is_ok(), "{path} is not readable: {}", reply.text);
        all.push_str(&reply.text);
        all.push('\n');
        match path {
            "/api/tasks" => drop(serde_json::from_str::<Vec<wire::Task>>(&reply.text).unwrap()),
            "/api/agents" => drop(serde_json::from_str::<Vec<wire::Agent>>(&reply.text).unwrap()),
            "/api/status" => drop(serde_json::from_str::<wire::FleetStatus>(&reply.text).unwrap()),
            _ => {}
        }
    }
    all
}

/// Agent `a` runs task `t`; task `free` waits for nobody.
async fn world() -> TestApp {
    let app = TestApp::light().await;
    let admin = app.admin();
    admin
        .post("/api/agents", json!({"id": "a", "session": "s"}))
        .await
        .good();
    admin
        .post("/api/tasks", json!({"id": "t", "title": "x"}))
        .await
        .good();
    admin
        .post(
            "/api/tasks",
            json!({"id": "free", "title": "x", "labels": ["nobody"]}),
        )
        .await
        .good();
    app
}

/// Sends bytes as they are; none when the answer is waited for, as a roll-call may.
async fn send(
    app: &TestApp,
    method: &str,
    path: &str,
    headers: &[(&str, HeaderValue)],
    body: Vec<u8>,
) -> Option<Reply> {
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    let mut request = Request::builder().method(method).uri(path).extension(Peer {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        standing: std::sync::Arc::default(),
    });
    for (name, value) in [
        ("host", "localhost"),
        ("authorization", "Bearer admin"),
        ("content-type", "application/json"),
    ] {
        if headers.iter().all(|(own, _)| *own != name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        request = request.header(*name, value.clone());
    }
    let answer = app.router.clone().call(request.body(Body::from(body)).unwrap());
    let answered = tokio::time::timeout(Duration::from_millis(300), answer).await;
    let Ok(response) = answered else {
        assert!(path.ends_with("/sync"), "{path} does not answer");
        return None;
    };
    let (parts, body) = response.unwrap().into_parts();
    // A stream has no end.
    let streams = parts
        .headers
        .get("content-type")
        .is_some_and(|kind| kind == "text/event-stream");
    let text = if streams {
        String::new()
    } else {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    Some(Reply {
        status: parts.status,
        headers: parts.headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    })
}

/// Asserts that a refusal is one that the endpoint may give, and that it names a field where it is about one.
fn is_lawful(endpoint: &Endpoint, names: &BTreeSet<String>, code: u16, error: &Value, sent: &str) {
    assert!((400..500).contains(&code), "{code} {error} for {sent}");
    assert_eq!(error["code"], code, "{error}");
    let slug = error["error"].as_str().unwrap();
    let slugs = endpoint.slugs();
    assert!(
        slugs.iter().any(|own| own.name() == slug),
        "{slug} is not one of {}",
        endpoint.path
    );
    let message = error["message"].as_str().unwrap();
    // U+0000 is refused in fields that nobody knows as well.
    if slug == "invalid_field" && !message.contains("U+0000") {
        let is_field = |text: &str| names.contains(text.split(['.', '[', ':']).next().unwrap_or(text));
        let inside = message.split('`').nth(1).is_some_and(is_field);
        assert!(
            is_field(message) || inside,
            "no field is named: {message} for {sent}"
        );
    }
}

fn run<S: Strategy>(default: u32, strategy: &S, mut check: impl AsyncFnMut(S::Value)) {
    let mut cases = Cases {
        failure_persistence: None,
        ..Cases::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        cases.cases = default;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let check = std::cell::RefCell::new(&mut check);
    TestRunner::new(cases)
        .run(strategy, |value| {
            runtime.block_on((check.borrow_mut())(value));
            Ok(())
        })
        .unwrap();
}
