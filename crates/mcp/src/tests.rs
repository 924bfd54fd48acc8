//! Tests of the tools against an API that is written out: which requests a call becomes, and what is made of the answers.
//!
//! What they do to the world is tested where they are mounted, over a real server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{Api, ApiError, Reply, Request};
use crate::audience::{Audience, Role};
use crate::handler::Visitor;
use crate::outcome::Outcome;
use crate::tools;

/// An answer, and how long it takes.
type Scripted = (Duration, Result<Reply, ApiError>);

/// An API that answers as it is told, in order, and notes what it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Scripted>>,
    asked: Mutex<Vec<Request>>,
}

impl Api for Script {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        let what = format!("{} {}", request.method, request.path);
        self.asked.lock().unwrap().push(request);
        let (after, answer) = self
            .answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| panic!("nobody expected {what}"));
        async move {
            tokio::time::sleep(after).await;
            answer
        }
        .boxed()
    }
}

/// A caller, and the API that it meets.
struct Caller {
    script: Arc<Script>,
    visitor: Visitor,
}

impl Caller {
    fn new(audience: Audience) -> Self {
        let script = Arc::new(Script::default());
        let visitor = Visitor {
            api: Arc::clone(&script) as Arc<dyn Api>,
            audience,
        };
        Self { script, visitor }
    }

    fn agent() -> Self {
        Self::new(Audience {
            roles: vec![Role::Agent],
            agent: Some("a".into()),
            ..Audience::default()
        })
    }

    /// The next request that is still to be expected is answered like this.
    fn hears(&self, answer: Value) {
        self.hears_after(0.0, Ok(answer));
    }

    fn hears_after(&self, seconds: f64, answer: Result<Value, ApiError>) {
        let after = Duration::from_secs_f64(seconds);
        let answer = answer.map(|body| Reply { body, next: None });
        self.script.answers.lock().unwrap().push_back((after, answer));
    }

    /// A page of a list, and where the next one begins.
    fn hears_page(&self, body: Value, next: &str) {
        let reply = Reply {
            body,
            next: Some(next.to_owned()),
        };
        let mut answers = self.script.answers.lock().unwrap();
        answers.push_back((Duration::ZERO, Ok(reply)));
    }

    async fn call(&self, tool: &str, arguments: Value) -> Outcome {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        let tool = tools::find(tool).unwrap();
        let outcome = tool.call(self.visitor.clone(), arguments).await;
        assert!(
            self.script.answers.lock().unwrap().is_empty(),
            "more was expected"
        );
        outcome
    }

