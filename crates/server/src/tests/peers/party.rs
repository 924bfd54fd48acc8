//! A server that speaks for its peers, and what is seen of it.

use std::time::Duration;

use adjutant_store::memory::Memory;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::stub::Stub;
use crate::config::Config;
use crate::peers;
use crate::tests::TestApp;

/// Longer than anything takes here.
pub(super) const SOON: Duration = Duration::from_mins(1);

/// A server that speaks for its peers.
pub(super) struct Party {
    pub(super) app: TestApp,
    leaving: CancellationToken,
    keeping: JoinHandle<()>,
}

impl Party {
    pub(super) async fn new() -> Self {
        Self::patient(10).await
    }

    /// One that waits so many seconds for each answer.
    pub(super) async fn patient(seconds: u64) -> Self {
        Self::told(Config {
            allow_private_peers: true,
            peer_patience: Duration::from_secs(seconds),
            ..Config::default()
        })
        .await
    }

    pub(super) async fn told(config: Config) -> Self {
        let app = TestApp::on(Memory::alone(), config).await;
        let leaving = CancellationToken::new();
        let keeping = tokio::spawn(peers::keep(app.app.clone(), leaving.clone()));
        Self {
            app,
            leaving,
            keeping,
        }
    }

    /// One with an agent `p` that is this stub.
    pub(super) async fn with(stub: &Stub) -> Self {
        let party = Self::new().await;
        party.register(&stub.url()).await;
        party
    }

    pub(super) async fn register(&self, url: &str) {
        let agent = json!({"id": "p", "protocol": "a2a", "url": url, "capabilities": ["go"], "max_load": 1});
        self.app.admin().post("/api/agents", agent).await.good();
    }

    pub(super) async fn submit(&self, more: Value) {
        let mut task = json!({"id": "x", "title": "Do it", "max_retries": 1});
        for (name, value) in more.as_object().unwrap() {
            task[name] = value.clone();
        }
        self.app.admin().post("/api/tasks", task).await.good();
    }

    pub(super) async fn read(&self, path: &str) -> Value {
        self.app.admin().get(path).await.good()
    }

    /// The task, once it is as it should be.
    pub(super) async fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(SOON, async {
            loop {
                let task = self.read("/api/tasks/x").await;
                if is(&task) {
                    return task;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let Ok(task) = found.await else {
            panic!("it stays {}", self.read("/api/tasks/x").await);
        };
        task
    }

    /// Waits until it is noted which of the peer's tasks its own is.
    pub(super) async fn noted(&self) {
        self.until(|task| task["notes"][0]["text"] == "a2a task far-1")
            .await;
    }

    pub(super) async fn ended(&self) -> Value {
        self.until(|task| {
            matches!(
                task["status"].as_str(),
                Some("completed" | "failed" | "cancelled")
            )
        })
        .await
    }

    /// Stops to speak, and begins anew as the next server would.
    pub(super) async fn restart(&mut self) {
        self.leaving.cancel();
        (&mut self.keeping).await.unwrap();
        self.leaving = CancellationToken::new();
        self.keeping = tokio::spawn(peers::keep(self.app.app.clone(), self.leaving.clone()));
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}
