//! Health, usage, status, access tokens, and the API's own description.

use adjutant_wire::{FleetStatus, Health, NewToken, SignInLink, Token, TokenMade, UsageReport};
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// Whether the server is well. Needs no token.
    pub async fn health(&self) -> Result<Health, Error> {
        self.get(&["v1", "health"]).await
    }

    /// The whole fleet at a glance.
    pub async fn status(&self) -> Result<FleetStatus, Error> {
        self.get(&["api", "status"]).await
    }

    /// The same without the agents: counts of tasks and the last event. It costs the same however large the fleet is.
    pub async fn counts(&self) -> Result<FleetStatus, Error> {
        self.call(Method::GET, &["api", "status"])
            .query("agents", "false")
            .json()
            .await
    }

    /// Reports tokens and cost. Sent once; a report with `total: true` may be sent again and counts once.
    pub async fn report_usage(&self, report: &UsageReport) -> Result<(), Error> {
        self.call(Method::POST, &["api", "usage"])
            .body(report)
            .done()
            .await
    }

    /// All access tokens, without their secrets.
    pub async fn list_tokens(&self) -> Result<Vec<Token>, Error> {
        self.get(&["api", "tokens"]).await
    }

    /// Makes an access token; its secret is in this answer and nowhere else.
    pub async fn create_token(&self, token: &NewToken) -> Result<TokenMade, Error> {
        self.post(&["api", "tokens"], token).await
    }

    /// Makes a link that signs a browser in to the dashboard, once.
    pub async fn create_sign_in_link(&self) -> Result<SignInLink, Error> {
        self.post(&["api", "sign-in-links"], &serde_json::json!({})).await
    }

    /// Revokes an access token at once.
    pub async fn revoke_token(&self, name: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "tokens", name]).done().await
    }

    /// The API's own description.
    pub async fn openapi(&self) -> Result<serde_json::Value, Error> {
        self.get(&["openapi.json"]).await
    }
}
