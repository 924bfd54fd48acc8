//! Limits and their views: allowances of agents, quotas of models, limits of repositories.

use adjutant_wire::{Allowance, AllowanceCheck, AllowanceUsage, LimitSpec, Model, Repo, ScopeLimits};
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// The limits of a scope (`fleet`, `project:P`, `agent:A`, `model:M`, `repo:OWNER/NAME`) and what is used.
    pub async fn limits(&self, scope: &str) -> Result<ScopeLimits, Error> {
        self.get(&["api", "limits", scope]).await
    }

    /// Replaces the limits of a scope.
    pub async fn put_limits(&self, scope: &str, limits: &[LimitSpec]) -> Result<ScopeLimits, Error> {
        let body = serde_json::json!({ "scope": scope, "limits": limits });
        self.put(&["api", "limits", scope], &body).await
    }

    /// Sets the counters of a scope back.
    pub async fn reset_limits(&self, scope: &str) -> Result<(), Error> {
        self.call(Method::POST, &["api", "limits", scope, "reset"])
            .done()
            .await
    }

    /// The allowance of an agent.
    pub async fn allowance(&self, agent_id: &str) -> Result<Allowance, Error> {
        self.get(&["api", "allowances", agent_id]).await
    }

    /// Replaces the allowance of an agent.
    pub async fn put_allowance(&self, agent_id: &str, allowance: &Allowance) -> Result<Allowance, Error> {
        self.put(&["api", "allowances", agent_id], allowance).await
    }

    /// Sets the counters of an agent back.
    pub async fn reset_allowance(&self, agent_id: &str) -> Result<(), Error> {
        self.call(Method::POST, &["api", "allowances", agent_id, "reset"])
            .done()
            .await
    }

    /// Whether an agent may start something (with this model), and what is left.
    pub async fn check_allowance(
        &self,
        agent_id: &str,
        model: Option<&str>,
    ) -> Result<AllowanceCheck, Error> {
        self.call(Method::GET, &["api", "allowances", agent_id, "check"])
            .maybe_query("model", model)
            .json()
            .await
    }

    /// What an agent used today.
    pub async fn allowance_usage(&self, agent_id: &str) -> Result<AllowanceUsage, Error> {
        self.get(&["api", "allowances", agent_id, "usage"]).await
    }

    /// The quota and the prices of a model.
    pub async fn model(&self, model: &str) -> Result<Model, Error> {
        self.get(&["api", "models", model]).await
    }

    /// Replaces the quota and the prices of a model.
    pub async fn put_model(&self, model: &str, quota: &Model) -> Result<Model, Error> {
        self.put(&["api", "models", model], quota).await
    }

    /// The limits of a repository, `owner/name`.
    pub async fn repo(&self, repo: &str) -> Result<Repo, Error> {
        let (owner, name) = split_repo(repo)?;
        self.get(&["api", "repos", owner, name]).await
    }

    /// Replaces the limits of a repository, `owner/name`.
    pub async fn put_repo(&self, repo: &str, limits: &Repo) -> Result<Repo, Error> {
        let (owner, name) = split_repo(repo)?;
        self.put(&["api", "repos", owner, name], limits).await
    }
}

fn split_repo(repo: &str) -> Result<(&str, &str), Error> {
    repo.split_once('/')
        .filter(|(owner, name)| !owner.is_empty() && !name.is_empty())
        .ok_or_else(|| Error::Invalid(format!("`{repo}` is not a repository: write owner/name")))
}
