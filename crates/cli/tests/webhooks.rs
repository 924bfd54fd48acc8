//! Webhooks of the real binary: told through kill -9, and verified as the document says.

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::api::Api;
use support::place::Place;
use support::{Server, eventually};

fn serve(directory: &std::path::Path) -> Server {
    Server::start_in(directory, &["--allow-private-peers"])
}

#[test]
fn a_server_that_is_killed_again_and_again_tells_everything_and_little_twice() {
    const KILLS: usize = 12;
    const TASKS: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new();
    let server = serve(directory.path());
    server
        .run(&["webhook", "add", "w", &place.url, "--event", "task_created"])
        .ok();
    let mut server = Some(server);
    for kill in 0..KILLS {
        let running = server.take().unwrap_or_else(|| serve(directory.path()));
        let api = Api::of(&running);
        for number in 0..TASKS {
            api.submit(&format!("t{kill}-{number}"));
        }
        thread::sleep(Duration::from_millis(40 * kill as u64 % 170));
        running.kill();
    }
    let server = serve(directory.path());
    let told = || -> BTreeSet<String> {
        let messages = place.came();
        let tasks = messages
            .iter()
            .map(|message| message.data()["task_id"].to_string());
        tasks.collect()
    };
    eventually("every event", || (told().len() == KILLS * TASKS).then_some(()));
    // The same event is the same message, and no other is.
    let pairs: BTreeSet<(String, String)> = place
        .came()
        .iter()
        .map(|message| {
            (
                message.header("webhook-id").to_owned(),
                message.data()["seq"].to_string(),
            )
        })
        .collect();
    assert_eq!(pairs.len(), KILLS * TASKS);
    let api = Api::of(&server);
    eventually("a cursor at the end", || {
        let told = place
            .came()
            .iter()
            .filter_map(|message| message.data()["seq"].as_u64())
            .max();
        (api.get("/api/webhooks/w")["cursor"].as_u64() >= told).then_some(())
    });
    let before = place.came().len();
    assert_eq!(server.terminate(), 0);
    // What was acknowledged by a clean end is not told again.
    let server = serve(directory.path());
    Api::of(&server).submit("last");
    eventually("the last", || (place.came().len() > before).then_some(()));
    assert_eq!(server.terminate(), 0);
    assert_eq!(place.came().len(), before + 1);
    let audit = support::run(directory.path(), &["doctor", "--store", "sqlite:./adjutant.db"]);
    audit.ok();
}

#[test]
fn the_python_of_the_document_verifies_what_is_sent_and_nothing_else() {
    let document = include_str!("../../../docs/webhooks.md");
    let code = document
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the document has Python");
    let there = Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if there.is_err() {
        // The document is about Python, but the program does not need it.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new();
    let server = serve(directory.path());
    let added = server.run(&["webhook", "add", "w", &place.url, "--json"]).json();
    server.run(&["webhook", "test", "w"]).ok();
    let message = place.came().remove(0);
    let headers: serde_json::Map<String, Value> = message
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let input = json!({
        "secret": added["secret"],
        "headers": headers,
        "body": String::from_utf8(message.body.clone()).unwrap(),
    });
    let program = format!(
        r#"{code}
import json, sys
given = json.load(sys.stdin)
secret, headers, body = given["secret"], given["headers"], given["body"].encode()
assert verify(secret, headers, body)
assert not verify(secret, headers, body + b" ")
assert not verify("whsec_" + base64.b64encode(b"x" * 32).decode(), headers, body)
assert not verify(secret, headers | {{"webhook-id": "evt_other"}}, body)
assert not verify(secret, headers, body, now=time.time() + 3600)
# The vector of the reference libraries.
assert verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", {{
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}},
    b'{{"test": 2432232314}}', now=1614265330)
print("verified")
"#
    );
    let mut python = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"verified\n");
}

#[test]
fn a_server_that_is_its_own_place_refuses_itself_and_does_not_go_round() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path());
    let api = Api::of(&server);
    for (name, path) in [("w", "/api/tasks"), ("reset", "/api/limits/fleet/reset")] {
        let url = format!("{}{path}", server.url);
        server.run(&["webhook", "add", name, &url]).ok();
    }
    api.submit("one");
    let seen = |name: &str| api.get(&format!("/api/webhooks/{name}/deliveries"));
    for name in ["w", "reset"] {
        let refused = eventually("its refusal", || {
            let listed = seen(name);
            (!listed.as_array()?.is_empty()).then_some(listed)
        });
        // Whatever it is told of itself has no token.
        assert_eq!(refused[0]["error"], "it answered 401 Unauthorized", "{refused}");
    }
    let events = api.get("/api/events");
    let kinds: BTreeSet<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert!(!kinds.contains("quota_reset"), "{events}");
    assert_eq!(api.get("/api/tasks").as_array().unwrap().len(), 1);
    assert_eq!(server.terminate(), 0);
}
