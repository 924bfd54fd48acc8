//! Webhooks, and what could not be delivered for them.

use std::sync::Arc;

use adjutant_core::event::EventKind;
use adjutant_core::webhook::{Delivery, DeliveryKey, Lease, Webhook};

use crate::rows::{NAME, at};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    webhooks_survive_in_order_of_name,
    a_webhook_changes_and_is_given_to_turns,
    deliveries_are_listed_by_number_and_by_time,
    a_webhook_that_goes_takes_its_deliveries_along,
    a_webhook_that_is_added_anew_has_no_old_deliveries,
];

pub(crate) fn webhook(name: &str) -> Webhook {
    Webhook {
        name: name.into(),
        url: "https://chat.example/hook".into(),
        kinds: [EventKind::TaskCompleted, EventKind::QuotaWarning].into(),
        created_at: at(1),
        disabled: None,
        failing_since: None,
        cursor: 7,
        lease: None,
        pending: 0,
        dead: 0,
        missed: 0,
    }
}

fn key(webhook: &str, seq: u64) -> DeliveryKey {
    DeliveryKey {
        webhook: webhook.into(),
        seq,
    }
}

fn delivery(attempts: u32, due: Option<i64>) -> Delivery {
    Delivery {
        attempts,
        due_at: due.map(at),
        error: NAME.into(),
    }
}

fn webhooks(store: &mut dyn Subject) -> Vec<Webhook> {
    store.reader().webhooks().expect("webhooks are read")
}

fn listed(store: &mut dyn Subject, name: &str, after: u64, limit: usize) -> Vec<(u64, Delivery)> {
    store
        .reader()
        .deliveries(name, after, limit)
        .expect("deliveries are read")
}

fn due(store: &mut dyn Subject, name: &str, limit: usize) -> Vec<(u64, Delivery)> {
    store
        .reader()
        .due_deliveries(name, limit)
        .expect("deliveries are read")
}

fn webhooks_survive_in_order_of_name(store: &mut dyn Subject) {
    let expected = [
        webhook("B"),
        Webhook {
            url: "http://[::1]:1/".into(),
            kinds: EventKind::ALL.into(),
            disabled: Some(NAME.into()),
            failing_since: Some(at(98)),
            cursor: i64::MAX.unsigned_abs(),
            lease: Some(Lease {
                session: NAME.into(),
                until: at(99),
            }),
            pending: u32::MAX,
            dead: 2,
            missed: 3,
            ..webhook("a")
        },
        webhook("a:1"),
    ];
    assert_eq!(webhooks(store), []);
    write()
        .webhook(None, Some(&expected[2]))
        .webhook(None, Some(&expected[0]))
        .webhook(None, Some(&expected[1]))
        .commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(webhooks(store), expected));
}

fn a_webhook_changes_and_is_given_to_turns(store: &mut dyn Subject) {
    let before = webhook("a");
    let now = Webhook {
        cursor: 8,
        pending: 1,
        ..before.clone()
    };
    let waiting = delivery(1, Some(5));
    write()
        .webhook(None, Some(&before))
        .webhook(None, Some(&webhook("b")))
        .commit(store);
    write()
        .webhook(Some(&before), Some(&now))
        .delivery(&key("a", 8), None, Some(&waiting))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let rows = store.load(|wanted| {
            wanted.webhooks = ["a".into(), "absent".into()].into();
            wanted.deliveries = [key("a", 8), key("a", 9), key("b", 8)].into();
        });
        assert_eq!(rows.webhooks, [Arc::new(now.clone())]);
        assert_eq!(rows.deliveries, [(key("a", 8), waiting.clone())]);
    });
}

fn deliveries_are_listed_by_number_and_by_time(store: &mut dyn Subject) {
    let rows = [
        (3, delivery(2, Some(30))),
        (5, delivery(7, None)),
        (8, delivery(1, Some(10))),
        (9, delivery(1, Some(30))),
    ];
    write().webhook(None, Some(&webhook("a"))).commit(store);
    let other = delivery(1, Some(1));
    rows.iter()
        .fold(write(), |write, (seq, row)| {
            write.delivery(&key("a", *seq), None, Some(row))
        })
        .delivery(&key("aa", 1), None, Some(&other))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(listed(store, "a", 0, 10), rows);
        assert_eq!(listed(store, "a", 3, 2), rows[1..3]);
        let order: Vec<u64> = due(store, "a", 10).into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(order, [8, 3, 9]);
        assert_eq!(due(store, "a", 1), rows[2..3]);
        assert_eq!(listed(store, "b", 0, 10), []);
    });
    let again = delivery(2, None);
    write()
        .delivery(&key("a", 8), Some(&rows[2].1), Some(&again))
        .delivery(&key("a", 3), Some(&rows[0].1), None)
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let expected = [rows[1].clone(), (8, again.clone()), rows[3].clone()];
        assert_eq!(listed(store, "a", 0, 10), expected);
        assert_eq!(due(store, "a", 10), rows[3..]);
    });
}

fn a_webhook_that_goes_takes_its_deliveries_along(store: &mut dyn Subject) {
    let (own, other) = (webhook("a"), webhook("b"));
    let waiting = delivery(1, Some(5));
    write()
        .webhook(None, Some(&own))
        .webhook(None, Some(&other))
        .delivery(&key("a", 1), None, Some(&waiting))
        .delivery(&key("a", 2), None, Some(&waiting))
        .delivery(&key("b", 1), None, Some(&waiting))
        .commit(store);
    write()
        .delivery(&key("a", 1), Some(&waiting), None)
        .webhook(Some(&own), None)
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(webhooks(store), std::slice::from_ref(&other));
        assert_eq!(listed(store, "a", 0, 10), []);
        assert_eq!(listed(store, "b", 0, 10), [(1, waiting.clone())]);
    });
}

fn a_webhook_that_is_added_anew_has_no_old_deliveries(store: &mut dyn Subject) {
    let old = webhook("a");
    let new = Webhook {
        created_at: at(2),
        ..old.clone()
    };
    write()
        .webhook(None, Some(&old))
        .delivery(&key("a", 1), None, Some(&delivery(1, None)))
        .commit(store);
    let waiting = delivery(1, Some(5));
    write()
        .delivery(&key("a", 2), None, Some(&waiting))
        .webhook(Some(&old), Some(&new))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(webhooks(store), std::slice::from_ref(&new));
        assert_eq!(listed(store, "a", 0, 10), [(2, waiting.clone())]);
    });
}
