//! Agents that the server speaks for, at a peer that says anything.

mod party;
mod stub;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::agent::Peer;
use adjutant_core::command::{Command, NewAgent};
use serde_json::{Value, json};

use self::party::{Party, SOON};
use self::stub::{Asked, Does, Stub, saying, task};
use super::TestApp;
use crate::config::Config;

fn no_card() -> Does {
    Does::Refuse(404, json!({}))
}

/// What a peer with HTTP+JSON does that gives its task `states`, one after the other, and the last for ever.
fn through(states: Vec<Value>) -> impl Fn(&Asked, usize) -> Does + Send + Sync {
    move |asked, before| match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"task": task("SUBMITTED", &json!({}))})),
        "GET /tasks/far-1" => Does::Say(states[before.min(states.len() - 1)].clone()),
        "POST /tasks/far-1:cancel" => Does::Say(task("CANCELED", &json!({}))),
        _ => no_card(),
    }
}

#[tokio::test]
async fn a_peer_gets_a_task_and_what_it_says_is_kept() {
    let used = json!({"adjutant": {"progress": 40, "usage": {
        "tokens_in": 100, "tokens_out": 20, "tokens_cached": 5, "cost": 12.5,
        "models": [{"model": "m", "tokens_in": 100, "tokens_out": 20, "tokens_cached": 5, "cost": 12.5}]}}});
    let mut working = saying("WORKING", "reading\u{1b}[31m");
    working["metadata"] = used.clone();
    let done = task(
        "COMPLETED",
        &json!({"metadata": used, "artifacts": [
            {"artifactId": "a", "parts": [{"text": "one"}, {"data": {"two": 2}}]},
            {"artifactId": "b", "parts": [{"url": "https://made.example/"}, {"raw": "AAAA", "filename": "f.bin"}]}]}),
    );
    let stub = Stub::new(through(vec![working.clone(), working, done])).await;
    let party = Party::with(&stub).await;
    party
        .submit(
            json!({"description": "All of it", "payload": {"k": 1}, "labels": ["go"],
            "files": ["src/lib.rs", "https://read.example/"]}),
        )
        .await;
    party.until(|task| task["progress"] == 40).await;
    let ended = party.ended().await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(
        ended["result"],
        json!({"success": true, "output": "one\n\n{\"two\":2}", "error_message": "",
            "artifacts": ["https://made.example/", "f.bin (3 bytes, not kept)"]})
    );
    assert_eq!(
        (&ended["usage"]["cost"], &ended["usage"]["models"][0]["model"]),
        (&json!(12.5), &json!("m"))
    );
    let notes: Vec<_> = ended["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| &note["text"])
        .collect();
    assert_eq!(notes, ["a2a task far-1", "reading[31m"]);
    let sent = &stub.asked("POST /message:send")[0];
    assert_eq!(sent.headers["a2a-version"], "1.0");
    assert_eq!(sent.body["configuration"]["returnImmediately"], true);
    let message = &sent.body["message"];
    assert_eq!(
        (&message["messageId"], &message["role"]),
        (&json!("x/1"), &json!("ROLE_USER"))
    );
    assert_eq!(
        message["parts"],
        json!([{"text": "Do it\n\nAll of it"}, {"data": {"k": 1}, "mediaType": "application/json"},
            {"text": "Files:\nsrc/lib.rs"}, {"url": "https://read.example/"}])
    );
    let agent = party.read("/api/agents/p").await;
    assert_eq!(
        (&agent["protocol"], &agent["addresses"]),
        (&json!("a2a"), &json!(["127.0.0.1"]))
    );
    assert_eq!(agent["current_load"], 0);
}

#[tokio::test]
async fn a_peer_that_speaks_json_rpc_is_spoken_to_so() {
    let stub = Stub::new(|asked, before| {
        let url = format!("http://{}/rpc", asked.headers["host"].to_str().unwrap());
        let card = json!({"name": "p", "version": "1", "capabilities": {}, "supportedInterfaces": [
            {"url": "grpc://elsewhere.example", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]});
        let answer = |result: Value| Does::Say(json!({"jsonrpc": "2.0", "id": 1, "result": result}));
        match (asked.what.as_str(), asked.body["method"].as_str()) {
            ("GET /.well-known/agent-card.json", _) => Does::Say(card),
            ("POST /rpc", Some("SendMessage")) => answer(json!({"task": task("WORKING", &json!({}))})),
            ("POST /rpc", Some("GetTask")) if before < 3 => answer(task("WORKING", &json!({}))),
            ("POST /rpc", Some("GetTask")) => answer(saying("COMPLETED", "well done")),
            _ => Does::Refuse(500, json!({})),
        }
    })
    .await;
    let party = Party::with(&stub).await;
    party.submit(json!({})).await;
    let ended = party.ended().await;
    assert_eq!(
        (&ended["status"], &ended["result"]["output"]),
        (&json!("completed"), &json!("well done"))
    );
}

#[tokio::test]
async fn a_message_is_the_whole_answer() {
    let stub = Stub::new(|asked, _| match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"message": {"messageId": "m", "role": "ROLE_AGENT",
            "parts": [{"text": "42"}], "metadata": {"usage": {"input_tokens": 7, "output_tokens": 1}}}})),
        _ => no_card(),
    })
    .await;
    let party = Party::with(&stub).await;
    party.submit(json!({})).await;
    let ended = party.ended().await;
    assert_eq!(ended["result"]["output"], "42");
    assert_eq!(
        (&ended["usage"]["tokens_in"], &ended["usage"]["tokens_out"]),
        (&json!(7), &json!(1))
    );
}

