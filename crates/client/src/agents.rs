//! Agents: the registry, and the roll-call by which work reaches them.

use std::time::Duration;

use adjutant_core::agent::AgentStatus;
use adjutant_wire::{Agent, Heartbeat, NewAgent, SyncAnswer, SyncRequest};
use reqwest::Method;

use crate::page::page;
use crate::{Client, Error, Page};

/// What a long poll gets on top of its wait before the server counts as gone.
const SYNC_MARGIN: Duration = Duration::from_secs(10);

impl Client {
    /// Registers an agent, or changes it.
    pub async fn register_agent(&self, agent: &NewAgent) -> Result<Agent, Error> {
        self.post(&["api", "agents"], agent).await
    }

    /// Agents in this state and with all of these capabilities.
    pub async fn list_agents(
        &self,
        status: Option<AgentStatus>,
        capabilities: &[String],
    ) -> Result<Vec<Agent>, Error> {
        let capabilities = (!capabilities.is_empty()).then(|| capabilities.join(","));
        self.call(Method::GET, &["api", "agents"])
            .maybe_query("status", status.map(AgentStatus::name))
            .maybe_query("capabilities", capabilities)
            .json()
            .await
    }

    /// The first page of the agents in this state and with all of these capabilities, by id: at most `limit` (1–1000). A
    /// server without pages gives all.
    pub async fn agents_page(
        &self,
        status: Option<AgentStatus>,
        capabilities: &[String],
        limit: u32,
    ) -> Result<Page<Agent>, Error> {
        let capabilities = (!capabilities.is_empty()).then(|| capabilities.join(","));
        let call = self
            .call(Method::GET, &["api", "agents"])
            .maybe_query("status", status.map(AgentStatus::name))
            .maybe_query("capabilities", capabilities)
            .query("limit", limit.to_string());
        page(call).await
    }

    /// The page that [`Page::next`] of an earlier page of agents names.
    pub async fn next_agents(&self, next: &str) -> Result<Page<Agent>, Error> {
        page(self.call(Method::GET, &["api", "agents"]).raw_query(next)).await
    }

    /// Reads an agent.
    pub async fn get_agent(&self, id: &str) -> Result<Agent, Error> {
        self.get(&["api", "agents", id]).await
    }

    /// Removes an agent; its attempts are given back, with no failure counted.
    pub async fn deregister_agent(&self, id: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "agents", id]).done().await
    }

    /// A roll-call. Sent once: who calls knows what has changed by the time it would be repeated. It may take
    /// `request.wait` and a margin of at most ten seconds.
    pub async fn sync(&self, id: &str, request: &SyncRequest) -> Result<SyncAnswer, Error> {
        let wait = request.wait.unwrap_or(0.0);
        let wait = Duration::try_from_secs_f64(wait.max(0.0)).unwrap_or_default();
        self.call(Method::POST, &["api", "agents", id, "sync"])
            .timeout(wait + SYNC_MARGIN.min(self.inner.timeout))
            .body(request)
            .json()
            .await
    }

    /// Proves life and leaves attempts as they are; the answer says what to stop.
    pub async fn heartbeat(&self, id: &str, session: Option<&str>) -> Result<SyncAnswer, Error> {
        let heartbeat = Heartbeat {
            session: session.map(str::to_owned),
        };
        self.post(&["api", "agents", id, "heartbeat"], &heartbeat).await
    }

    /// Lets an agent finish what it has and take nothing new.
    pub async fn drain_agent(&self, id: &str) -> Result<Agent, Error> {
        self.call(Method::POST, &["api", "agents", id, "drain"])
            .json()
            .await
    }

    /// Ends a drain.
    pub async fn undrain_agent(&self, id: &str) -> Result<Agent, Error> {
        self.call(Method::POST, &["api", "agents", id, "undrain"])
            .json()
            .await
    }

    /// Ends a quarantine or a pause.
    pub async fn lift_agent(&self, id: &str) -> Result<Agent, Error> {
        self.call(Method::POST, &["api", "agents", id, "lift"])
            .json()
            .await
    }
}
