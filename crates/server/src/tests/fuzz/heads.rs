//! Everything of a request but its body: queries, headers, paths.

use http::HeaderValue;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::{everything, run, send, world};
use crate::tests::TestApp;

#[test]
fn any_query_is_answered_or_refused_by_its_parameter() {
    const PARAMETERS: &[&str] = &[
        "status",
        "priority",
        "project",
        "claimed_by",
        "labels",
        "limit",
        "cursor",
        "since",
        "model",
        "capabilities",
        "cascade",
        "other",
    ];
    let value = prop_oneof![
        select(vec![
            "",
            "0",
            "-1",
            "1001",
            "1.5",
            "9223372036854775807",
            "9223372036854775808",
            "99999999999999999999",
            "0.1",
            "1.9223372036854775807",
            "2.-9223372036854775808",
            "9.1",
            ".",
            "%00",
            "%ff",
            "%",
            "%f",
            "%zz",
            "a%2Cb",
            "+",
            "%F0%9F%98%80",
            "pending",
            "high",
            "true",
            "a,,b",
            "%0a",
            "1.%2B1",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9.,%+=&;/?-]{0,12}",
    ];
    let query = prop::collection::vec((select(PARAMETERS), value), 0..4);
    let paths = select(vec![
        "/api/tasks",
        "/api/agents",
        "/api/events",
        "/api/tasks/t/events",
        "/api/allowances/a/check",
        "/api/status",
    ]);
    let runtime_app = std::cell::OnceCell::new();
    run(300, &(paths, query), async |(path, query)| {
        if runtime_app.get().is_none() {
            drop(runtime_app.set(world().await));
        }
        let app = runtime_app.get().unwrap();
        let pairs: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let uri = format!("{path}?{}", pairs.join("&"));
        let reply = send(app, "GET", &uri, &[], Vec::new()).await.unwrap();
        let code = reply.status.as_u16();
        assert!(code == 200 || code == 422, "{uri}: {}", reply.text);
        if code == 422 {
            let message = reply.body["message"].as_str().unwrap();
            assert_eq!(reply.body["error"], "invalid_field");
            assert!(message.contains(": "), "{uri}: {message}");
        }
        if let Some(link) = reply.headers.get("link") {
            assert!(
                link.to_str().unwrap().ends_with("rel=\"next\""),
                "{uri}: {link:?}"
            );
        }
    });
}

/// Asserts that a header that let a request in is one of this server's and its administrator's.
fn assert_ours(name: &str, said: &str) {
    match name {
        "host" => {
            let host = said
                .rsplit_once(':')
                .map_or(said, |(host, _)| host)
                .to_lowercase();
            let ours = matches!(&*host, "localhost" | "127.0.0.1" | "[::1]");
            assert!(ours || said == "::1", "let in: {said}");
        }
        "origin" => {
            let said = said.to_lowercase();
            let (_, host) = said.split_once("://").unwrap();
            assert!(
                host == "localhost" || host.starts_with("localhost:"),
                "let in: {said}"
            );
        }
        "authorization" => assert_eq!(said.split_whitespace().nth(1), Some("admin"), "let in: {said}"),
        _ => {}
    }
}

#[test]
fn any_header_is_answered_and_a_foreign_name_never_let_in() {
    let text = prop_oneof![
        select(vec![
            "",
            "-1",
            "0",
            "18446744073709551615",
            "9223372036854775808",
            "x",
            "1 2",
            "localhost",
            "localhost:1",
            "LOCALHOST",
            "[::1]:7717",
            "127.0.0.1",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil@localhost",
            "http://localhost",
            "http://localhost:99999",
            "null",
            "http://evil.example",
            "localhost, evil.example",
            "http://localhost@evil.example",
            "http://[::1",
            "::1",
            "text/event-stream",
            "application/json; charset=x",
            "Bearer",
            "Bearer ",
            "Bearer admin",
            "bearer  admin",
            "Basic admin",
            "Bearer att_.",
            "Bearer att_e30.00",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(0x20_u8..0x7f, 0..24),
        prop::collection::vec(0x80_u8..=0xff, 1..12),
        Just(vec![b'k'; 256]),
    ];
    let names = select(vec![
        "host",
        "origin",
        "last-event-id",
        "idempotency-key",
        "content-type",
        "authorization",
        "accept",
        "content-length",
    ]);
    let paths = select(vec![
        ("GET", "/api/events"),
        ("POST", "/api/tasks"),
        ("POST", "/api/tasks/t/claim"),
    ]);
    run(
        200,
        &(paths, names, text),
        async |((method, path), name, value)| {
            let app = world().await;
            let before = everything(&app).await;
            let mut headers = vec![(name, HeaderValue::from_bytes(&value).unwrap())];
            // A stream is asked for where it is resumed.
            if name == "last-event-id" {
                headers.push(("accept", HeaderValue::from_static("text/event-stream")));
            }
            let body = if method == "POST" {
                b"{\"title\": \"x\"}".to_vec()
            } else {
                Vec::new()
            };
            let reply = send(&app, method, path, &headers, body).await.unwrap();
            let (code, said) = (
                reply.status.as_u16(),
                String::from_utf8_lossy(&value).into_owned(),
            );
            assert!(code < 500, "{name}: {said}: {}", reply.text);
            if code >= 400 {
                assert_eq!(before, everything(&app).await, "{name}: {said}");
            } else {
                assert_ours(name, &said);
            }
        },
    );
}

#[test]
fn any_path_is_answered_with_json() {
    let part = prop_oneof![
        select(vec![
            "%00",
            "%2F",
            "%2e%2e",
            "..",
            ".",
            "%ff",
            "%",
            "a%20b",
            "fleet",
            "agent:",
            "repo:o",
            "model:%2F",
            "%0a",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9:._%-]{1,8}",
        Just("x".repeat(300)),
    ];
    let before = select(vec![
        "/api/tasks/",
        "/api/agents/",
        "/api/limits/",
        "/api/allowances/",
        "/api/models/",
        "/api/repos/o/",
    ]);
    run(200, &(before, part), async |(before, part)| {
        let app = TestApp::light().await;
        let uri = format!("{before}{part}");
        let reply = send(&app, "GET", &uri, &[], Vec::new()).await.unwrap();
        let code = reply.status.as_u16();
        assert!(
            matches!(code, 200 | 400 | 404 | 422),
            "{uri}: {code} {}",
            reply.text
        );
        assert!(
            serde_json::from_str::<Value>(&reply.text).is_ok(),
            "{uri}: {}",
            reply.text
        );
    });
}