/// What a peer does when it is sent a task.
fn sent(does: fn() -> Does) -> impl Fn(&Asked, usize) -> Does + Send + Sync {
    move |asked, _| {
        if asked.what == "POST /message:send" {
            does()
        } else {
            no_card()
        }
    }
}

/// What a peer does when it is asked for its card.
fn carded(does: fn() -> Does) -> impl Fn(&Asked, usize) -> Does + Send + Sync {
    move |_, _| does()
}

fn card(interfaces: &Value) -> Does {
    Does::Say(json!({"name": "p", "version": "1", "capabilities": {}, "supportedInterfaces": interfaces}))
}

/// Asserts that a task that goes to this peer fails for this reason.
async fn fails(stub: Stub, why: &str) {
    let party = Party::patient(3).await;
    party.register(&stub.url()).await;
    party.submit(json!({})).await;
    let ended = party.ended().await;
    let reason = ended["fail_reason"].as_str().unwrap_or_default();
    assert_eq!(ended["status"], "failed", "{why}: {ended}");
    assert!(reason.contains(why), "{why}: {reason}");
}

#[tokio::test]
async fn whatever_a_peer_does_its_attempt_ends() {
    let flood = "it sent more than 4 MiB";
    tokio::join!(
        fails(Stub::new(through(vec![saying("FAILED", "no luck")])).await, "no luck"),
        fails(Stub::new(through(vec![saying("REJECTED", "not mine")])).await, "the peer rejected it: not mine"),
        fails(Stub::new(through(vec![task("CANCELED", &json!({}))])).await, "the peer cancelled it"),
        fails(Stub::new(through(vec![saying("INPUT_REQUIRED", "Which?")])).await, "asks for input, and nobody is there to answer: Which?"),
        fails(Stub::new(through(vec![task("AUTH_REQUIRED", &json!({}))])).await, "asks for authorisation"),
        fails(Stub::new(sent(|| Does::Refuse(400, json!({"error": {"message": "what?"}})))).await, "it answered 400 Bad Request: what?"),
        fails(Stub::new(sent(|| Does::Refuse(500, json!({})))).await, "it answered 500"),
        fails(Stub::new(sent(|| Does::Redirect)).await, "redirects are not followed"),
        fails(Stub::new(sent(|| Does::Hang)).await, "it did not answer within 3 s"),
        fails(Stub::new(sent(|| Does::Flood)).await, flood),
        fails(Stub::new(sent(|| Does::Text("<html>"))).await, "its answer cannot be read"),
        fails(Stub::new(sent(|| Does::Say(json!({"task": {"id": "a\nb", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}})))).await, "the id of its task cannot be used"),
        fails(Stub::new(carded(|| Does::Hang)).await, "it did not answer within 3 s"),
        fails(Stub::new(carded(|| Does::Redirect)).await, "redirects are not followed"),
        fails(Stub::new(carded(|| Does::Flood)).await, flood),
        fails(Stub::new(carded(|| Does::Text("{}"))).await, "its agent card cannot be read"),
        fails(Stub::new(carded(|| card(&json!([])))).await, "no interface of A2A 1.x"),
        fails(
            Stub::new(carded(|| card(&json!([{"url": "http://169.254.169.254/", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"}])))).await,
            "sends to http://169.254.169.254, which is not where it was registered",
        ),
    );
}

#[tokio::test]
async fn a_peer_that_goes_away_at_work_may_come_back_but_not_for_ever() {
    let back = Stub::new(|asked, before| match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"task": task("WORKING", &json!({}))})),
        "GET /tasks/far-1" if before < 2 => Does::Refuse(502, json!({})),
        "GET /tasks/far-1" => Does::Say(task("COMPLETED", &json!({}))),
        _ => no_card(),
    })
    .await;
    let party = Party::with(&back).await;
    party.submit(json!({})).await;
    assert_eq!(party.ended().await["status"], "completed");
    let busy = Stub::new(|asked, _| match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"task": task("WORKING", &json!({}))})),
        "GET /tasks/far-1" => Does::Wait(1),
        _ => no_card(),
    })
    .await;
    fails(busy, "it answered 429").await;
    let gone = Stub::new(|asked, _| match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"task": task("WORKING", &json!({}))})),
        "GET /tasks/far-1" => Does::Refuse(502, json!({})),
        _ => no_card(),
    })
    .await;
    fails(gone, "it answered 502").await;
}

