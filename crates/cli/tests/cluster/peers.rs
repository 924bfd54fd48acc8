//! An agent that is reached by A2A has one server of several: the next one at once when that one stops, and after a ttl
//! when it is killed.

use std::time::Duration;

use adjutant_postgres_fixture::shared;
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::Server;
use crate::support::api::Api;

const PATIENCE: Duration = Duration::from_mins(1);

/// The attempt of the far server that does what `id` asks for, once its agent has taken it.
fn taken(far: &Api, id: &str) -> Value {
    within(PATIENCE, id, || {
        let given = far.sync("hand", &json!({"running": [], "wait": 1}));
        let start = given["start"].as_array()?.first()?.clone();
        let running = json!([{"id": start["task"]["id"], "attempt": start["attempt"]}]);
        far.sync("hand", &json!({"running": running}));
        Some(start)
    })
}

fn finish(far: &Api, start: &Value) {
    let id = start["task"]["id"].as_str().unwrap();
    let result = json!({"success": true, "output": "done", "attempt": start["attempt"]});
    far.done(&format!("/api/tasks/{id}/complete"), &result);
}

/// Waits until the near servers know which task of the far one theirs is.
fn noted(near: &Api, id: &str) {
    within(PATIENCE, "its id is noted", || {
        let task = near.get(&format!("/api/tasks/{id}"));
        (!task["notes"].as_array()?.is_empty()).then_some(())
    });
}

#[test]
fn the_next_server_speaks_for_the_agents_of_the_one_before() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "15s");
    let home = tempfile::tempdir().unwrap();
    let far = Server::start_in(home.path(), &["--open"]);
    let far_api = Api::of(&far);
    far_api.done("/api/agents", &json!({"id": "hand"}));

    let (first, api) = start.one();
    api.done(
        "/api/agents",
        &json!({"id": "far", "protocol": "a2a", "url": far.url}),
    );
    let (second, other) = start.one();
    api.submit("one");
    let attempt = taken(&far_api, "one");
    noted(&other, "one");
    assert_eq!(first.terminate(), 0);
    finish(&far_api, &attempt);
    let done = |id: &str| (other.status(id) == "completed").then(|| other.get(&format!("/api/tasks/{id}")));
    let one = within(PATIENCE, "one is completed", || done("one"));
    assert_eq!(
        (&one["attempt"], &one["retry_count"]),
        (&json!(1), &json!(0)),
        "{one}"
    );

    other.submit("two");
    let lost = taken(&far_api, "two");
    noted(&other, "two");
    second.kill();
    let (third, other) = start.one();
    // Retried once the agent counts as gone, and sent anew: nobody knows what the dead server had heard.
    within(PATIENCE, "two is lost", || {
        (other.get("/api/tasks/two")["retry_count"] == 1).then_some(())
    });
    finish(&far_api, &lost);
    other.done("/api/tasks/two/retry", &json!({}));
    let again = taken(&far_api, "two");
    finish(&far_api, &again);
    let two = within(PATIENCE, "two is completed", || {
        let task = other.get("/api/tasks/two");
        (task["status"] == "completed").then_some(task)
    });
    assert_eq!(two["attempt"], 2, "{two}");
    assert_eq!(third.terminate(), 0);
    books::check(&database);
}
