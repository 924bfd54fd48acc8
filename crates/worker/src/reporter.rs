//! Tells the server what an attempt prints and uses while it runs.
//!
//! Output goes in order, in batches of about a second. Usage goes as totals, the newest only, at most every few
//! seconds: what running attempts spend between two reports is all that a limit can be overrun by.

use std::time::Duration;

use adjutant_client::{Backoff, Client, Error};
use adjutant_wire::{Output, UsageEvent, UsageReport};
use tokio::time::{Instant, MissedTickBehavior};

use crate::feed::Feed;
use crate::roster::Key;
use crate::usage::Totals;

/// Output is sent this often.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(1);
/// Usage is sent at most this often, and together with the time that a report takes within five seconds.
const USAGE_INTERVAL: Duration = Duration::from_secs(3);
/// One message may take this long. They are worth little later, and the end of the attempt waits for them.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the last usage of an attempt is tried: it is money.
const LAST_TRIES: u32 = 3;

/// Speaks for one attempt.
pub(crate) struct Reporter<'a> {
    client: &'a Client,
    agent: &'a str,
    key: &'a Key,
    feed: &'a Feed,
    /// The server takes no more output of this attempt.
    output_over: bool,
    /// The server takes no more usage of this attempt.
    usage_over: bool,
}

impl<'a> Reporter<'a> {
    pub(crate) const fn new(client: &'a Client, agent: &'a str, key: &'a Key, feed: &'a Feed) -> Self {
        Self {
            client,
            agent,
            key,
            feed,
            output_over: false,
            usage_over: false,
        }
    }

    /// Reports until the feed is closed, and then what is left of the output.
    pub(crate) async fn run(&mut self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + OUTPUT_INTERVAL, OUTPUT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut usage_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.feed.closed.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if Instant::now() >= usage_at && self.usage(|_| true).await {
                usage_at = Instant::now() + USAGE_INTERVAL;
            }
            self.output().await;
        }
        self.output().await;
    }

    /// Reports the usage that is left, but for `kept`, which rides on the completion.
    pub(crate) async fn last_usage(&mut self, kept: Option<&Totals>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        for _ in 0..LAST_TRIES {
            self.usage(|totals| Some(totals) != kept).await;
            let left = self.feed.usage(|usage| {
                let mut untold = usage.untold();
                untold.retain(|totals| Some(totals) != kept);
                untold.len()
            });
            if left == 0 || self.usage_over {
                return;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        tracing::warn!(task = %self.key.id, "the last usage of an attempt could not be reported");
    }

    async fn output(&mut self) {
        if self.output_over {
            return;
        }
        let Some(text) = self.feed.take_live() else {
            return;
        };
        let output = Output {
            text,
            attempt: Some(self.key.attempt),
            agent_id: Some(self.agent.to_owned()),
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.client.append_output(&self.key.id, &output)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_final(&error) => {
                tracing::debug!(task = %self.key.id, %error, "live output is not taken");
                self.output_over = true;
            }
            // It may have arrived: those who watch may then see it twice, which is better than not at all.
            Ok(Err(_)) | Err(_) => self.feed.restore_live(&output.text),
        }
    }

    /// Says whether there was anything to report.
    async fn usage(&mut self, wanted: impl Fn(&Totals) -> bool) -> bool {
        let mut untold = self.feed.usage(|usage| usage.untold());
        untold.retain(wanted);
        for totals in &untold {
            if self.usage_over {
                break;
            }
            let report = UsageReport {
                agent_id: self.agent.to_owned(),
                job_id: self.key.id.clone(),
                model: totals.model.clone(),
                tokens_in: totals.tokens.tokens_in,
                tokens_out: totals.tokens.tokens_out,
                tokens_cached: totals.tokens.tokens_cached,
                cost: totals.cost,
                total: true,
                event: UsageEvent::Usage,
                attempt: Some(self.key.attempt),
            };
            match tokio::time::timeout(SEND_TIMEOUT, self.client.report_usage(&report)).await {
                Ok(Ok(())) => self.feed.usage(|usage| usage.told(totals)),
                Ok(Err(error)) if is_final(&error) => {
                    tracing::warn!(task = %self.key.id, %error, "usage is not taken");
                    self.usage_over = true;
                }
                Ok(Err(error)) => {
                    tracing::debug!(task = %self.key.id, %error, "usage is reported again later");
                }
                Err(_) => tracing::debug!(task = %self.key.id, "usage is reported again later"),
            }
        }
        !untold.is_empty()
    }
}

/// Whether sending the same again cannot help.
fn is_final(error: &Error) -> bool {
    !error.is_retryable() && error.code().is_some_and(|code| code < 500)
}
