//! What is said to a place, as Standard Webhooks has it, and what its answer means.
//!
//! Pure: the key, the event and the time come in.

use std::time::SystemTime;

use adjutant_core::command::DeliveryOutcome;
use adjutant_core::event::Event;
use adjutant_core::time::{Span, Timestamp};
use adjutant_core::webhook::Webhook;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::RETRY_AFTER;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::outward::Told;
use crate::token::hex;
use crate::view;

/// What secrets of webhooks begin with.
const PREFIX: &str = "whsec_";
/// The type of what is sent to try a webhook out.
pub(super) const TEST: &str = "test";

/// Signs what is sent for one webhook.
#[derive(Clone)]
pub(crate) struct Signer {
    key: Vec<u8>,
}

impl Signer {
    /// That of a webhook: its key is made of the store's secret, so that nothing secret is stored with it. One that is
    /// added anew has another.
    pub(crate) fn of(secret: &[u8; 32], webhook: &Webhook) -> Self {
        // What attempt tokens are made of has no NUL, so that neither is ever the other.
        let about = format!("webhook\0{}\0{}", webhook.name, webhook.created_at.as_micros());
        Self {
            key: mac(secret, about.as_bytes()),
        }
    }

    /// The secret as its receiver gets it.
    pub(crate) fn secret(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.key))
    }

    /// The header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let signed = format!("{id}.{seconds}.{body}");
        format!("v1,{}", STANDARD.encode(mac(&self.key, signed.as_bytes())))
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// What identifies an event: its number, and its time, since a store that was restored gives numbers again.
pub(super) fn event_id(webhook: &Webhook, event: &Event) -> String {
    id(webhook, format_args!("{}_{:x}", event.seq, event.at.as_micros()))
}

/// The header `webhook-id`: the same whenever this is sent for this webhook, and for no other.
pub(super) fn id(webhook: &Webhook, what: impl std::fmt::Display) -> String {
    let about = format!("{}\0{}", webhook.name, webhook.created_at.as_micros());
    format!("evt_{}_{what}", hex(&Sha256::digest(about.as_bytes())[..8]))
}

/// What is sent of an event.
pub(super) fn body(event: &Event) -> String {
    let event = view::ops::event(event);
    json!({
        "type": event.kind,
        "timestamp": event.timestamp,
        "data": {
            "seq": event.seq,
            "task_id": event.task_id,
            "agent_id": event.agent_id,
            "payload": event.payload,
        },
    })
    .to_string()
}

/// What is sent to try a webhook out.
pub(super) fn test_body(webhook: &Webhook, now: Timestamp) -> String {
    json!({"type": TEST, "timestamp": now, "data": {"webhook": &*webhook.name}}).to_string()
}

/// What an answer that came `now`, or the want of one, means.
pub(super) fn outcome(told: Result<Told, String>, now: Timestamp) -> DeliveryOutcome {
    match told {
        Ok(told) if told.status.is_success() => DeliveryOutcome::Delivered,
        Ok(told) if told.status == http::StatusCode::GONE => DeliveryOutcome::Gone,
        Ok(told) => DeliveryOutcome::Failed {
            error: format!("it answered {}", told.status).into(),
            retry_after: told
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| wait(text.trim(), now)),
        },
        Err(why) => DeliveryOutcome::Failed {
            error: why.into(),
            retry_after: None,
        },
    }
}

/// What `Retry-After` asks for: seconds, or a time as HTTP writes it (RFC 9110). One that has passed is no wait.
fn wait(text: &str, now: Timestamp) -> Option<Span> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Span::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let since_epoch = until.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let until = Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).ok()?);
    Some(until.since(now).max(Span::ZERO))
}

