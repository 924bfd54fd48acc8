//! Bodies of every endpoint that takes one.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::odd::{Right, bent, field_names, odd_value, right};
use super::{everything, is_lawful, run, send, world};
use crate::access::table::endpoints;

/// Sends a body where it does not belong, and looks at what came of it.
async fn try_body(names: &BTreeSet<String>, (method, route, path, _): &Right, body: Vec<u8>) {
    let app = world().await;
    let endpoint = endpoints()
        .into_iter()
        .find(|endpoint| endpoint.path == *route && endpoint.method == *method)
        .unwrap();
    let sent = format!(
        "{method} {path} {}",
        String::from_utf8_lossy(&body[..body.len().min(2_000)])
    );
    let before = everything(&app).await;
    let Some(reply) = send(&app, method, path, &[], body).await else {
        return;
    };
    let after = everything(&app).await;
    let code = reply.status.as_u16();
    if code >= 400 {
        is_lawful(&endpoint, names, code, &reply.body, &sent);
        assert_eq!(
            before, after,
            "a refusal changed something: {code} {} for {sent}",
            reply.text
        );
    }
    let items = reply.body.as_array().or_else(|| reply.body["done"].as_array());
    for item in items
        .into_iter()
        .flatten()
        .filter(|item| item["error"].is_object())
    {
        let code = u16::try_from(item["status"].as_u64().unwrap()).unwrap();
        is_lawful(&endpoint, names, code, &item["error"], &sent);
    }
}

#[test]
fn right_bodies_are_taken() {
    // Otherwise the tests below would bend what is refused anyway.
    run(1, &Just(()), async |()| {
        for (method, _, path, body) in right() {
            let app = world().await;
            let reply = send(&app, method, path, &[], body.to_string().into_bytes())
                .await
                .unwrap();
            assert!(reply.status.is_success(), "{method} {path}: {}", reply.text);
            if let Some(items) = reply.body.as_array() {
                assert!(items.iter().all(|item| item["error"].is_null()), "{}", reply.text);
            }
        }
    });
}

#[test]
fn a_bent_body_is_refused_by_name_or_can_be_read_again() {
    let names = field_names();
    let change = (any::<prop::sample::Index>(), any::<u8>(), odd_value());
    let strategy = (select(right()), prop::collection::vec(change, 1..3));
    run(300, &strategy, async |(right, changes)| {
        let body = bent(&right.3, &changes);
        try_body(&names, &right, body.into_bytes()).await;
    });
}

#[test]
fn any_bytes_and_any_json_are_answered() {
    let names = field_names();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        odd_value().prop_map(String::into_bytes),
        (odd_value(), odd_value()).prop_map(|(a, b)| format!("{{\"id\": {a}, \"title\": {b}}}").into_bytes()),
        odd_value().prop_map(|value| format!("[{value}, {{}}]").into_bytes()),
    ];
    run(200, &(select(right()), bytes), async |(right, body)| {
        try_body(&names, &right, body).await;
    });
}
