//! The end of a worker: what runs is ended, what is done is delivered, and the rest is given back.

use std::time::Duration;

use adjutant_wire::AttemptRef;
use tokio::time::{Instant, sleep};

use super::{RETRY_BASE, RollCall, at};
use crate::Error;
use crate::error::Undelivered;
use crate::observer::Cause;
use crate::reporter::{SEND_TIMEOUT, Sent, send_usage};
use crate::roster::Key;

/// How long the last words may take, once all processes are gone.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long one proof of life may take while processes end.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often life is proved meanwhile when the lease is not known.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

impl RollCall {
    /// Ends what runs and leaves nothing undone at the server.
    pub(super) async fn leave(&mut self) -> Result<(), Error> {
        self.roster.stop_all(Cause::Shutdown);
        self.end_attempts().await;
        if !self.registered {
            return Ok(());
        }
        let outcome = tokio::time::timeout(FAREWELL, self.farewell()).await;
        self.summary.undelivered = self.roster.undelivered() as u64;
        if self.roster.undelivered() > 0 || !self.roster.interrupted().is_empty() || self.dues.len() > 0 {
            tracing::warn!(
                agent = %self.config.id,
                results = self.roster.undelivered(),
                interrupted = self.roster.interrupted().len(),
                usage = self.dues.len(),
                "the server could not be told of all attempts: it will see them as lost"
            );
        }
        match outcome {
            Ok(outcome) => outcome,
            // The server is away. The worker ends all the same, as it was told to.
            Err(_) if self.roster.undelivered() == 0 => Ok(()),
            Err(_) => Err(Error::Undelivered {
                undelivered: Undelivered::default(),
            }),
        }
    }

    /// Ends what runs, and says nothing more to the server than what was spent.
    pub(super) async fn abandon(&mut self, error: &Error) {
        let cause = match error {
            Error::Superseded { .. } => Cause::Superseded,
            _ => Cause::Shutdown,
        };
        self.roster.stop_all(cause);
        while let Some(ended) = self.attempts.join_next_with_id().await {
            self.ended(ended);
        }
        if matches!(error, Error::Superseded { .. }) {
            drop(tokio::time::timeout(FAREWELL, self.pay_up()).await);
        }
        self.summary.undelivered = self.roster.undelivered() as u64;
    }

    /// Waits for all processes to be gone, and keeps their leases alive, or they would be lost instead of released.
    async fn end_attempts(&mut self) {
        let interval = self.lease.wait().unwrap_or(HEARTBEAT_INTERVAL);
        let mut next_beat = Instant::now() + interval;
        loop {
            let deadline = self.lease_deadline();
            tokio::select! {
                ended = self.attempts.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended),
                    None => return,
                },
                () = at(deadline) => self.lose_lease(),
                () = tokio::time::sleep_until(next_beat) => {
                    next_beat = Instant::now() + interval;
                    self.heartbeat().await;
                }
            }
        }
    }

    async fn heartbeat(&mut self) {
        let sent_at = Instant::now();
        let limit = HEARTBEAT_TIMEOUT.min(self.lease.answer_time());
        let beat = self.client.heartbeat(&self.config.id, Some(&self.session));
        match tokio::time::timeout(limit, beat).await {
            Ok(Ok(answer)) => self.renew(&answer, sent_at),
            Ok(Err(error)) => tracing::debug!(%error, "no heartbeat while the commands end"),
            Err(_) => tracing::debug!("no answer to a heartbeat while the commands end"),
        }
    }

    /// Tells what is owed, until all of it is told or the server does not let the worker in.
    async fn pay_up(&mut self) {
        while let Some(report) = self.dues.next() {
            match send_usage(&self.client, report, SEND_TIMEOUT).await {
                Sent::Taken | Sent::Refused => self.dues.settled(),
                Sent::Denied => return,
                Sent::Later => sleep(RETRY_BASE).await,
            }
        }
    }

    async fn farewell(&mut self) -> Result<(), Error> {
        // Before the completions where that can be; but they do not depend on it.
        drop(tokio::time::timeout(FAREWELL / 4, self.pay_up()).await);
        self.take_leave().await?;
        self.pay_up().await;
        Ok(())
    }

    async fn take_leave(&mut self) -> Result<(), Error> {
        self.deliver().await?;
        if self.config.deregister {
            // One step gives everything back, and nothing new is offered to an agent that is about to be gone.
            match self.client.deregister_agent(&self.config.id).await {
                Ok(()) => {
                    self.all_given_back();
                    return Ok(());
                }
                // Somebody else removed it, or the answer to this very request was lost.
                Err(error) if error.code() == Some(404) => {
                    self.all_given_back();
                    return Ok(());
                }
                Err(error) => {
                    tracing::debug!(agent = %self.config.id, %error, "cannot leave the registry");
                }
            }
        }
        let interrupted: Vec<Key> = self.roster.interrupted().to_vec();
        for key in &interrupted {
            self.release(key).await;
        }
        if !interrupted.is_empty() {
            // Frees the places of what is gone.
            self.deliver().await?;
        }
        Ok(())
    }

    /// Says once more what is done, until all of it is taken. Finds out, too, whether another worker took over.
    async fn deliver(&mut self) -> Result<(), Error> {
        loop {
            let (mut request, batch) = self.compose();
            request.max = Some(0);
            request.wait = None;
            match self.call(request).await {
                Ok(answer) => {
                    for settled in self.roster.settle(&batch, answer.done) {
                        self.settled(settled);
                    }
                }
                Err(error) => match (error.code(), error.slug()) {
                    (_, Some("superseded")) => return Err(self.superseded()),
                    (Some(400 | 413 | 415 | 422), _) if !batch.is_empty() => {
                        if let adjutant_client::Error::Refused { body, .. } = error
                            && let Some(settled) = self.roster.suspect(&batch, body)
                        {
                            self.settled(settled);
                        }
                        continue;
                    }
                    (Some(code), _) if code < 500 && !error.is_retryable() => {
                        tracing::warn!(agent = %self.config.id, %error, "the last roll-call is refused");
                        return match self.roster.undelivered() {
                            0 => Ok(()),
                            _ => Err(Error::server("the server refuses the last roll-call", error)),
                        };
                    }
                    _ => sleep(RETRY_BASE).await,
                },
            }
            if self.roster.undelivered() == 0 {
                return Ok(());
            }
            if !batch.is_empty() {
                sleep(RETRY_BASE).await;
            }
        }
    }

    async fn release(&mut self, key: &Key) {
        let attempt = AttemptRef {
            attempt: Some(key.attempt),
            agent_id: Some(self.config.id.clone()),
        };
        loop {
            match self.client.release_task(&key.id, &attempt).await {
                Ok(_) => break,
                Err(error) if error.is_retryable() => sleep(RETRY_BASE).await,
                Err(error) => {
                    tracing::debug!(task = %key.id, %error, "an attempt cannot be given back: it has ended");
                    break;
                }
            }
        }
        self.roster.given_back(key);
    }

    fn all_given_back(&mut self) {
        let interrupted: Vec<Key> = self.roster.interrupted().to_vec();
        for key in &interrupted {
            self.roster.given_back(key);
        }
    }
}
