//! Hard limits end commands in the middle, and what was spent until then counts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Server, eventually, write};
use crate::{Worker, task_when, text_of};

/// Spends 100 tokens, or one cent, some twenty times a second, and writes down what it has spent.
const SPENDER: &str =
    r#"n=0; while :; do n=$((n + 1)); echo "$(printf "$REPORT" $n)"; echo $n >> spent.txt; sleep 0.05; done"#;

fn spender(server: &Server, report: &str) -> Worker {
    let mut command = server.command();
    command
        .args(["worker", "--id", "w", "--", "sh", "-c", SPENDER])
        .env("REPORT", report);
    Worker::start(server, "w", &mut command)
}

fn put(api: &Api, path: &str, body: &Value) {
    api.ask("PUT", path, Some(body)).unwrap().good();
}

/// How often the spender spent.
fn rounds(server: &Server) -> u64 {
    let text = std::fs::read_to_string(server.directory.join("spent.txt")).unwrap_or_default();
    text.lines().count() as u64
}

fn events(api: &Api, kind: &str) -> Vec<Value> {
    let events = api.get("/api/events?since=0&limit=1000");
    let of_kind = |event: &&Value| event["type"] == kind;
    events
        .as_array()
        .unwrap()
        .iter()
        .filter(of_kind)
        .cloned()
        .collect()
}

/// The attempt ended as released: no failure counted, the task waits for its limit, and nothing runs.
fn assert_released(api: &Api, task: &Value, detail: &str) {
    assert_eq!(
        (&task["retry_count"], &task["fail_reason"]),
        (&json!(0), &Value::Null),
        "{task}"
    );
    let waiting = task["waiting"]["detail"].as_str().unwrap();
    assert!(waiting.contains(detail), "{waiting}");
    assert_eq!(events(api, "task_released").len(), 1);
    assert_eq!(events(api, "task_attempt_failed").len(), 0);
    assert_eq!(api.get("/api/limits/agent:w")["active_jobs"], 0);
}

#[test]
fn a_command_that_spends_beyond_its_agents_daily_tokens_is_stopped_in_the_middle() {
    let server = Server::start();
    let api = Api::of(&server);
    put(
        &api,
        "/api/allowances/w",
        &json!({"agent_id": "w", "daily_token_limit": 3000}),
    );
    api.submit("t");
    let started = Instant::now();
    let _worker = spender(&server, r#"{"tokens_in":%s00}"#);
    let task = task_when(&api, "t", |task| {
        task["status"] == "pending" && task["attempt"] == 1
    });
    let took = started.elapsed();
    assert_released(&api, &task, "daily token limit exceeded");
    // What was spent in the end is told too, and stays charged.
    let used = api.get("/api/allowances/w/usage")["tokens_used"]
        .as_u64()
        .unwrap();
    let rounds = rounds(&server);
    assert!(
        (rounds..=rounds + 1).contains(&(used / 100)),
        "{used} of {rounds} rounds"
    );
    assert_eq!(task["usage"]["tokens_in"], used);
    // The overrun is what it spent between two reports, and until it was gone: no more than five seconds of spending.
    let overrun = used - 3000;
    let seconds = took.as_secs_f64() * f64::from(u32::try_from(overrun).unwrap())
        / f64::from(u32::try_from(used).unwrap());
    println!("spent {used} of 3000 tokens in {took:?}: overrun {overrun}, {seconds:.2} s of spending");
    assert!(overrun > 0 && seconds < 5.0, "{overrun} tokens, {seconds} s");
}

#[test]
fn a_command_that_spends_beyond_the_cost_ceiling_of_its_model_is_stopped_in_the_middle() {
    let server = Server::start();
    let api = Api::of(&server);
    put(&api, "/api/models/m", &json!({"model": "m", "cost_ceiling": 30}));
    api.submit("t");
    let _worker = spender(&server, r#"{"tokens_out":1,"model":"m","cost":%s}"#);
    let task = task_when(&api, "t", |task| {
        task["status"] == "pending" && task["attempt"] == 1
    });
    assert_eq!(events(&api, "task_attempt_failed").len(), 0);
    assert_eq!(
        (&task["retry_count"], events(&api, "task_released").len()),
        (&json!(0), 1)
    );
    let cost = task["usage"]["cost"].as_f64().unwrap();
    println!("spent {cost} of 30 cents at a cent each 50 ms");
    // Ten cents are told at once: it need not go on for the three seconds to the next report in turn.
    assert!((30.0..60.0).contains(&cost), "{cost}");
    // Who wants that model waits for it from now on.
    let next = json!({"id": "next", "title": "next", "model": "m"});
    api.post("/api/tasks", &next).unwrap().good();
    let next = task_when(&api, "next", |task| task["waiting"]["reason"] == "model_quota");
    assert!(
        next["waiting"]["detail"]
            .as_str()
            .unwrap()
            .contains("cost ceiling reached for: m")
    );
}

#[test]
fn a_limit_that_is_lowered_below_what_is_used_stops_what_runs() {
    let server = Server::start();
    let api = Api::of(&server);
    put(
        &api,
        "/api/allowances/w",
        &json!({"agent_id": "w", "daily_token_limit": 10_000}),
    );
    api.submit("t");
    // It says nothing after that, so that only the change of the limit can end it.
    let script = r#"echo '{"tokens_in":1000}'; echo $$ > pid; exec sleep 1000"#;
    let _worker = Worker::script(&server, "w", &[], script);
    eventually("the report", || {
        (api.get("/api/allowances/w/usage")["tokens_used"] == 1000).then_some(())
    });
    let pid = text_of(&server.directory.join("pid"));
    let lowered = Instant::now();
    put(
        &api,
        "/api/allowances/w",
        &json!({"agent_id": "w", "daily_token_limit": 900}),
    );
    let task = task_when(&api, "t", |task| task["status"] == "pending");
    let took = lowered.elapsed();
    println!("stopped {took:?} after the limit was lowered");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_released(&api, &task, "daily token limit exceeded");
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
    assert_eq!(api.get("/api/allowances/w/usage")["tokens_used"], 1000);
}

#[test]
fn a_soft_limit_lets_what_runs_finish() {
    let server = Server::start();
    let api = Api::of(&server);
    let limits = json!({"limits": [{"window": "day", "tokens": 500, "hard": false}]});
    put(&api, "/api/limits/agent:w", &limits);
    api.submit("t");
    let script =
        r#"echo '{"tokens_in":5000}'; until [ -e go ]; do sleep 0.02; done; echo '{"tokens_in":6000}'"#;
    let worker = Worker::script(&server, "w", &[], script);
    eventually("the limit is reached", || {
        (!events(&api, "quota_exceeded").is_empty()).then_some(())
    });
    // Another task is refused by it: it holds.
    api.submit("next");
    task_when(&api, "next", |task| !task["waiting"].is_null());
    write(&server.directory, "go", "");
    let task = task_when(&api, "t", |task| task["status"] == "completed");
    assert_eq!(task["usage"]["tokens_in"], 6000);
    assert!(!worker.told().contains("stopped"), "{}", worker.told());
}
