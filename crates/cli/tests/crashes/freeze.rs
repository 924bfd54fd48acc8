//! A server that stands still for longer than agents may be silent: nobody is reaped for it.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::books::Books;
use crate::places;
use crate::support::Server;
use crate::support::api::Api;

#[test]
fn a_frozen_server_reaps_nobody_when_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &["--agent-ttl", "2s"]);
    let api = Api::of(&server);
    let agent = json!({ "id": "ann", "session": "s", "max_load": 2 });
    api.post("/api/agents", &agent).unwrap().good();
    api.submit("long");
    let running = json!({ "session": "s", "running": [{ "id": "long", "attempt": 1 }] });
    let sync = || api.post("/api/agents/ann/sync", &running).unwrap().good();
    assert_eq!(
        api.post("/api/agents/ann/sync", &json!({ "session": "s", "running": [] }))
            .unwrap()
            .good()["start"][0]["attempt"],
        1
    );
    sync();

    server.signal("STOP");
    // Twice the time that an agent may be silent: there is no signal to wait for, time itself is what is tested.
    thread::sleep(Duration::from_secs(4));
    server.signal("CONT");
    // The agent's own next sync comes a while later, and before a full ttl has passed.
    thread::sleep(Duration::from_secs(1));
    let answer = sync();
    assert_eq!(answer["stop"], json!([]));
    let end = json!({ "agent_id": "ann", "attempt": 1, "success": true });
    api.post("/api/tasks/long/complete", &end).unwrap().good();
    assert_eq!(api.get("/api/tasks/long")["attempt"], 1);
    assert_eq!(server.terminate(), 0);

    let books = Books::open(&places::store(directory.path()));
    for kind in [
        "agent_offline",
        "lease_expired",
        "task_attempt_failed",
        "task_retried",
    ] {
        assert!(books.events(kind).is_empty(), "{kind}");
    }
}
