//! Webhooks: places that the server tells of events.

use adjutant_wire::{NewWebhook, Webhook, WebhookDelivery, WebhookTest};
use reqwest::Method;

use crate::{Client, Error, random_key};

/// The most deliveries of one page.
const PAGE: usize = 1_000;

impl Client {
    /// All webhooks, without their secrets.
    pub async fn list_webhooks(&self) -> Result<Vec<Webhook>, Error> {
        self.get(&["api", "webhooks"]).await
    }

    /// Adds a webhook; its secret is in this answer alone.
    pub async fn add_webhook(&self, webhook: &NewWebhook) -> Result<Webhook, Error> {
        // So that its secret is not lost with an answer: a repeat shows it again.
        let key = random_key();
        self.call(Method::POST, &["api", "webhooks"])
            .key(Some(&key))
            .body(webhook)
            .json()
            .await
    }

    /// One webhook, without its secret.
    pub async fn get_webhook(&self, name: &str) -> Result<Webhook, Error> {
        self.get(&["api", "webhooks", name]).await
    }

    /// Removes a webhook, with what was not delivered.
    pub async fn remove_webhook(&self, name: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "webhooks", name]).done().await
    }

    /// Sends something to a webhook that is no event, and says how that went.
    pub async fn test_webhook(&self, name: &str) -> Result<WebhookTest, Error> {
        self.post(&["api", "webhooks", name, "test"], &()).await
    }

    /// Delivers again for a webhook that was disabled.
    pub async fn resume_webhook(&self, name: &str) -> Result<Webhook, Error> {
        self.post(&["api", "webhooks", name, "resume"], &()).await
    }

    /// All that was not delivered for a webhook: what waits for another try, and dead letters.
    pub async fn list_deliveries(&self, name: &str) -> Result<Vec<WebhookDelivery>, Error> {
        let mut all: Vec<WebhookDelivery> = Vec::new();
        loop {
            let since = all.last().map_or(0, |delivery| delivery.seq);
            let page: Vec<WebhookDelivery> = self
                .call(Method::GET, &["api", "webhooks", name, "deliveries"])
                .query("since", since.to_string())
                .query("limit", PAGE.to_string())
                .json()
                .await?;
            let more = page.len() == PAGE;
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Tries all dead letters of a webhook again.
    pub async fn retry_deliveries(&self, name: &str) -> Result<Webhook, Error> {
        self.post(&["api", "webhooks", name, "deliveries", "retry"], &())
            .await
    }

    /// Tries one delivery again: of the event with this `seq`.
    pub async fn retry_delivery(&self, name: &str, seq: u64) -> Result<Webhook, Error> {
        let seq = seq.to_string();
        self.post(&["api", "webhooks", name, "deliveries", &seq, "retry"], &())
            .await
    }
}
