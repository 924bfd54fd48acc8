//! What to do when the server is away, or says no.

use std::time::Duration;

use super::{RETRY_CAP, RollCall, Until};
use crate::Error;
use crate::observer::Notice;
use crate::roster::Key;

/// A server that does not let the worker in is asked no more often: it counts unknown tokens against an address.
const DENIED_PAUSE: Duration = Duration::from_secs(10);

impl RollCall {
    /// Sees to a roll-call that was not answered, or refused.
    pub(super) async fn failed(&mut self, error: adjutant_client::Error, batch: &[Key]) -> Result<(), Error> {
        let adjutant_client::Error::Refused { body, .. } = &error else {
            self.pause(&error).await;
            return Ok(());
        };
        match (body.code, body.error.as_str()) {
            (409, "superseded") => return Err(self.superseded()),
            (404, "agent_not_found" | "") => {
                tracing::warn!(agent = %self.config.id, "the server does not know this agent: registering again");
                self.rest(&error).await;
                return self.register().await;
            }
            (400 | 413 | 415 | 422, _) if !batch.is_empty() => {
                if let Some(settled) = self.roster.suspect(batch, body.clone()) {
                    self.settled(settled);
                }
                return Ok(());
            }
            // An address that showed unknown tokens too often is not told any more that they are unknown.
            (429, "too_many_attempts") => {}
            (409 | 429 | 500.., _) => {
                self.pause(&error).await;
                return Ok(());
            }
            _ => {}
        }
        self.denial("the server refuses the roll-call", error).await
    }

    /// The server refuses this worker. What runs goes on as long as its lease, and what is done is kept meanwhile: it
    /// may be let in again. With nothing running that is the end.
    pub(super) async fn denial(
        &mut self,
        doing: &'static str,
        error: adjutant_client::Error,
    ) -> Result<(), Error> {
        if self.denied.is_none() {
            self.denied = Some(error.to_string());
            if self.roster.running() > 0 {
                tracing::warn!(agent = %self.config.id, %error, "the server refuses this worker; what runs goes on for now");
                self.notice(Notice::Denied {
                    error: error.to_string(),
                });
            }
        }
        if self.roster.running() == 0 {
            return Err(Error::server(doing, error));
        }
        let pause = tokio::time::sleep(DENIED_PAUSE);
        self.attend(Until::News, pause).await;
        Ok(())
    }

    /// Says that the server is away, and waits a while before the next try.
    pub(super) async fn pause(&mut self, error: &adjutant_client::Error) {
        if self.reachable {
            self.reachable = false;
            tracing::warn!(agent = %self.config.id, %error, "the server is away");
            self.notice(Notice::Unreachable {
                error: error.to_string(),
            });
        }
        self.rest(error).await;
    }

    pub(super) async fn rest(&mut self, error: &adjutant_client::Error) {
        let asked = error.retry_after().unwrap_or_default().min(RETRY_CAP);
        let wait = self.backoff.next_wait().max(asked);
        self.attend(Until::Shutdown, tokio::time::sleep(wait)).await;
    }

    pub(super) fn superseded(&self) -> Error {
        Error::superseded(&self.config.id)
    }
}
