//! The matrix: every kind of caller at every endpoint, through the whole router, against a table that is written out.

use std::collections::BTreeSet;

use adjutant_core::access::Actor;
use adjutant_core::command::{Command, NewWebhook};
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::{Reply, Speaker, TestApp};
use crate::access::table::endpoints;
use crate::app::App;
use crate::config::Config;

/// What each caller gets. `yes` is a success; other cells are the status of the refusal. Agent `a` holds task `ta`,
/// agent `b` holds task `tb`. `docs/security.md` has the same table.
const MATRIX: &str = "\
| request | nobody | wrong token | `admin` | `submit` | `read` | `agent:a`, own | `agent:a`, other | `agent:*` | attempt, own | attempt, other | attempt, ended |
|---|---|---|---|---|---|---|---|---|---|---|---|
| `GET /v1/health` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /openapi.json` | 401 | 401 | yes | yes | yes | yes | yes | yes | 403 | 403 | 403 |
| `GET /metrics` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/tasks` | 401 | 401 | yes | yes | yes | yes | yes | yes | 403 | 403 | 403 |
| `POST /api/tasks` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/tasks/{id}` | 401 | 401 | yes | yes | yes | yes | 403 | yes | 403 | 403 | 403 |
| `PATCH /api/tasks/{id} (progress)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `PATCH /api/tasks/{id} (attempt 1)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `PATCH /api/tasks/{id} (plan)` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `PATCH /api/tasks/{id} (cancelled)` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tasks/{id}/claim` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | 403 | 403 | 403 |
| `POST /api/tasks/{id}/complete` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `POST /api/tasks/{id}/complete (attempt 1)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `POST /api/tasks/{id}/release` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | 403 | 403 | 403 |
| `POST /api/tasks/{id}/release (attempt 1)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | 403 | 403 | 403 |
| `POST /api/tasks/{id}/cancel` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tasks/{id}/retry` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tasks/{id}/hold` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tasks/{id}/unhold` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/tasks/{id}/output` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tasks/{id}/output` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `POST /api/tasks/{id}/output (attempt 1)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `GET /api/tasks/{id}/explain` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/tasks/{id}/events` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/batch/tasks` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/batch/complete` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | 403 | 403 | 403 |
| `POST /api/batch/complete (attempt 1)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | 403 | 403 | 403 |
| `GET /api/agents` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/agents` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | 403 | 403 | 403 |
| `GET /api/agents/{id}` | 401 | 401 | yes | 403 | yes | yes | 403 | yes | 403 | 403 | 403 |
| `DELETE /api/agents/{id}` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | 403 | 403 | 403 |
| `POST /api/agents/{id}/sync` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | 403 | 403 | 403 |
| `POST /api/agents/{id}/sync (done)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | 403 | 403 | 403 |
| `POST /api/agents/{id}/heartbeat` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | 403 | 403 | 403 |
| `POST /api/agents/{id}/drain` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/agents/{id}/undrain` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/agents/{id}/lift` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/limits/{scope}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/limits/{scope}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/limits/{scope}/reset` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/limits/{scope}/{name}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/limits/{scope}/{name}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/limits/{scope}/{name}/reset` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/allowances/{agent_id}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/allowances/{agent_id}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/allowances/{agent_id}/reset` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/allowances/{agent_id}/check` | 401 | 401 | yes | 403 | yes | yes | 403 | yes | 403 | 403 | 403 |
| `GET /api/allowances/{agent_id}/usage` | 401 | 401 | yes | 403 | yes | yes | 403 | yes | 403 | 403 | 403 |
| `GET /api/models/{model}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/models/{model}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/models/{model}/{variant}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/models/{model}/{variant}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/repos/{owner}/{name}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `PUT /api/repos/{owner}/{name}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/usage` | 401 | 401 | yes | 403 | 403 | yes | 403 | yes | yes | 403 | 409 |
| `POST /api/usage (as itself)` | 401 | 401 | yes | 403 | 403 | yes | 409 | yes | yes | 403 | 409 |
| `GET /api/status` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/events` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /mcp` | 401 | 401 | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /api/tokens` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/tokens` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `DELETE /api/tokens/{name}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/sign-in-links` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/webhooks` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/webhooks` | 401 | 401 | 422 | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/webhooks/{name}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `DELETE /api/webhooks/{name}` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/webhooks/{name}/test` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/webhooks/{name}/resume` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /api/webhooks/{name}/deliveries` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/webhooks/{name}/deliveries/retry` | 401 | 401 | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /api/webhooks/{name}/deliveries/{seq}/retry` | 401 | 401 | 404 | 403 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /.well-known/agent-card.json` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `POST /message:send` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /message:stream` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /tasks` | 401 | 401 | yes | yes | yes | yes | yes | yes | 403 | 403 | 403 |
| `GET /tasks/{id}` | 401 | 401 | yes | yes | yes | yes | 403 | yes | 403 | 403 | 403 |
| `GET /tasks/{id} (subscribe)` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /tasks/{id} (cancel)` | 401 | 401 | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /tasks/{id} (subscribe)` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /tasks/{id}/pushNotificationConfigs` | 401 | 401 | 400 | 400 | 400 | 403 | 403 | 403 | 403 | 403 | 403 |
| `POST /tasks/{id}/pushNotificationConfigs` | 401 | 401 | 400 | 400 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /tasks/{id}/pushNotificationConfigs/{config}` | 401 | 401 | 400 | 400 | 400 | 403 | 403 | 403 | 403 | 403 | 403 |
| `DELETE /tasks/{id}/pushNotificationConfigs/{config}` | 401 | 401 | 400 | 400 | 403 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /extendedAgentCard` | 401 | 401 | 400 | 400 | 400 | 400 | 400 | 400 | 403 | 403 | 403 |
| `GET /` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/fleet` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/agents/{id}` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/queue` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/find` | 401 | 401 | 404 | 404 | 404 | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/tasks/{id}` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/dead-letters` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/limits` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/trends` | 401 | 401 | yes | 403 | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/events` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /dashboard/pulse` | 401 | 401 | yes | yes | yes | 403 | 403 | 403 | 403 | 403 | 403 |
| `GET /docs` | 401 | 401 | yes | yes | yes | yes | yes | yes | 403 | 403 | 403 |
| `GET /docs/{file}` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /dashboard/style.css` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /dashboard/dashboard.js` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /dashboard/icon.svg` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `GET /sign-in` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
| `POST /sign-in` | 422 | 422 | 422 | 422 | 422 | 422 | 422 | 422 | 422 | 422 | 422 |
| `POST /sign-out` | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
";

/// The columns of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Nobody,
    Wrong,
    Admin,
    Submit,
    Read,
    /// An agent's token, at what is its own.
    Own,
    /// The same, at what is another agent's.
    Other,
    Host,
    /// The token of an attempt, at its own task.
    Attempt,
    /// The same, at another task.
    Elsewhere,
    /// The token of an attempt that has ended, at its own task.
    Ended,
}

impl Who {
    const ALL: [Self; 11] = [
        Self::Nobody,
        Self::Wrong,
        Self::Admin,
        Self::Submit,
        Self::Read,
        Self::Own,
        Self::Other,
        Self::Host,
        Self::Attempt,
        Self::Elsewhere,
        Self::Ended,
    ];

    /// Whose things the request is about: agent and task.
    const fn target(self) -> (&'static str, &'static str) {
        match self {
            Self::Other | Self::Elsewhere => ("b", "tb"),
            _ => ("a", "ta"),
        }
    }
}

/// A small world, fresh for each cell, since most requests change it.
struct World {
    app: TestApp,
    /// The token of the attempt of `ta`.
    attempt: String,
}

impl World {
    async fn new() -> Self {
        let app = TestApp::light().await;
        let admin = app.admin();
        let mut attempt = String::new();
        for (agent, task) in [("a", "ta"), ("b", "tb")] {
            let body = json!({"id": agent, "capabilities": [agent], "max_load": 2});
            admin.post("/api/agents", body).await.good();
            let body = json!({"id": task, "title": "x", "labels": [agent]});
            admin.post("/api/tasks", body).await.good();
            let sync = format!("/api/agents/{agent}/sync");
            let answer = admin.post(&sync, json!({"running": []})).await.good();
            if agent == "a" {
                answer["start"][0]["token"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut attempt);
            }
        }
        // Nobody can run these: they stay where they are put.
        for id in ["free", "held", "over"] {
            let body = json!({"id": id, "title": "x", "labels": ["nobody"]});
            admin.post("/api/tasks", body).await.good();
        }
        admin.post_empty("/api/tasks/held/hold").await.good();
        admin.post_empty("/api/tasks/over/cancel").await.good();
        let body = json!({"name": "spare", "roles": ["read"]});
        admin.post("/api/tokens", body).await.good();
        let webhook = NewWebhook {
            name: "n".into(),
            url: "http://127.0.0.1:1/".into(),
            kinds: [].into(),
            since: 0,
        };
        app.handle
            .call(Actor::admin(), Command::AddWebhook(webhook), None)
            .await
            .unwrap();
        Self { app, attempt }
    }

    async fn speaker(&self, who: Who) -> Speaker {
        match who {
            Who::Nobody => self.app.nobody(),
            Who::Wrong => self.app.speaker("wrong"),
            Who::Admin => self.app.admin(),
            Who::Submit => self.app.with_roles("submitter", &["submit"]).await,
            Who::Read => self.app.with_roles("reader", &["read"]).await,
            Who::Own | Who::Other => self.app.with_roles("own", &["agent:a"]).await,
            Who::Host => self.app.with_roles("host", &["agent:*"]).await,
            Who::Attempt | Who::Elsewhere => self.app.speaker(&self.attempt),
            Who::Ended => {
                self.app.admin().post_empty("/api/tasks/ta/cancel").await.good();
                self.app.speaker(&self.attempt)
            }
        }
    }

    /// Asks what a line of the table is about.
    async fn ask(&self, line: &str, who: Who) -> Reply {
        let (method, path, case) = split(line);
        let (agent, task) = who.target();
        if path.ends_with("/claim") {
            // A claim takes what nobody holds.
            self.app
                .admin()
                .delete(&format!("/api/agents/{agent}"))
                .await
                .good();
        }
        let task = match (path.rsplit('/').next(), case) {
            (Some("hold"), _) | (_, "plan") => "free",
            (Some("unhold"), _) => "held",
            (Some("retry"), _) => "over",
            _ => task,
        };
        // These are about another's task, and show the caller's own agent.
        let agent = if matches!(case, "as itself" | "done") {
            "a"
        } else {
            agent
        };
        let path = path
            .replace("/api/tasks/{id}", &format!("/api/tasks/{task}"))
            .replace("/agents/{id}", &format!("/agents/{agent}"))
            .replace("/tasks/{id}", &format!("/tasks/{task}"))
            .replace("{config}", "1")
            .replace("{file}", "swagger-initializer.js")
            .replace("{agent_id}", agent)
            .replace("/api/limits/{scope}/{name}", "/api/limits/repo:o/n")
            .replace("{scope}", "fleet")
            .replace("{seq}", "1")
            .replace("{model}", "m")
            .replace("{variant}", "v")
            .replace("{owner}", "o")
            .replace("{name}", if path.contains("tokens") { "spare" } else { "n" });
        let speaker = self.speaker(who).await;
        let is_a2a = path.starts_with("/tasks/");
        let path = match case {
            "cancel" | "subscribe" if is_a2a => format!("{path}:{case}"),
            _ => path,
        };
        let body = body(method, &path, case, agent, task).map(|body| body.to_string());
        if [":stream", ":subscribe", "/pulse"]
            .iter()
            .any(|end| path.ends_with(end))
        {
            // It does not end by itself: how it begins says all.
            return begins(&speaker.send(method, &path, &[], body).await);
        }
        speaker.ask(method, &path, &[], body).await
    }
}

/// An answer of which nothing but the head is read.
fn begins(response: &Response) -> Reply {
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: Value::Null,
        text: String::new(),
    }
}

/// Method, path, and what the request is about where a line says it.
fn split(line: &str) -> (&str, &str, &str) {
    let (method, rest) = line.split_once(' ').unwrap();
    let (path, case) = rest.split_once(" (").unwrap_or((rest, ""));
    (method, path, case.trim_end_matches(')'))
}

fn body(method: &str, path: &str, case: &str, agent: &str, task: &str) -> Option<Value> {
    let parts: Vec<_> = path.split('/').skip(2).collect();
    let with_attempt = |mut body: Value| {
        if case == "attempt 1" {
            body["attempt"] = json!(1);
        }
        body
    };
    if path.starts_with("/message:") {
        return Some(json!({
            "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]},
            "configuration": {"returnImmediately": true},
        }));
    }
    Some(match (method, parts.as_slice()) {
        ("GET" | "DELETE", _) => return None,
        ("POST", []) => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        ("POST", ["tasks"]) => json!({"id": "new", "title": "x"}),
        ("PATCH", _) => match case {
            "progress" | "attempt 1" => with_attempt(json!({"progress": 10})),
            "plan" => json!({"priority": "high"}),
            "cancelled" => json!({"status": "cancelled"}),
            other => panic!("PATCH of {other}"),
        },
        ("POST", ["tasks", _, "claim"]) => json!({"agent_id": agent}),
        ("POST", ["tasks", _, "complete"]) => with_attempt(json!({"success": true})),
        ("POST", ["tasks", _, "release"]) => with_attempt(json!({})),
        ("POST", ["tasks", _, "output"]) => with_attempt(json!({"text": "x"})),
        ("POST", ["batch", "tasks"]) => json!([{"id": "new", "title": "x"}]),
        ("POST", ["batch", "complete"]) => json!([with_attempt(json!({"id": task, "success": true}))]),
        ("POST", ["agents"]) => json!({"id": agent}),
        ("POST", ["agents", _, "sync"]) if case == "done" => {
            json!({"running": [], "done": [{"id": task, "attempt": 1, "success": true}]})
        }
        ("POST", ["agents", _, "sync"]) => json!({"running": []}),
        ("PUT", ["limits", ..]) => json!({"limits": [{"window": "day", "tokens": 5, "hard": true}]}),
        ("POST", ["usage"]) => {
            json!({"agent_id": agent, "job_id": task, "attempt": 1, "model": "m", "tokens_in": 1})
        }
        // Nobody may send a server there.
        ("POST", ["webhooks"]) => json!({"name": "new", "url": "http://127.0.0.1:1/"}),
        ("POST", ["tokens"]) => json!({"name": "new", "roles": ["read"]}),
        _ => json!({}),
    })
}

/// What a cell says of an answer. Of a batch, and of what a sync hands in, the only item counts.
fn cell(reply: &Reply) -> String {
    let item = [&reply.body[0]["status"], &reply.body["done"][0]["status"]]
        .into_iter()
        .find(|status| status.is_number());
    let status = item.map_or_else(|| reply.status.as_u16().to_string(), Value::to_string);
    if status.starts_with('2') {
        "yes".into()
    } else {
        status
    }
}

/// The lines of the table: what is asked, and the cells.
fn lines() -> Vec<(&'static str, Vec<&'static str>)> {
    MATRIX
        .lines()
        .skip(2)
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap().trim_matches('`'), cells.collect())
        })
        .collect()
}