#[tokio::test]
async fn what_is_cancelled_here_is_cancelled_there() {
    let stub = Stub::new(through(vec![task("WORKING", &json!({}))])).await;
    let party = Party::with(&stub).await;
    party.submit(json!({})).await;
    party.noted().await;
    party.app.admin().post_empty("/api/tasks/x/cancel").await.good();
    assert_eq!(party.ended().await["status"], "cancelled");
    tokio::time::timeout(SOON, async {
        while party.read("/api/agents/p").await["current_load"] != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(stub.asked("POST /tasks/far-1:cancel").len(), 1);
}

#[tokio::test]
async fn what_takes_too_long_is_stopped() {
    let stub = Stub::new(through(vec![task("WORKING", &json!({}))])).await;
    let party = Party::with(&stub).await;
    party.submit(json!({"timeout": 1})).await;
    let ended = party.ended().await;
    assert_eq!(ended["status"], "failed");
    tokio::time::timeout(SOON, async {
        while stub.asked("POST /tasks/far-1:cancel").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_busy_peer_is_left_alone_and_the_task_is_not_to_blame() {
    let stub = Stub::new(sent(|| Does::Wait(600))).await;
    let party = Party::with(&stub).await;
    party.submit(json!({})).await;
    let task = party
        .until(|task| task["status"] == "pending" && task["attempt"] == 1)
        .await;
    assert_eq!(task["retry_count"], 0);
    assert!(party.read("/api/agents/p").await["paused_until"].is_string());
}

#[tokio::test]
async fn the_next_server_goes_on_with_what_the_peer_was_sent() {
    let stub = Stub::new(through(vec![
        task("WORKING", &json!({})),
        task("WORKING", &json!({})),
        task("WORKING", &json!({})),
        saying("COMPLETED", "kept"),
    ]))
    .await;
    let mut party = Party::with(&stub).await;
    party.submit(json!({})).await;
    party.noted().await;
    party.restart().await;
    let ended = party.ended().await;
    assert_eq!(
        (&ended["result"]["output"], &ended["attempt"]),
        (&json!("kept"), &json!(1))
    );
    assert_eq!(stub.asked("POST /message:send").len(), 1);
    assert!(stub.asked("POST /tasks/far-1:cancel").is_empty());
}

#[tokio::test]
async fn an_agent_that_moves_is_asked_at_its_new_place() {
    let old = Stub::new(through(vec![task("WORKING", &json!({}))])).await;
    let new = Stub::new(through(vec![saying("COMPLETED", "here")])).await;
    let party = Party::with(&old).await;
    party.submit(json!({"max_retries": 3})).await;
    party.noted().await;
    party.register(&new.url()).await;
    let task = party.until(|task| task["status"] == "pending").await;
    assert_eq!(task["retry_count"], 1);
    party.app.admin().post_empty("/api/tasks/x/retry").await.good();
    assert_eq!(party.ended().await["result"]["output"], "here");
}

#[tokio::test]
async fn what_does_not_make_sense_is_refused_when_it_registers() {
    let app = TestApp::light().await;
    let with = |more: Value| {
        let mut agent = json!({"id": "p", "protocol": "a2a", "url": "https://192.0.78.1/"});
        for (name, value) in more.as_object().unwrap() {
            agent[name] = value.clone();
        }
        agent
    };
    for (more, says) in [
        (
            json!({"url": "http://127.0.0.1:1"}),
            "url: `127.0.0.1` is at 127.0.0.1, a loopback address",
        ),
        (json!({"url": "http://localhost"}), "a loopback address"),
        (json!({"url": "http://[::1]"}), "a loopback address"),
        (json!({"url": "http://169.254.169.254"}), "a link-local address"),
        (json!({"url": "http://no-such-host.invalid"}), "cannot be found"),
        (
            json!({"url": "ftp://192.0.78.1"}),
            "url: must begin with https://",
        ),
        (json!({"url": null}), "url: is missing"),
        (json!({"protocol": null}), "protocol: is missing"),
        (json!({"protocol": "mcp"}), "protocol: must be a2a"),
        (json!({"session": "s"}), "session: has no place beside url"),
        (json!({"token_env": "HOME"}), "token_env: must be the name"),
        (
            json!({"token_env": "ADJUTANT_PEER_"}),
            "token_env: must be the name",
        ),
        (
            json!({"url": null, "protocol": null, "token_env": "ADJUTANT_PEER_X"}),
            "token_env: needs a url",
        ),
    ] {
        let message = app
            .admin()
            .post("/api/agents", with(more.clone()))
            .await
            .refused(422, "invalid_field");
        assert!(message.contains(says), "{more}: {message}");
    }
    let own = app.with_roles("own", &["agent:p"]).await;
    own.post("/api/agents", with(json!({})))
        .await
        .refused(403, "forbidden");
    app.admin()
        .post("/api/agents", with(json!({"token_env": "ADJUTANT_PEER_X"})))
        .await
        .good();
    app.admin()
        .post("/api/agents", json!({"id": "p"}))
        .await
        .refused(409, "wrong_state");
    own.post("/api/agents", json!({"id": "p"}))
        .await
        .refused(403, "forbidden");
    own.post("/api/agents/p/sync", json!({"running": []}))
        .await
        .refused(409, "superseded");
}

/// A peer that works until it is asked for the task's end.
fn at_work(asked: &Asked) -> Does {
    match asked.what.as_str() {
        "POST /message:send" => Does::Say(json!({"task": task("WORKING", &json!({}))})),
        "GET /tasks/far-1" => Does::Say(saying("WORKING", "a2a task other")),
        _ => no_card(),
    }
}

#[tokio::test]
async fn a_peer_cannot_say_which_task_of_its_own_is_followed() {
    let ended = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&ended);
    let stub = Stub::new(move |asked, _| match asked.what.as_str() {
        "GET /tasks/far-1" if is_over.load(Ordering::Relaxed) => Does::Say(saying("COMPLETED", "mine")),
        _ => at_work(asked),
    })
    .await;
    let mut party = Party::with(&stub).await;
    party.submit(json!({})).await;
    party.noted().await;
    while stub.asked("GET /tasks/far-1").len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    party.restart().await;
    ended.store(true, Ordering::Relaxed);
    let task = party.ended().await;
    assert_eq!(
        (&task["result"]["output"], &task["attempt"]),
        (&json!("mine"), &json!(1))
    );
    assert!(stub.asked("GET /tasks/other").is_empty());
    assert_eq!(task["notes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_peer_that_is_away_when_the_next_server_begins_is_asked_again() {
    let stub = Stub::new(|asked, before| match (asked.what.as_str(), before) {
        ("GET /.well-known/agent-card.json", 1) => Does::Wait(600),
        ("GET /tasks/far-1", 2..) => Does::Say(saying("COMPLETED", "kept")),
        _ => at_work(asked),
    })
    .await;
    let mut party = Party::with(&stub).await;
    party.submit(json!({})).await;
    party.noted().await;
    party.restart().await;
    let task = party.ended().await;
    assert_eq!(
        (&task["result"]["output"], &task["attempt"]),
        (&json!("kept"), &json!(1))
    );
    assert_eq!(stub.asked("GET /.well-known/agent-card.json").len(), 3);
}

#[tokio::test]
async fn a_task_that_was_just_being_sent_is_sent_again_under_the_same_name() {
    let stub = Stub::new(|asked, before| match (asked.what.as_str(), before) {
        // For longer than a server waits that is to stop.
        ("POST /message:send", 0) => Does::Hang,
        ("GET /tasks/far-1", _) => Does::Say(saying("COMPLETED", "done")),
        _ => at_work(asked),
    })
    .await;
    let mut party = Party::patient(30).await;
    party.register(&stub.url()).await;
    party.submit(json!({})).await;
    while stub.asked("POST /message:send").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    party.restart().await;
    let task = party.ended().await;
    assert_eq!(
        (&task["result"]["output"], &task["attempt"]),
        (&json!("done"), &json!(1))
    );
    let sent = stub.asked("POST /message:send");
    assert_eq!(sent.len(), 2);
    assert_eq!(
        sent[0].body["message"]["messageId"],
        sent[1].body["message"]["messageId"]
    );
}

#[tokio::test]
async fn what_a_peer_has_used_when_it_is_stopped_is_booked() {
    let used = |tokens: u64| json!({"metadata": {"usage": {"input_tokens": tokens}}});
    let stub = Stub::new(move |asked, _| match asked.what.as_str() {
        "GET /tasks/far-1" => Does::Say(task("WORKING", &used(5))),
        "POST /tasks/far-1:cancel" => Does::Say(task("CANCELED", &used(9))),
        _ => at_work(asked),
    })
    .await;
    let party = Party::with(&stub).await;
    party.submit(json!({})).await;
    party.until(|task| task["usage"]["tokens_in"] == 5).await;
    party.app.admin().post_empty("/api/tasks/x/cancel").await.good();
    party.until(|task| task["usage"]["tokens_in"] == 9).await;
}

#[tokio::test]
async fn an_agent_that_moves_away_from_a_peer_that_hangs_is_served_at_once() {
    let old = Stub::new(sent(|| Does::Hang)).await;
    let new = Stub::new(through(vec![saying("COMPLETED", "here")])).await;
    let party = Party::patient(60).await;
    party.register(&old.url()).await;
    party.submit(json!({"max_retries": 3})).await;
    while old.asked("POST /message:send").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    party.register(&new.url()).await;
    party.until(|task| task["status"] == "pending").await;
    party.app.admin().post_empty("/api/tasks/x/retry").await.good();
    assert_eq!(party.ended().await["result"]["output"], "here");
}

#[tokio::test]
async fn an_address_inside_is_not_gone_to_by_a_server_that_may_not() {
    let stub = Stub::new(through(vec![task("COMPLETED", &json!({}))])).await;
    let party = Party::told(Config {
        allow_private_peers: false,
        ..Config::default()
    })
    .await;
    // As a server registered it that may.
    let peer = Peer {
        url: stub.url().into(),
        addresses: ["127.0.0.1".parse().unwrap()].into(),
        token_env: None,
    };
    let agent = NewAgent {
        id: "p".into(),
        name: "p".into(),
        capabilities: Arc::default(),
        models: Arc::default(),
        max_load: 1,
        metadata: None,
        session: None,
        peer: Some(Arc::new(peer)),
    };
    let register = Command::Register(agent);
    party
        .app
        .handle
        .call(Actor::admin(), register, None)
        .await
        .unwrap();
    party.submit(json!({})).await;
    let reason = party.ended().await["fail_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("127.0.0.1, a loopback address"), "{reason}");
    assert!(stub.asked("POST /message:send").is_empty());
}
