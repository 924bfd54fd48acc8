//! The pulse: heartbeats for the agents that work through this bridge.
//!
//! A model that thinks for minutes says nothing meanwhile, and the server would give its tasks to others. The bridge
//! lives exactly as long as the program that started it, so it says what the model does not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adjutant_client::Client;
use serde_json::Value;
use tokio::sync::Notify;

use super::message::Request;

/// How often an agent's life is proved, until the server has said how long a lease lasts.
const FIRST_INTERVAL: Duration = Duration::from_secs(15);
/// Heartbeats in the time that a lease lasts: one may be lost.
const BEATS_PER_LEASE: u32 = 4;
/// No more often, however short a lease is.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// The most agents: more do not work through one bridge.
const MAX_AGENTS: usize = 100;
/// The tools by which an agent begins to work.
const BEGINNINGS: [&str; 2] = ["register", "next_task"];

/// The agents that work through this bridge.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<Shared>);

#[derive(Default)]
struct Shared {
    agents: Mutex<BTreeSet<String>>,
    joined: Notify,
}

impl Pulse {
    /// Notices an agent in the answer to a request.
    pub(super) fn notice(&self, request: &Request, answer: &Value) {
        let begins = request.method == "tools/call"
            && request
                .name
                .as_deref()
                .is_some_and(|name| BEGINNINGS.contains(&name));
        let result = &answer["result"];
        let agent = result["structuredContent"]["agent_id"].as_str();
        let Some(agent) = agent.filter(|_| begins && result["isError"] != true) else {
            return;
        };
        let mut agents = self.agents();
        if agents.len() < MAX_AGENTS && agents.insert(agent.to_owned()) {
            self.0.joined.notify_one();
        }
    }

    /// Proves their lives for ever.
    pub(super) async fn beat(self, client: Client) {
        let mut interval = FIRST_INTERVAL;
        loop {
            let agents = self.agents().clone();
            for agent in agents {
                match client.heartbeat(&agent, None).await {
                    Ok(answer) => {
                        let lease = u64::try_from(answer.lease_ttl.as_secs_ceil()).unwrap_or_default();
                        interval = (Duration::from_secs(lease) / BEATS_PER_LEASE).max(LEAST_INTERVAL);
                    }
                    // It left, or its token did: whoever comes back registers again.
                    Err(error) if matches!(error.code(), Some(401 | 403 | 404)) => {
                        tracing::warn!(%error, agent, "no more heartbeats for this agent");
                        self.agents().remove(&agent);
                    }
                    Err(error) => tracing::warn!(%error, agent, "a heartbeat was not taken"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.0.joined.notified() => {}
            }
        }
    }

    fn agents(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        // A set of names is whole whenever it can be seen.
        self.0.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_is_noticed_when_it_begins_to_work_and_not_otherwise() {
        let call = |name: &str| Request {
            id: json!(1),
            method: "tools/call".into(),
            name: Some(name.into()),
            revision: None,
        };
        let answer = json!({"result": {"isError": false, "structuredContent": {"agent_id": "a"}}});
        let pulse = Pulse::default();
        pulse.notice(&call("check_allowance"), &answer);
        let refused = json!({"result": {"isError": true, "structuredContent": {"agent_id": "a"}}});
        pulse.notice(&call("register"), &refused);
        assert!(pulse.agents().is_empty());
        pulse.notice(&call("next_task"), &answer);
        assert!(pulse.agents().contains("a"));
    }
}
