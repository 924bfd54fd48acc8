//! The Model Context Protocol: both of its revisions, over the whole router.

use serde_json::{Value, json};

use super::{Reply, Speaker, TestApp};
use crate::config::Config;

/// The revision without sessions: every request says who asks and what it can do.
const STATELESS: &str = "2026-07-28";
/// The revision before it: a handshake, then requests.
const HANDSHAKE: &str = "2025-11-25";
/// The extension whose tasks can be followed.
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A client of one revision.
struct Client {
    speaker: Speaker,
    revision: &'static str,
    /// Whether it follows tasks of the protocol.
    follows: bool,
}

impl Client {
    fn new(speaker: Speaker, revision: &'static str) -> Self {
        Self {
            speaker,
            revision,
            follows: false,
        }
    }

    /// Sends a request, and gives all that came back.
    async fn send(&self, method: &str, mut params: Value) -> Reply {
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", self.revision),
        ];
        let name = [&params["name"], &params["taskId"]]
            .into_iter()
            .find_map(|name| name.as_str().map(str::to_owned));
        if self.revision == STATELESS {
            let extensions = if self.follows {
                json!({TASKS: {}})
            } else {
                json!({})
            };
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
            });
            headers.push(("mcp-method", method));
            headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
        }
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.speaker
            .ask("POST", "/mcp", &headers, Some(body.to_string()))
            .await
    }

    /// The result of a request that must succeed.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let reply = self.send(method, params).await;
        assert_eq!(reply.status, 200, "{method}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/json", "{method}");
        assert_eq!(reply.body["id"], 7, "{}", reply.text);
        assert!(reply.body["error"].is_null(), "{method}: {}", reply.text);
        reply.body["result"].clone()
    }

    /// What a tool gives, whether it did it or not.
    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    /// What a tool that must do it gives, as JSON.
    async fn done(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], false, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// Asserts that a tool refuses with this slug, and gives what it says.
    async fn refused(&self, tool: &str, arguments: Value, slug: &str) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        assert_eq!(result["structuredContent"]["error"], slug, "{result}");
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(text.contains(&format!("[{slug}]")), "{text}");
        text
    }

    async fn tools(&self) -> Vec<String> {
        let listed = self.ask("tools/list", json!({})).await;
        let tools = listed["tools"].as_array().unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A server with an agent's token of its own, and an administrator.
async fn agent(revision: &'static str) -> (TestApp, Client, Client) {
    let app = TestApp::full().await;
    let own = Client::new(app.with_roles("own", &["agent:a"]).await, revision);
    let admin = Client::new(app.admin(), revision);
    (app, own, admin)
}

#[tokio::test]
async fn a_client_of_the_older_revision_shakes_hands_and_lists_tools() {
    let (_app, own, _) = agent(HANDSHAKE).await;
    let hello = json!({"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let welcome = own.ask("initialize", hello).await;
    assert_eq!(welcome["protocolVersion"], HANDSHAKE);
    assert_eq!(welcome["serverInfo"]["name"], "adjutant");
    assert!(welcome["capabilities"]["tools"].is_object());
    let noted = own
        .speaker
        .post(
            "/mcp",
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        )
        .await;
    assert_eq!(noted.status, 202);
    assert!(
        !noted.headers.contains_key("mcp-session-id"),
        "nothing is remembered"
    );
    assert!(own.tools().await.contains(&"next_task".to_owned()));
}

#[tokio::test]
async fn a_client_of_the_newer_revision_discovers_and_lists_tools() {
    let (_app, own, _) = agent(STATELESS).await;
    let found = own.ask("server/discover", json!({})).await;
    let versions = found["supportedVersions"].as_array().unwrap();
    for revision in [STATELESS, HANDSHAKE] {
        assert!(versions.contains(&json!(revision)), "{found}");
    }
    assert!(found["capabilities"]["extensions"][TASKS].is_object(), "{found}");
    assert!(own.tools().await.contains(&"next_task".to_owned()));
}

#[tokio::test]
async fn the_roles_of_a_token_decide_which_tools_are_listed_and_called() {
    let app = TestApp::full().await;
    let works = [
        "register",
        "next_task",
        "update_task",
        "report_usage",
        "complete_task",
        "release_task",
        "check_allowance",
    ];
    let plans = [
        "create_task",
        "create_tasks",
        "list_tasks",
        "get_task",
        "explain_task",
        "cancel_task",
        "fleet_status",
    ];
    let reads = [
        "check_allowance",
        "list_tasks",
        "get_task",
        "explain_task",
        "fleet_status",
    ];
    let all = [&works[..], &plans[..]].concat();
    let own = [&works[..], &["get_task"]].concat();
    for (roles, expected) in [
        (&["agent:a"][..], &own[..]),
        (&["agent:*"], &own[..]),
        (&["submit"], &plans[..]),
        (&["read"], &reads[..]),
        (&["admin"], &all[..]),
        (&["submit", "agent:a"], &all[..]),
    ] {
        let name = roles.join("+").replace([':', '*'], "-");
        let client = Client::new(app.with_roles(&name, roles).await, STATELESS);
        assert_eq!(client.tools().await, expected, "{roles:?}");
        for tool in all.iter().filter(|tool| !expected.contains(tool)) {
            let said = client.refused(tool, json!({}), "forbidden").await;
            assert!(said.contains(tool) && said.contains("admin"), "{said}");
        }
    }
}

#[tokio::test]
async fn every_argument_and_every_tool_is_described() {
    let app = TestApp::full().await;
    let listed = Client::new(app.admin(), STATELESS)
        .ask("tools/list", json!({}))
        .await;
    for tool in listed["tools"].as_array().unwrap() {
        let name = &tool["name"];
        assert!(tool["description"].as_str().unwrap().len() > 20, "{name}");
        let schema = &tool["inputSchema"];
        assert_eq!(
            (&schema["type"], &schema["additionalProperties"]),
            (&json!("object"), &json!(false)),
            "{name}"
        );
        for (argument, shape) in schema["properties"].as_object().into_iter().flatten() {
            assert!(shape["description"].is_string(), "{name}: {argument}: {shape}");
        }
        let hints = &tool["annotations"];
        for hint in [
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        ] {
            assert!(hints[hint].is_boolean(), "{name}: {hint}");
        }
    }
}

#[tokio::test]
async fn an_agent_takes_a_task_through_its_whole_life() {
    for revision in [HANDSHAKE, STATELESS] {
        let (_app, own, admin) = agent(revision).await;
        let registered = own.done("register", json!({"capabilities": ["go"]})).await;
        assert_eq!(registered["agent"]["id"], "a");
        let created = admin
            .done(
                "create_task",
                json!({"id": "t", "title": "Mend it", "description": "In full.", "labels": ["go"], "priority": "high"}),
            )
            .await;
        assert_eq!(created["task"]["id"], "t");
        let given = own.call("next_task", json!({"wait": 5})).await;
        let text = given["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("In full.") && text.contains("complete_task"),
            "{text}"
        );
        let given = &given["structuredContent"];
        assert_eq!(given["tasks"][0]["task_id"], "t");
        assert_eq!(given["tasks"][0]["attempt"], 1);
        assert!(given["tasks"][0]["token"].is_null() && !given.to_string().contains("att_"));
        let updated = own
            .done(
                "update_task",
                json!({"task_id": "t", "attempt": 1, "progress": 40, "notes": "half"}),
            )
            .await;
        assert_eq!(updated["task"]["progress"], 40);
        own.done(
            "report_usage",
            json!({"task_id": "t", "attempt": 1, "model": "m", "tokens_in": 10, "tokens_out": 5, "total": true}),
        )
        .await;
        let completed = own
            .done(
                "complete_task",
                json!({"task_id": "t", "attempt": 1, "success": true, "output": "mended", "artifacts": ["f"]}),
            )
            .await;
        assert_eq!(completed["task"]["status"], "completed");
        let read = admin.done("get_task", json!({"task_id": "t"})).await;
        assert_eq!(read["task"]["result"]["output"], "mended");
        assert_eq!(read["task"]["usage"]["tokens_in"], 10);
        assert_eq!(read["task"]["notes"][0]["text"], "half");
        let nothing = own.done("next_task", json!({"wait": 0})).await;
        assert_eq!(nothing["tasks"], json!([]));
    }
}

#[tokio::test]
async fn what_an_agent_holds_and_forgot_is_given_to_it_again_and_never_lost() {
    let (_app, own, admin) = agent(STATELESS).await;
    own.done("register", json!({"max_load": 3})).await;
    for id in ["t", "u"] {
        admin.done("create_task", json!({"id": id, "title": id})).await;
    }
    let ids = |given: &Value| -> Vec<String> {
        let tasks = given["tasks"].as_array().unwrap();
        tasks
            .iter()
            .map(|task| task["task_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = own.done("next_task", json!({"wait": 1})).await;
    assert_eq!(ids(&first), ["t", "u"]);
    // A model that remembers nothing, and one that remembers half.
    for running in [json!(null), json!([]), json!([{"task_id": "u", "attempt": 1}])] {
        let again = own
            .done("next_task", json!({"running": running, "wait": 0}))
            .await;
        assert!(ids(&again).contains(&"t".to_owned()), "{again}");
        assert_eq!(again["tasks"][0]["resumed"], true);
        assert_eq!(again["tasks"][0]["attempt"], 1);
    }
    // One that remembers everything waits for more.
    let all = json!([{"task_id": "t", "attempt": 1}, {"task_id": "u", "attempt": 1}]);
    let none = own.done("next_task", json!({"running": all, "wait": 0})).await;
    assert_eq!(ids(&none), Vec::<String>::new());
    for id in ["t", "u"] {
        let task = admin.done("get_task", json!({"task_id": id})).await;
        assert_eq!(
            (&task["task"]["status"], &task["task"]["retry_count"]),
            (&json!("in_progress"), &json!(0))
        );
    }
}

#[tokio::test]
async fn an_agent_hears_what_to_stop_whatever_it_reports() {
    let (_app, own, admin) = agent(STATELESS).await;
    own.done("register", json!({"max_load": 2})).await;
    for id in ["t", "u"] {
        admin.done("create_task", json!({"id": id, "title": id})).await;
    }
    own.done("next_task", json!({"wait": 1})).await;
    admin.done("cancel_task", json!({"task_id": "t"})).await;
    let told = own
        .done(
            "update_task",
            json!({"task_id": "u", "attempt": 1, "progress": 10}),
        )
        .await;
    assert_eq!(
        told["stop"],
        json!([{"id": "t", "attempt": 1, "reason": "cancelled"}])
    );
    let released = own
        .done("release_task", json!({"task_id": "u", "attempt": 1}))
        .await;
    assert_eq!(released["task"]["retry_count"], 0);
}

#[tokio::test]
async fn a_wait_ends_with_the_task_and_holds_up_nobody() {
    let (_app, own, admin) = agent(STATELESS).await;
    own.done("register", json!({})).await;
    let waiting = Client::new(own.speaker.clone(), STATELESS);
    let waits = tokio::spawn(async move { waiting.done("next_task", json!({"wait": 60})).await });
    own.done("check_allowance", json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!waits.is_finished());
    admin.done("create_task", json!({"id": "t", "title": "x"})).await;
    let given = tokio::time::timeout(std::time::Duration::from_secs(5), waits);
    let given = given.await.expect("in time").unwrap();
    assert_eq!(given["tasks"][0]["task_id"], "t");
    assert_eq!(given["tasks"][0]["resumed"], false);
}

#[tokio::test]
async fn an_agent_is_refused_what_is_not_its_own() {
    let (app, own, admin) = agent(STATELESS).await;
    let other = Client::new(app.with_roles("other", &["agent:b"]).await, STATELESS);
    own.done("register", json!({"capabilities": ["go"]})).await;
    own.refused("next_task", json!({"agent_id": "b"}), "forbidden")
        .await;
    other.refused("next_task", json!({}), "agent_not_found").await;
    other.done("register", json!({"capabilities": ["rust"]})).await;
    admin
        .done(
            "create_task",
            json!({"id": "t", "title": "x", "labels": ["rust"]}),
        )
        .await;
    other.done("next_task", json!({"wait": 1})).await;
    own.refused(
        "complete_task",
        json!({"task_id": "t", "success": true}),
        "not_holder",
    )
    .await;
    own.refused("get_task", json!({"task_id": "t"}), "forbidden")
        .await;
    own.refused("create_task", json!({"title": "x"}), "forbidden")
        .await;
    own.refused(
        "update_task",
        json!({"task_id": "gone", "progress": 1}),
        "task_not_found",
    )
    .await;
    own.refused("update_task", json!({"task_id": "../x"}), "task_not_found")
        .await;
    // The same for a token of several agents, once it says for which it speaks.
    let host = Client::new(app.with_roles("host", &["agent:*"]).await, STATELESS);
    let said = host.refused("next_task", json!({}), "invalid_field").await;
    assert!(said.starts_with("agent_id: "), "{said}");
    host.done("register", json!({"agent_id": "c"})).await;
}

#[tokio::test]
async fn a_wrong_argument_is_named_by_whoever_finds_it() {
    let (_app, own, admin) = agent(STATELESS).await;
    for (client, tool, arguments, name) in [
        (&own, "complete_task", json!({"success": true}), "task_id"),
        (&own, "complete_task", json!({"task_id": "t"}), "success"),
        (&own, "update_task", json!({"task_id": ""}), "task_id"),
        (
            &own,
            "update_task",
            json!({"task_id": "t", "percent": 4}),
            "percent",
        ),
        (&own, "register", json!({"capabilities": "go"}), "capabilities"),
        (&own, "register", json!({"capabilities": [""]}), "capabilities"),
        (&admin, "create_task", json!({"title": ""}), "title"),
        (
            &admin,
            "create_task",
            json!({"title": "x", "not_before": "tomorrow"}),
            "not_before",
        ),
        (
            &admin,
            "create_task",
            json!({"title": "x", "priority": "urgent"}),
            "priority",
        ),
        (&admin, "create_task", json!({"title": "a\u{0}"}), "title"),
        (&admin, "list_tasks", json!({"limit": 5000}), "limit"),
        (&admin, "list_tasks", json!({"cursor": "x"}), "cursor"),
    ] {
        let said = client.refused(tool, arguments, "invalid_field").await;
        assert!(said.contains(name), "{tool} {name}: {said}");
    }
    own.done("register", json!({})).await;
    let said = own
        .refused("next_task", json!({"wait": -1}), "invalid_field")
        .await;
    assert!(said.contains("wait"), "{said}");
}

#[tokio::test]
async fn a_planner_sees_its_tasks_from_the_batch_to_the_end() {
    let app = TestApp::full().await;
    let planner = Client::new(app.with_roles("planner", &["submit"]).await, STATELESS);
    let made = planner
        .done(
            "create_tasks",
            json!({"tasks": [
                {"id": "one", "title": "One", "labels": ["go"], "payload": {"k": [1]}, "timeout": "30m"},
                {"id": "two", "title": "Two", "dependencies": ["one"], "timeout": 60},
                {"id": "three", "title": "Three", "dependencies": ["nowhere"]},
            ]}),
        )
        .await;
    assert_eq!((&made["created"], &made["refused"]), (&json!(2), &json!(1)));
    assert_eq!(made["tasks"][2]["error"]["error"], "unknown_dependency");
    planner
        .refused("create_task", json!({"id": "one", "title": "One"}), "task_exists")
        .await;
    let listed = planner.done("list_tasks", json!({"limit": 1})).await;
    let next = listed["next_cursor"].as_str().unwrap();
    let rest = planner
        .done("list_tasks", json!({"limit": 1, "cursor": next}))
        .await;
    assert_eq!(listed["tasks"][0]["id"], "two");
    assert_eq!(rest["tasks"][0]["id"], "one");
    assert!(rest["next_cursor"].is_null(), "{rest}");
    let blocked = planner.done("list_tasks", json!({"status": "blocked"})).await;
    assert_eq!(blocked["tasks"][0]["waiting"]["reason"], "dependency");
    let why = planner.call("explain_task", json!({"task_id": "one"})).await;
    assert!(why["content"][0]["text"].as_str().unwrap().contains("no_agents"));
    let status = planner.done("fleet_status", json!({})).await;
    assert_eq!(status["tasks"]["pending"], 1);
    planner
        .done("cancel_task", json!({"task_id": "one", "cascade": true}))
        .await;
    let two = planner.done("get_task", json!({"task_id": "two"})).await;
    assert_eq!(two["task"]["status"], "cancelled");
    planner
        .refused("cancel_task", json!({"task_id": "four"}), "task_not_found")
        .await;
}

#[tokio::test]
async fn the_process_of_an_attempt_reports_for_itself_alone() {
    let app = TestApp::full().await;
    let admin = app.admin();
    admin
        .post("/api/agents", json!({"id": "a", "max_load": 2}))
        .await
        .good();
    for id in ["t", "u"] {
        admin
            .post("/api/tasks", json!({"id": id, "title": id}))
            .await
            .good();
    }
    let answer = admin
        .post("/api/agents/a/sync", json!({"running": []}))
        .await
        .good();
    let token = answer["start"][0]["token"].as_str().unwrap();
    let child = Client::new(app.speaker(token), STATELESS);
    assert_eq!(
        child.tools().await,
        ["update_task", "report_usage", "complete_task"]
    );
    child
        .done("update_task", json!({"task_id": "t", "progress": 5}))
        .await;
    child
        .done(
            "report_usage",
            json!({"task_id": "t", "model": "m", "tokens_in": 3}),
        )
        .await;
    child
        .refused("update_task", json!({"task_id": "u", "progress": 5}), "forbidden")
        .await;
    child
        .done("complete_task", json!({"task_id": "t", "success": true}))
        .await;
}

#[tokio::test]
async fn who_follows_tasks_is_given_one_to_follow() {
    let (app, own, _) = agent(STATELESS).await;
    let planner = Client {
        follows: true,
        ..Client::new(app.with_roles("planner", &["submit"]).await, STATELESS)
    };
    let handle = planner
        .call("create_task", json!({"id": "t", "title": "x"}))
        .await;
    assert_eq!(
        (&handle["resultType"], &handle["taskId"], &handle["status"]),
        (&json!("task"), &json!("t"), &json!("working")),
        "{handle}"
    );
    assert!(handle["pollIntervalMs"].is_u64() && handle["ttlMs"].is_null());
    own.done("register", json!({})).await;
    own.done("next_task", json!({"wait": 1})).await;
    let working = planner.ask("tasks/get", json!({"taskId": "t"})).await;
    assert_eq!(working["status"], "working");
    own.done(
        "complete_task",
        json!({"task_id": "t", "success": true, "output": "out"}),
    )
    .await;
    let done = planner.ask("tasks/get", json!({"taskId": "t"})).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(
        done["result"]["structuredContent"]["task"]["result"]["output"],
        "out"
    );
    planner
        .ask("tasks/update", json!({"taskId": "t", "inputResponses": {}}))
        .await;
    let missing = planner.send("tasks/get", json!({"taskId": "nowhere"})).await;
    assert_eq!(missing.body["error"]["code"], -32602, "{}", missing.text);
    let other = planner
        .call("create_task", json!({"id": "u", "title": "x"}))
        .await;
    assert_eq!(other["taskId"], "u");
    planner.ask("tasks/cancel", json!({"taskId": "u"})).await;
    let over = planner.ask("tasks/get", json!({"taskId": "u"})).await;
    assert_eq!(over["status"], "cancelled");
    // Refusals are for the model, and the others are not asked to follow anything.
    planner
        .refused("create_task", json!({"title": ""}), "invalid_field")
        .await;
    let plain = Client::new(planner.speaker.clone(), STATELESS);
    assert!(plain.done("create_task", json!({"title": "x"})).await["task"].is_object());
}

#[tokio::test]
async fn what_is_no_request_of_the_protocol_is_told_in_json() {
    let app = TestApp::full().await;
    let admin = app.admin();
    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 400, -32600),
        ("7", 400, -32600),
        (
            "{\"jsonrpc\": \"1.0\", \"id\": 1, \"method\": \"x\"}",
            400,
            -32600,
        ),
    ] {
        let reply = admin.ask("POST", "/mcp", &[], Some(body.to_owned())).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body["error"]["code"].as_i64()),
            (status, Some(code)),
            "{body}: {}",
            reply.text
        );
    }
    let old = [("mcp-protocol-version", "1999-01-01")];
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let reply = admin.ask("POST", "/mcp", &old, Some(list.clone())).await;
    assert_eq!(
        (reply.status.as_u16(), reply.body["error"]["code"].as_i64()),
        (400, Some(-32600))
    );
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "nowhere"}).to_string();
    let reply = admin.ask("POST", "/mcp", &[], Some(unknown)).await;
    assert_eq!(reply.body["error"]["code"], -32601, "{}", reply.text);
    let missing = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing"}});
    let reply = admin.post("/mcp", missing).await;
    assert_eq!(reply.body["error"]["code"], -32602, "{}", reply.text);
    // Streams and sessions do not exist; hosts, tokens and bodies are checked as everywhere.
    admin.get("/mcp").await.refused(405, "method_not_allowed");
    admin.delete("/mcp").await.refused(405, "method_not_allowed");
    app.nobody()
        .ask("POST", "/mcp", &[], Some(list.clone()))
        .await
        .refused(401, "unauthorized");
    admin
        .ask(
            "POST",
            "/mcp",
            &[("origin", "https://evil.example.com")],
            Some(list),
        )
        .await
        .refused(403, "foreign_origin");
    admin
        .ask("POST", "/mcp", &[], Some(" ".repeat(5 << 20)))
        .await
        .refused(413, "body_too_large");
}

#[tokio::test]
async fn an_open_server_has_all_tools_for_everyone() {
    let app = TestApp::with(Config {
        open: true,
        ..Config::default()
    })
    .await;
    let anyone = Client::new(app.nobody(), STATELESS);
    anyone.done("register", json!({"agent_id": "a"})).await;
    anyone.done("create_task", json!({"id": "t", "title": "x"})).await;
    let given = anyone
        .done("next_task", json!({"agent_id": "a", "wait": 1}))
        .await;
    assert_eq!(given["tasks"][0]["task_id"], "t");
}
