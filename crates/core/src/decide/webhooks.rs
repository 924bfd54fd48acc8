//! Webhooks: who delivers for one, and what becomes of what could not be delivered.
//!
//! Nothing here makes an event: trouble with telling of events would have to be told of, and so on.

use std::sync::Arc;

use super::{Reply, Turn};
use crate::command::{Answer, DeliveryOutcome, DeliveryReport, NewWebhook};
use crate::rejection::{Rejection, Slug};
use crate::set::Need;
use crate::time::Timestamp;
use crate::webhook::{Delivery, DeliveryKey, LEASE, Lease, MAX_DEAD, MAX_ERROR_BYTES, PATIENCE, Webhook};

/// Why a webhook is disabled whose place is gone.
const GONE: &str = "its place answered 410 Gone";

impl Turn<'_> {
    /// The webhook that a request names.
    pub(super) fn webhook(&mut self, name: &Arc<str>) -> Need<Arc<Webhook>> {
        match self.set.webhook(name)? {
            Some(webhook) => Ok(webhook),
            None => Err(Rejection::new(Slug::WebhookNotFound, format!("no webhook `{name}`")).into()),
        }
    }

    pub(super) fn add_webhook(&mut self, new: &NewWebhook) -> Need<Reply> {
        if self.set.webhook(&new.name)?.is_some() {
            return Err(Rejection::new(
                Slug::WebhookExists,
                format!(
                    "a webhook `{}` exists; remove it first, or choose another name",
                    new.name
                ),
            )
            .into());
        }
        Ok(self.keep_webhook(Webhook {
            name: Arc::clone(&new.name),
            url: Arc::clone(&new.url),
            kinds: Arc::clone(&new.kinds),
            created_at: self.now,
            disabled: None,
            failing_since: None,
            cursor: new.since,
            lease: None,
            pending: 0,
            dead: 0,
            missed: 0,
        }))
    }

    pub(super) fn remove_webhook(&mut self, name: &Arc<str>) -> Need<Reply> {
        self.webhook(name)?;
        self.set.remove_webhook(name);
        Ok(Reply::Now(Ok(Answer::Done)))
    }

    pub(super) fn resume_webhook(&mut self, name: &Arc<str>) -> Need<Reply> {
        let webhook = self.webhook(name)?;
        if webhook.disabled.is_none() {
            return Ok(Reply::Now(Ok(Answer::Webhook(webhook))));
        }
        Ok(self.keep_webhook(Webhook {
            disabled: None,
            // Its place gets as long again.
            failing_since: None,
            ..(*webhook).clone()
        }))
    }

    pub(super) fn lease_webhook(&mut self, name: &Arc<str>, session: &Arc<str>, alone: bool) -> Need<Reply> {
        let webhook = self.webhook(name)?;
        if webhook.disabled.is_some() {
            return Err(Rejection::new(Slug::WrongState, format!("the webhook `{name}` is disabled")).into());
        }
        if !webhook.is_free_for(session, alone, self.now) {
            return Err(superseded(name));
        }
        let lease = Some(self.lease(session));
        Ok(self.keep_webhook(Webhook {
            lease,
            ..(*webhook).clone()
        }))
    }

    pub(super) fn leave_webhook(&mut self, name: &Arc<str>, session: &Arc<str>) -> Need<Reply> {
        let webhook = self.webhook(name)?;
        if webhook.is_held_by(session) {
            self.keep_webhook(Webhook {
                lease: None,
                ..(*webhook).clone()
            });
        }
        Ok(Reply::Now(Ok(Answer::Done)))
    }

    pub(super) fn settle_deliveries(&mut self, report: &DeliveryReport) -> Need<Reply> {
        let webhook = self.webhook(&report.name)?;
        // A lease that has run out and that nobody took is still one's own.
        if !webhook.is_held_by(&report.session) {
            return Err(superseded(&report.name));
        }
        let keys: Vec<DeliveryKey> = report
            .outcomes
            .iter()
            .map(|(seq, _)| key(&webhook, *seq))
            .collect();
        // All are asked for at once: each question may be a journey.
        self.set.deliveries(&keys)?;
        let mut webhook = (*webhook).clone();
        webhook.cursor = webhook.cursor.max(report.cursor);
        webhook.missed += report.missed;
        webhook.lease = Some(self.lease(&report.session));
        for (key, (_, outcome)) in keys.into_iter().zip(&report.outcomes) {
            self.settle_delivery(&mut webhook, key, outcome)?;
        }
        if webhook.disabled.is_some() {
            // Whoever is first may go on when it is resumed.
            webhook.lease = None;
        }
        Ok(self.keep_webhook(webhook))
    }

    fn settle_delivery(
        &mut self,
        webhook: &mut Webhook,
        key: DeliveryKey,
        outcome: &DeliveryOutcome,
    ) -> Need<()> {
        let before = self.set.deliveries(std::slice::from_ref(&key))?.pop().flatten();
        let attempts = before.as_ref().map_or(0, |before| before.attempts) + 1;
        let now = match outcome {
            DeliveryOutcome::Delivered => {
                webhook.failing_since = None;
                None
            }
            DeliveryOutcome::FailedEarly { error } => before.as_deref().map(|before| Delivery {
                error: cut(error),
                ..before.clone()
            }),
            DeliveryOutcome::Failed { error, retry_after } => {
                if webhook.pending == 0 {
                    // Whatever was before has ended, one way or the other.
                    webhook.failing_since = None;
                }
                let since = *webhook.failing_since.get_or_insert(self.now);
                let due_at = key.next_try(attempts, *retry_after, self.now);
                if due_at.is_none() && self.now.since(since) >= PATIENCE {
                    webhook.disabled = Some(format!("its place has taken nothing since {since}").into());
                }
                Some(Delivery {
                    attempts,
                    due_at,
                    error: cut(error),
                })
            }
            DeliveryOutcome::Gone => {
                webhook.disabled = Some(GONE.into());
                // It is the first to be tried when the webhook is resumed, and it was not its fault.
                Some(Delivery {
                    attempts: attempts - 1,
                    due_at: Some(self.now),
                    error: GONE.into(),
                })
            }
            DeliveryOutcome::Forgotten => {
                webhook.missed += 1;
                None
            }
        };
        // A dead letter that was repeated, after a crash, stays one.
        let stays_dead = before.as_ref().is_some_and(|before| before.due_at.is_none()) && now.is_some();
        if !stays_dead {
            self.put_delivery(webhook, key, before.as_deref(), now);
        }
        Ok(())
    }

    pub(super) fn retry_deliveries(&mut self, name: &Arc<str>, seqs: &[u64]) -> Need<Reply> {
        let webhook = self.webhook(name)?;
        let keys: Vec<DeliveryKey> = seqs.iter().map(|seq| key(&webhook, *seq)).collect();
        // All are asked for at once: each question may be a journey.
        self.set.deliveries(&keys)?;
        let mut webhook = (*webhook).clone();
        let mut found = 0;
        for key in keys {
            // As it is by now: one may be named twice.
            let before = self.set.deliveries(std::slice::from_ref(&key))?.pop().flatten();
            // What arrived or was forgotten since somebody looked needs no other try.
            let Some(before) = before else { continue };
            found += 1;
            let again = Delivery {
                attempts: 0,
                due_at: Some(self.now),
                error: before.error.clone(),
            };
            self.put_delivery(&mut webhook, key, Some(&before), Some(again));
        }
        if let ([first, ..], 0) = (seqs, found) {
            return Err(Rejection::new(
                Slug::DeliveryNotFound,
                format!("the webhook `{name}` has no delivery {first} that waits or has failed"),
            )
            .into());
        }
        Ok(self.keep_webhook(webhook))
    }

    /// Writes a delivery, and counts it.
    fn put_delivery(
        &mut self,
        webhook: &mut Webhook,
        key: DeliveryKey,
        before: Option<&Delivery>,
        now: Option<Delivery>,
    ) {
        match before.map(|before| before.due_at) {
            Some(Some(_)) => webhook.pending = webhook.pending.saturating_sub(1),
            Some(None) => webhook.dead = webhook.dead.saturating_sub(1),
            None => {}
        }
        let now = now.filter(|now| {
            let one_too_many = now.due_at.is_none() && webhook.dead >= MAX_DEAD;
            webhook.missed += u64::from(one_too_many);
            !one_too_many
        });
        match now.as_ref().map(|now| now.due_at) {
            Some(Some(_)) => webhook.pending += 1,
            Some(None) => webhook.dead += 1,
            None => {}
        }
        if before.is_some() || now.is_some() {
            self.set.put_delivery(key, now);
        }
    }

    fn keep_webhook(&mut self, webhook: Webhook) -> Reply {
        self.set
            .put_webhook(Arc::clone(&webhook.name), Some(webhook.clone()));
        Reply::Now(Ok(Answer::Webhook(Arc::new(webhook))))
    }

    fn lease(&self, session: &Arc<str>) -> Lease {
        let until: Timestamp = self.now + LEASE;
        Lease {
            session: Arc::clone(session),
            until,
        }
    }
}

fn key(webhook: &Webhook, seq: u64) -> DeliveryKey {
    DeliveryKey {
        webhook: Arc::clone(&webhook.name),
        seq,
    }
}

fn superseded(name: &str) -> crate::set::Halt {
    Rejection::new(
        Slug::Superseded,
        format!("another server delivers for the webhook `{name}`"),
    )
    .into()
}

/// What went wrong, as it may be stored and shown: what a place said may be in it.
fn cut(error: &str) -> Box<str> {
    let error = &error[..error.floor_char_boundary(MAX_ERROR_BYTES)];
    error.replace(char::is_control, " ").into()
}