#[tokio::test]
async fn every_caller_gets_at_every_endpoint_what_the_matrix_says() {
    let mut wrong = Vec::new();
    for (line, expected) in lines() {
        let mut got = Vec::new();
        for who in Who::ALL {
            got.push(cell(&World::new().await.ask(line, who).await));
        }
        if got != expected {
            wrong.push(format!("| `{line}` | {} |", got.join(" | ")));
        }
    }
    assert!(wrong.is_empty(), "these lines are not so:\n{}", wrong.join("\n"));
}

#[test]
fn every_endpoint_has_a_line_in_the_matrix() {
    let listed: BTreeSet<String> = lines()
        .iter()
        .map(|(line, _)| {
            let (method, path, _) = split(line);
            format!("{method} {path}")
        })
        .collect();
    let endpoints: BTreeSet<String> = endpoints()
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .collect();
    assert_eq!(listed, endpoints);
}

#[test]
fn the_document_has_the_same_matrix() {
    let document = include_str!("../../../../docs/security.md");
    assert!(
        document.contains(MATRIX),
        "put this into docs/security.md:\n{MATRIX}"
    );
}

#[tokio::test]
async fn a_route_without_a_line_in_the_table_is_out_of_reach_for_everyone() {
    async fn secret() -> &'static str {
        "secret"
    }
    let app = TestApp::full().await;
    let shared = App::open(app.handle.clone(), Config::default(), app.shutdown.clone())
        .await
        .unwrap();
    let routes = Router::new()
        .route("/api/forgotten", get(secret))
        .route("/api/tasks", get(secret).delete(secret));
    let guarded = shared.guarded(routes);
    let admin = Speaker {
        router: guarded,
        ..app.admin()
    };
    assert_eq!(admin.get("/api/tasks").await.text, "secret");
    admin.get("/api/forgotten").await.refused(404, "not_found");
    let refused = admin.delete("/api/tasks").await;
    assert_eq!(refused.headers["allow"], "GET,HEAD,POST");
    refused.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn what_is_not_routed_is_not_there_and_head_needs_what_get_needs() {
    let app = TestApp::full().await;
    for speaker in [app.nobody(), app.admin()] {
        speaker.get("/api/nowhere").await.refused(404, "not_found");
        let refused = speaker.delete("/api/tasks").await;
        assert_eq!(refused.headers["allow"], "GET,HEAD,POST");
        refused.refused(405, "method_not_allowed");
        assert_eq!(speaker.ask("OPTIONS", "/api/tasks", &[], None).await.status, 405);
        assert_eq!(speaker.ask("TRACE", "/api/tasks", &[], None).await.status, 405);
    }
    let head = |speaker: Speaker, path: &'static str| async move {
        speaker.ask("HEAD", path, &[], None).await.status.as_u16()
    };
    let agent = app.with_roles("agent", &["agent:a"]).await;
    assert_eq!(head(app.nobody(), "/api/tasks").await, 401);
    assert_eq!(head(agent.clone(), "/api/agents").await, 403);
    assert_eq!(head(agent, "/api/tasks").await, 200);
    assert_eq!(head(app.nobody(), "/v1/health").await, 200);
}
