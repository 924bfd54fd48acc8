//! The worker against a scripted server, with real commands.

mod adapters;
mod commands;
mod refusals;
mod roster;
mod server;
mod spending;

use std::sync::Arc;
use std::time::Duration;

use adjutant_client::Client;
use adjutant_client::stub::{Exchange, Stub};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, Notice, Summary};

/// A worker and the server that it believes to speak to.
struct Scene {
    stub: Stub,
    shutdown: CancellationToken,
    notices: mpsc::UnboundedReceiver<Notice>,
    worker: JoinHandle<Result<Summary, Error>>,
    /// What came beside roll-calls, such as output and usage; answered already.
    others: Vec<(String, Value)>,
    session: Value,
    ttl_secs: u64,
}

impl Scene {
    /// A worker that is registered and runs this script for each task.
    async fn script(script: &str) -> Self {
        Self::with(script, |_| {}).await
    }

    async fn with(script: &str, change: impl FnOnce(&mut Config)) -> Self {
        let stub = Stub::start().await;
        let client = Client::builder(&stub.url)
            .token("the-worker's-own")
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let command = ["sh", "-c", script, "sh", "{title}"].map(str::to_owned);
        let mut config = Config::new("w", command.to_vec());
        config.max_load = 2;
        config.grace = Duration::from_secs(5);
        change(&mut config);
        let shutdown = CancellationToken::new();
        let (sender, notices) = mpsc::unbounded_channel();
        let observer = move |notice: Notice| drop(sender.send(notice));
        let worker = tokio::spawn(crate::run(client, config, shutdown.clone(), Arc::new(observer)));
        let mut scene = Self {
            stub,
            shutdown,
            notices,
            worker,
            others: Vec::new(),
            session: Value::Null,
            ttl_secs: 60,
        };
        scene.session = scene.registration().await;
        scene
    }

    /// Answers a registration and gives its session.
    async fn registration(&mut self) -> Value {
        let request = self.next_where(|path| path == "/api/agents").await;
        let session = request.body["session"].clone();
        request.json(
            201,
            &json!({"id": "w", "name": "w", "capabilities": [], "models": [], "status": "available",
                "last_heartbeat": "2026-11-24T10:00:00Z", "current_load": 0, "max_load": 2, "paused_until": null,
                "metadata": null, "registered_at": "2026-11-24T10:00:00Z"}),
        );
        session
    }

    /// The next roll-call.
    async fn sync(&mut self) -> Exchange {
        self.next_where(|path| path == "/api/agents/w/sync").await
    }

    /// The next request with such a path; output and usage are answered on the way.
    async fn next_where(&mut self, wanted: impl Fn(&str) -> bool) -> Exchange {
        loop {
            let request = self.stub.next().await;
            if wanted(&request.path) {
                return request;
            }
            let is_note = request.method == "PATCH";
            let is_report = is_note || request.path.ends_with("/output") || request.path == "/api/usage";
            assert!(is_report, "unexpected: {} {}", request.method, request.path);
            self.others.push((request.path.clone(), request.body.clone()));
            request.json(200, &if is_note { task("t") } else { json!({}) });
        }
    }

    /// Waits until a report of this kind has come.
    async fn report(&mut self, path: &str) -> Value {
        let request = self.next_where(|other| other == path).await;
        let body = request.body.clone();
        request.json(200, &json!({}));
        body
    }

    fn answer(&self, start: &[Value], stop: &[Value], done: &[Value]) -> Value {
        json!({"start": start, "stop": stop, "done": done, "drain": false, "lease_ttl": self.ttl_secs})
    }

    /// Answers the next roll-call with a task to start, and waits until its command runs.
    async fn start(&mut self, id: &str) {
        self.start_with(offer(id)).await;
    }

    /// The same with an offer.
    async fn start_with(&mut self, offer: Value) {
        self.sync().await.json(200, &self.answer(&[offer], &[], &[]));
        self.notice(|notice| matches!(notice, Notice::Started { .. }))
            .await;
    }

    /// Answers roll-calls until one brings a completion; gives that one.
    async fn completion(&mut self) -> (Exchange, Value) {
        let mut abandoned = Vec::new();
        loop {
            let sync = self.sync().await;
            if let Some(done) = sync.body["done"].get(0).cloned() {
                return (sync, done);
            }
            if sync.body["wait"].is_null() {
                sync.json(200, &self.answer(&[], &[], &[]));
            } else {
                // The worker gives up on it when the attempt ends. To drop it would be to hang up.
                abandoned.push(sync);
            }
        }
    }

    /// Why the next attempt that is stopped is stopped.
    async fn stopped(&mut self) -> crate::Cause {
        let stopped = self
            .notice(|notice| matches!(notice, Notice::Stopped { .. }))
            .await;
        match stopped {
            Notice::Stopped { cause, .. } => cause,
            other => unreachable!("{other:?} was not asked for"),
        }
    }

    /// The next notice that fits.
    async fn notice(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let next = async {
            loop {
                let notice = self.notices.recv().await.expect("the worker is there");
                if wanted(&notice) {
                    return notice;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next)
            .await
            .expect("the notice comes within 20 s")
    }

    /// Lets the worker end by itself.
    async fn end(self) -> Result<Summary, Error> {
        tokio::time::timeout(Duration::from_secs(20), self.worker)
            .await
            .expect("the worker ends within 20 s")
            .unwrap()
    }

    /// Tells the worker to end, and sees it off.
    async fn close(mut self) -> Summary {
        self.shutdown.cancel();
        loop {
            let request = self
                .next_where(|path| path == "/api/agents/w/sync" || path == "/api/agents/w")
                .await;
            if request.method == "DELETE" {
                request.json(200, &json!({}));
                return self.end().await.unwrap();
            }
            let done: Vec<Value> = taken(&request);
            request.json(200, &self.answer(&[], &[], &done));
        }
    }
}

/// That each completion of a roll-call was taken.
fn taken(sync: &Exchange) -> Vec<Value> {
    let count = sync.body["done"].as_array().map_or(0, Vec::len);
    vec![json!({"status": 200}); count]
}

fn task(id: &str) -> Value {
    json!({"id": id, "title": format!("title of {id}"), "status": "in_progress", "payload": {"x": 1}})
}

fn offer(id: &str) -> Value {
    json!({"task": task(id), "attempt": 1, "lease_expires_at": "2026-11-24T10:00:00Z", "token": "for-the-attempt"})
}

fn stop(id: &str, reason: &str) -> Value {
    json!({"id": id, "attempt": 1, "reason": reason})
}

fn running(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({"id": id, "attempt": 1})).collect()
}