    /// What was asked, one line each.
    fn asked(&self) -> Vec<String> {
        let asked = self.script.asked.lock().unwrap();
        asked
            .iter()
            .map(|request| {
                let body = request.body.as_ref().map(Value::to_string).unwrap_or_default();
                format!("{} {} {body}", request.method, request.path)
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }
}

fn task(id: &str, attempt: u32) -> Value {
    json!({"id": id, "attempt": attempt, "title": id, "status": "in_progress", "priority": "high"})
}

fn start(id: &str) -> Value {
    json!({"task": task(id, 1), "attempt": 1, "lease_expires_at": "2026-11-24T18:30:00Z", "timeout": 60, "token": "att_x"})
}

fn answer(start: &Value) -> Value {
    json!({"start": start, "stop": [], "done": [], "drain": false, "lease_ttl": 60})
}

const LIST: &str = "GET /api/tasks?status=in_progress&claimed_by=a&limit=1000";

#[tokio::test]
async fn work_is_asked_for_with_all_that_is_held_and_taken_at_once() {
    let caller = Caller::agent();
    caller.hears(json!([]));
    caller.hears(answer(&json!([start("t")])));
    caller.hears(answer(&json!([])));
    let given = caller.call("next_task", json!({})).await;
    assert_eq!(
        caller.asked(),
        [
            LIST,
            r#"POST /api/agents/a/sync {"max":null,"running":[],"wait":20.0}"#,
            r#"POST /api/agents/a/sync {"max":null,"running":[{"attempt":1,"id":"t"}],"wait":0.0}"#,
        ]
    );
    let given = &given.structured["tasks"][0];
    assert_eq!(
        (&given["task_id"], &given["resumed"]),
        (&json!("t"), &json!(false))
    );
    assert_eq!(given["timeout"], 60);
    assert!(
        !given.to_string().contains("att_x"),
        "the token of the attempt stays here"
    );
}

#[tokio::test]
async fn what_is_held_and_forgotten_is_listed_and_told_without_a_wait() {
    let caller = Caller::agent();
    caller.hears(json!([task("newer", 2), task("older", 1)]));
    caller.hears(answer(&json!([])));
    let running = json!([{"task_id": "newer", "attempt": 1}]);
    let given = caller
        .call("next_task", json!({"running": running, "wait": 30, "max": 1}))
        .await;
    assert_eq!(
        caller.asked()[1],
        r#"POST /api/agents/a/sync {"max":1,"running":[{"attempt":1,"id":"newer"},{"attempt":1,"id":"older"},{"attempt":2,"id":"newer"}],"wait":0.0}"#
    );
    let told: Vec<_> = given.structured["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|given| (given["task_id"].as_str().unwrap(), &given["resumed"]))
        .collect();
    assert_eq!(told, [("older", &json!(true)), ("newer", &json!(true))]);
}

#[tokio::test]
async fn all_that_is_held_is_looked_up_however_many_pages_that_takes() {
    let caller = Caller::agent();
    caller.hears_page(json!([task("c", 1), task("b", 1)]), "2.7");
    caller.hears(json!([task("a", 1)]));
    caller.hears(answer(&json!([])));
    let given = caller.call("next_task", json!({})).await;
    assert_eq!(caller.asked()[1], format!("{LIST}&cursor=2.7"));
    let told = given.structured["tasks"].as_array().unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|given| given["task_id"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_one_call_and_several_syncs() {
    let caller = Caller::agent();
    caller.hears(json!([]));
    for _ in 0..2 {
        caller.hears_after(20.0, Ok(answer(&json!([]))));
    }
    caller.hears_after(5.0, Ok(answer(&json!([start("t")]))));
    caller.hears(answer(&json!([])));
    let begun = Instant::now();
    let given = caller.call("next_task", json!({"wait": 90})).await;
    assert_eq!(given.structured["tasks"][0]["task_id"], "t");
    assert_eq!(begun.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time() {
    let caller = Caller::agent();
    caller.hears(json!([]));
    for seconds in [20.0, 10.0] {
        caller.hears_after(seconds, Ok(answer(&json!([]))));
    }
    let given = caller.call("next_task", json!({"wait": 30})).await;
    assert_eq!(given.structured["tasks"], json!([]));
    assert!(given.text.contains("Call next_task again"), "{}", given.text);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_another_one_ended_does_not_end_that_one_in_turn() {
    let caller = Caller::agent();
    caller.hears(json!([]));
    caller.hears_after(1.0, Ok(answer(&json!([]))));
    caller.call("next_task", json!({"wait": 90})).await;
    assert_eq!(caller.asked().len(), 2);
}

#[tokio::test]
async fn who_is_not_registered_is_told_how_to() {
    let caller = Caller::agent();
    caller.hears(json!([]));
    let unknown = ApiError {
        status: 404,
        slug: "agent_not_found".into(),
        ..ApiError::argument("there is no agent `a`")
    };
    caller.hears_after(0.0, Err(unknown));
    let refused = caller.call("next_task", json!({})).await;
    assert!(refused.is_error);
    assert_eq!(
        refused.text,
        "there is no agent `a`: call register first [agent_not_found]"
    );
}

#[tokio::test]
async fn a_report_proves_life_and_is_taken_whether_that_works_or_not() {
    let caller = Caller::agent();
    let away = ApiError {
        status: 404,
        ..ApiError::argument("no such agent")
    };
    let stop = json!([{"id": "t", "attempt": 1, "reason": "limit"}]);
    for (heard, stops) in [(Err(away), json!([])), (Ok(json!({"stop": stop})), stop)] {
        caller.hears(json!({"message": "usage booked"}));
        caller.hears_after(0.0, heard);
        let booked = caller
            .call(
                "report_usage",
                json!({"task_id": "t", "model": "m", "tokens_in": 1}),
            )
            .await;
        assert!(!booked.is_error);
        assert_eq!(booked.structured["stop"], stops);
    }
    assert_eq!(
        caller.asked()[..2],
        [
            r#"POST /api/usage {"agent_id":"a","job_id":"t","model":"m","tokens_in":1}"#,
            "POST /api/agents/a/heartbeat {}",
        ]
    );
}

#[tokio::test]
async fn an_attempt_speaks_for_itself_and_proves_no_life() {
    let caller = Caller::new(Audience {
        roles: vec![Role::Attempt],
        ..Audience::default()
    });
    caller.hears(json!({"message": "usage booked"}));
    caller
        .call("report_usage", json!({"task_id": "t", "tokens_out": 2}))
        .await;
    assert_eq!(
        caller.asked(),
        [r#"POST /api/usage {"job_id":"t","tokens_out":2}"#]
    );
}

#[tokio::test]
async fn nothing_is_asked_when_the_tool_is_not_for_the_caller_or_its_arguments_are_wrong() {
    let caller = Caller::agent();
    for (tool, arguments) in [
        ("create_task", json!({"title": "x"})),
        ("fleet_status", json!({})),
        ("complete_task", json!({"task_id": "t"})),
        ("update_task", json!({"task_id": ""})),
    ] {
        assert!(caller.call(tool, arguments).await.is_error, "{tool}");
    }
    assert!(caller.asked().is_empty());
}

#[tokio::test]
async fn every_tool_has_one_request_to_begin_with() {
    let admin = Audience {
        admin: true,
        ..Audience::default()
    };
    for (tool, arguments, asked) in [
        (
            "register",
            json!({"agent_id": "b", "capabilities": ["go"]}),
            r#"POST /api/agents {"capabilities":["go"],"id":"b"}"#,
        ),
        (
            "release_task",
            json!({"task_id": "t", "attempt": 2}),
            r#"POST /api/tasks/t/release {"attempt":2}"#,
        ),
        (
            "check_allowance",
            json!({"agent_id": "b", "model": "o/x"}),
            "GET /api/allowances/b/check?model=o%2Fx",
        ),
        (
            "create_task",
            json!({"title": "x", "timeout": "30m", "payload": [1]}),
            r#"POST /api/tasks {"payload":[1],"timeout":"30m","title":"x"}"#,
        ),
        (
            "create_tasks",
            json!({"tasks": [{"title": "x", "timeout": 5, "priority": "low"}]}),
            r#"POST /api/batch/tasks [{"priority":"low","timeout":5,"title":"x"}]"#,
        ),
        (
            "list_tasks",
            json!({"status": "in_progress", "labels": ["a", "b"]}),
            "GET /api/tasks?status=in_progress&labels=a%2Cb&limit=50",
        ),
        ("get_task", json!({"task_id": "t"}), "GET /api/tasks/t"),
        (
            "explain_task",
            json!({"task_id": "t"}),
            "GET /api/tasks/t/explain",
        ),
        (
            "cancel_task",
            json!({"task_id": "t", "cascade": true}),
            "POST /api/tasks/t/cancel?cascade=true {}",
        ),
        ("fleet_status", json!({}), "GET /api/status"),
    ] {
        let caller = Caller::new(admin.clone());
        caller.hears(json!({}));
        let outcome = caller.call(tool, arguments).await;
        assert!(!outcome.is_error && outcome.structured.is_object(), "{tool}");
        assert_eq!(caller.asked(), [asked], "{tool}");
    }
}

#[test]
fn requests_that_change_nothing_are_those_of_tools_that_say_so() {
    for entry in tools::all() {
        let hints = entry.tool.annotations.as_ref().unwrap();
        let reads = [
            "check_allowance",
            "list_tasks",
            "get_task",
            "explain_task",
            "fleet_status",
        ];
        assert_eq!(
            hints.read_only_hint,
            Some(reads.contains(&&*entry.tool.name)),
            "{}",
            entry.tool.name
        );
    }
    assert_eq!(Request::get(&["api"]).method, Method::GET);
}