/// An outcome in words.
pub(super) fn in_words(outcome: &DeliveryOutcome) -> String {
    match outcome {
        DeliveryOutcome::Delivered => "delivered".to_owned(),
        DeliveryOutcome::Failed { error, .. } | DeliveryOutcome::FailedEarly { error } => error.to_string(),
        DeliveryOutcome::Gone => "it answered 410 Gone".to_owned(),
        DeliveryOutcome::Forgotten => "the event is no longer kept".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::event::EventKind;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn webhook(name: &str, created_at: i64) -> Webhook {
        Webhook {
            name: name.into(),
            url: "https://place.example/".into(),
            kinds: [].into(),
            created_at: Timestamp::from_micros(created_at),
            disabled: None,
            failing_since: None,
            cursor: 0,
            lease: None,
            pending: 0,
            dead: 0,
            missed: 0,
        }
    }

    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        // From the tests of the reference libraries.
        let signer = Signer {
            key: STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
        };
        let header = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_belongs_to_one_store_and_one_webhook() {
        let secret = |store, name, at| Signer::of(&[store; 32], &webhook(name, at)).secret();
        let own = secret(1, "a", 1);
        assert_eq!(own, secret(1, "a", 1));
        let key = own.strip_prefix("whsec_").unwrap();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 32);
        for other in [secret(2, "a", 1), secret(1, "b", 1), secret(1, "a", 2)] {
            assert_ne!(other, own);
        }
    }

    #[test]
    fn the_id_of_a_message_is_stable_and_says_which_webhook_it_is_of() {
        let own = id(&webhook("a.b", 1), 7);
        assert_eq!(own, id(&webhook("a.b", 1), 7));
        assert!(own.ends_with("_7") && !own.contains('.'), "{own}");
        for other in [
            id(&webhook("a.b", 1), 8),
            id(&webhook("b", 1), 7),
            id(&webhook("a.b", 2), 7),
        ] {
            assert_ne!(other, own);
        }
    }

    #[test]
    fn a_body_has_type_time_and_data() {
        let event = Event {
            seq: 7,
            kind: EventKind::QuotaWarning,
            task: None,
            agent: Some("a".into()),
            at: Timestamp::EPOCH,
            payload: Some(r#"{"limit": 5}"#.into()),
        };
        let body: serde_json::Value = serde_json::from_str(&body(&event)).unwrap();
        assert_eq!(
            (&body["type"], &body["timestamp"]),
            (&json!("quota_warning"), &json!("1970-01-01T00:00:00.000000Z"))
        );
        assert_eq!(
            body["data"],
            json!({"seq": 7, "task_id": null, "agent_id": "a", "payload": {"limit": 5}})
        );
    }

    #[test]
    fn an_answer_is_a_success_the_end_or_a_failure() {
        let told = |status: u16, wait: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(wait) = wait {
                headers.insert(RETRY_AFTER, wait.parse().unwrap());
            }
            let told = Told {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: Vec::new(),
            };
            // 21 October 2015, 07:28:00.
            outcome(Ok(told), Timestamp::from_micros(1_445_412_480_000_000))
        };
        assert_eq!(told(200, None), DeliveryOutcome::Delivered);
        assert_eq!(told(204, None), DeliveryOutcome::Delivered);
        assert_eq!(told(410, None), DeliveryOutcome::Gone);
        for (wait, expected) in [
            (None, None),
            (Some("60"), Some(Span::from_secs(60))),
            (Some("soon"), None),
            (Some("-1"), None),
            (Some("99999999999999999999"), None),
            (Some("Wed, 21 Oct 2015 07:29:30 GMT"), Some(Span::from_secs(90))),
            (
                Some("Wednesday, 21-Oct-15 07:28:30 GMT"),
                Some(Span::from_secs(30)),
            ),
            (Some("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Span::ZERO)),
            (Some("Wed, 31 Feb 2015 07:28:00 GMT"), None),
        ] {
            let failed = DeliveryOutcome::Failed {
                error: "it answered 503 Service Unavailable".into(),
                retry_after: expected,
            };
            assert_eq!(told(503, wait), failed);
        }
    }
}
