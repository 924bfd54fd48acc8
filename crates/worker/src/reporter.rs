//! Tells the server what an attempt prints and uses while it runs.
//!
//! Two voices that never wait for each other: [`Voice::live`] sends output, in order, in batches of about a second;
//! [`Meter`] sends usage as totals, the newest only. What running attempts spend between two reports of a meter is all
//! that a limit can be overrun by.

use std::time::Duration;

use adjutant_client::{Client, Error};
use adjutant_wire::{Output, UsageEvent, UsageReport};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::feed::Feed;
use crate::roster::Key;
use crate::usage::{Totals, Urgency};

/// Output is sent this often.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(1);
/// Usage is sent this often, and together with the time that a report takes within five seconds.
const USAGE_INTERVAL: Duration = Duration::from_secs(3);
/// A lot of usage is sent at once, but no more often than this: each report is a commit.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);
/// A server that does not let the worker in is asked no more often: it counts unknown tokens against an address.
const DENIED_INTERVAL: Duration = Duration::from_secs(30);
/// One message may take this long. They are worth little later, and the end of the attempt waits for them.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// For which attempt there is something to say, and where that comes from.
#[derive(Clone, Copy)]
pub(crate) struct Voice<'a> {
    pub(crate) client: &'a Client,
    pub(crate) agent: &'a str,
    pub(crate) key: &'a Key,
    pub(crate) feed: &'a Feed,
}

impl Voice<'_> {
    /// Sends output until the feed is closed, and then what is left of it.
    pub(crate) async fn live(self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + OUTPUT_INTERVAL, OUTPUT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let closed = tokio::select! {
                biased;
                () = self.feed.closed.cancelled() => true,
                _ = ticks.tick() => false,
            };
            if !self.output().await || closed {
                return;
            }
        }
    }

    /// Says whether the server takes more of it.
    async fn output(self) -> bool {
        let Some(text) = self.feed.take_live() else {
            return true;
        };
        let output = Output {
            text,
            attempt: Some(self.key.attempt),
            agent_id: Some(self.agent.to_owned()),
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.client.append_output(&self.key.id, &output)).await;
        match sent {
            Ok(Ok(())) => true,
            Ok(Err(error)) if is_final(&error) => {
                tracing::debug!(task = %self.key.id, %error, "live output is not taken");
                false
            }
            // It may have arrived: those who watch may then see it twice, which is better than not at all.
            Ok(Err(_)) | Err(_) => {
                self.feed.restore_live(&output.text);
                true
            }
        }
    }

    fn report(self, totals: &Totals) -> UsageReport {
        UsageReport {
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
        }
    }
}

/// Tells what an attempt uses.
pub(crate) struct Meter<'a> {
    voice: Voice<'a>,
    /// The server takes no more usage of this attempt.
    over: bool,
    /// The last report could not be told.
    failing: bool,
}

impl<'a> Meter<'a> {
    pub(crate) const fn new(voice: Voice<'a>) -> Self {
        Self {
            voice,
            over: false,
            failing: false,
        }
    }

    /// Reports until the feed is closed.
    pub(crate) async fn run(&mut self) {
        // The first report goes at once: its model may be one that was not asked for.
        let (mut in_turn, mut at_once) = (Instant::now(), Instant::now());
        let feed = self.voice.feed;
        while !self.over {
            let due = match feed.usage(|usage| usage.urgency()) {
                None => None,
                Some(Urgency::InTurn) => Some(in_turn),
                Some(Urgency::AtOnce) => Some(at_once),
            };
            tokio::select! {
                biased;
                () = feed.closed.cancelled() => return,
                () = at(due) => {
                    let sent_at = Instant::now();
                    let sent = self.report(|_| true).await;
                    in_turn = sent_at + USAGE_INTERVAL;
                    at_once = match sent {
                        Sent::Taken | Sent::Refused => sent_at + URGENT_INTERVAL,
                        Sent::Later => in_turn,
                        Sent::Denied => Instant::now() + DENIED_INTERVAL,
                    };
                    in_turn = in_turn.max(at_once);
                }
                () = feed.spent.notified() => {}
            }
        }
    }

    /// Reports the usage that is left, but for `kept`, which rides on the completion. Gives what could not be reported
    /// now: it is owed. A server that just was away is not asked again: the end of the attempt does not wait for it.
    pub(crate) async fn settle(&mut self, kept: Option<&Totals>) -> Vec<UsageReport> {
        if !self.over && !self.failing {
            self.report(|totals| Some(totals) != kept).await;
        }
        if self.over {
            return Vec::new();
        }
        let mut left = self.voice.feed.usage(|usage| usage.untold());
        left.retain(|totals| Some(totals) != kept);
        left.iter().map(|totals| self.voice.report(totals)).collect()
    }

    /// Reports what the server does not know, until it does not take something.
    async fn report(&mut self, wanted: impl Fn(&Totals) -> bool) -> Sent {
        let mut untold = self.voice.feed.usage(|usage| usage.untold());
        untold.retain(wanted);
        for totals in &untold {
            let sent = send_usage(self.voice.client, &self.voice.report(totals), SEND_TIMEOUT).await;
            self.failing = matches!(sent, Sent::Later | Sent::Denied);
            match sent {
                Sent::Taken => self.voice.feed.usage(|usage| usage.told(totals)),
                Sent::Refused => {
                    self.over = true;
                    return sent;
                }
                Sent::Later | Sent::Denied => return sent,
            }
        }
        Sent::Taken
    }
}

/// What became of a report of usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// It is booked.
    Taken,
    /// It never will be.
    Refused,
    /// It may be, when it is sent again.
    Later,
    /// The server does not let the worker in now.
    Denied,
}

/// Sends a report of totals: again later where it cannot be told whether it arrived, since it counts once.
pub(crate) async fn send_usage(client: &Client, report: &UsageReport, limit: Duration) -> Sent {
    let task = &report.job_id;
    match tokio::time::timeout(limit, client.report_usage(report)).await {
        Ok(Ok(())) => Sent::Taken,
        Ok(Err(error)) if matches!(error.code(), Some(401 | 403)) => {
            tracing::debug!(task, %error, "usage cannot be reported");
            Sent::Denied
        }
        Ok(Err(error)) if is_final(&error) => {
            tracing::warn!(task, attempt = report.attempt, %error, "usage is not taken");
            Sent::Refused
        }
        Ok(Err(error)) => {
            tracing::debug!(task, %error, "usage is reported again later");
            Sent::Later
        }
        Err(_) => {
            tracing::debug!(task, "usage is reported again later: no answer in time");
            Sent::Later
        }
    }
}

/// Whether sending the same again cannot help.
pub(crate) fn is_final(error: &Error) -> bool {
    !error.is_retryable() && error.code().is_some_and(|code| code < 500)
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
