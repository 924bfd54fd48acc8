//! What stands between a client and the rules: idempotency keys, access tokens, the secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use adjutant_core::access::Role;
use adjutant_core::command::AccessToken;
use adjutant_core::limit::Scope;
use adjutant_core::set::rows::{Replay, ReplayAnswer, ReplayItem, ReplayKey};
use adjutant_core::time::Timestamp;
use adjutant_store::MAX_FORGOTTEN;

use crate::rows::{NAME, at, scopes};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    every_answer_survives_under_its_idempotency_key,
    idempotency_keys_of_different_tokens_do_not_mix,
    idempotency_keys_from_before_a_time_are_forgotten,
    a_bounded_number_of_idempotency_keys_is_forgotten_at_a_time,
    access_tokens_survive_in_order_of_name,
    an_access_token_is_replaced_and_removed,
    the_secret_is_stable,
];

fn replay_key(token: &str, key: &str) -> ReplayKey {
    ReplayKey {
        token: token.into(),
        key: key.into(),
    }
}

fn replay(time: Timestamp, answer: ReplayAnswer) -> Replay {
    Replay {
        digest: std::array::from_fn(|index| u8::try_from(index * 8).unwrap_or(u8::MAX)),
        at: time,
        answer,
    }
}

fn replays(store: &mut dyn Subject, keys: impl IntoIterator<Item = ReplayKey>) -> Vec<(ReplayKey, Replay)> {
    let keys: BTreeSet<ReplayKey> = keys.into_iter().collect();
    let mut replays = store.load(|wanted| wanted.idempotency = keys).idempotency;
    replays.sort_by_key(|(key, _)| key.clone());
    replays
}

fn every_answer_survives_under_its_idempotency_key(store: &mut dyn Subject) {
    let batch = ReplayAnswer::Batch(vec![
        ReplayItem::Task("task_1".into()),
        ReplayItem::Refused {
            slug: "validation".into(),
            message: NAME.into(),
            details: "{\"field\": \"title\"}".into(),
        },
    ]);
    let answers = [
        ReplayAnswer::Task("task_1".into()),
        batch,
        ReplayAnswer::Batch(Vec::new()),
        ReplayAnswer::Agent("agent:1".into()),
        ReplayAnswer::Done,
    ];
    let answers = answers.into_iter().chain(scopes().map(ReplayAnswer::Scope));
    let kept: Vec<(ReplayKey, Replay)> = (10..)
        .zip(answers)
        .map(|(number, answer)| {
            (
                replay_key(NAME, &format!("{number} {NAME}")),
                replay(at(number), answer),
            )
        })
        .collect();
    kept.iter()
        .cloned()
        .fold(write(), |write, (key, replay)| write.replay(key, replay))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let keys = kept.iter().map(|(key, _)| key.clone());
        assert_eq!(replays(store, keys), kept);
    });
}

fn idempotency_keys_of_different_tokens_do_not_mix(store: &mut dyn Subject) {
    let own = (replay_key("a", "key"), replay(at(1), ReplayAnswer::Done));
    let other = (
        replay_key("b", "key"),
        replay(at(2), ReplayAnswer::Scope(Scope::Fleet)),
    );
    write()
        .replay(own.0.clone(), own.1.clone())
        .replay(other.0.clone(), other.1.clone())
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(replays(store, [own.0.clone()]), std::slice::from_ref(&own));
        assert_eq!(replays(store, [other.0.clone()]), std::slice::from_ref(&other));
        let absent = [
            replay_key("c", "key"),
            replay_key("a", "Key"),
            replay_key("ak", "ey"),
        ];
        assert_eq!(replays(store, absent), []);
    });
}

fn idempotency_keys_from_before_a_time_are_forgotten(store: &mut dyn Subject) {
    let keys: Vec<ReplayKey> = (0..10)
        .map(|number| replay_key("a", &number.to_string()))
        .collect();
    (0..)
        .zip(&keys)
        .fold(write(), |write, (time, key)| {
            write.replay(key.clone(), replay(at(time), ReplayAnswer::Done))
        })
        .commit(store);
    write().forget_before(at(0)).commit(store);
    assert_eq!(replays(store, keys.clone()).len(), 10);
    write().forget_before(at(4)).commit(store);
    store.now_and_after_a_crash(|store| {
        let left: Vec<ReplayKey> = replays(store, keys.clone())
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(left, keys[4..]);
    });
    // A key that is forgotten can be used again.
    write()
        .replay(keys[0].clone(), replay(at(20), ReplayAnswer::Done))
        .commit(store);
    assert_eq!(replays(store, [keys[0].clone()]).len(), 1);
}

fn a_bounded_number_of_idempotency_keys_is_forgotten_at_a_time(store: &mut dyn Subject) {
    let old: Vec<ReplayKey> = (0..MAX_FORGOTTEN + 500)
        .map(|number| replay_key("old", &number.to_string()))
        .collect();
    let new = replay_key("new", "key");
    old.iter()
        .fold(write(), |write, key| {
            write.replay(key.clone(), replay(at(1), ReplayAnswer::Done))
        })
        .replay(new.clone(), replay(at(9), ReplayAnswer::Done))
        .commit(store);
    for left in [500, 0, 0] {
        write().forget_before(at(5)).commit(store);
        assert_eq!(replays(store, old.clone()).len(), left);
        assert_eq!(replays(store, [new.clone()]).len(), 1);
    }
}

fn token(name: &str, roles: &[Role]) -> AccessToken {
    AccessToken {
        name: name.into(),
        digest: [0xff; 32],
        roles: roles.into(),
        created_at: at(1),
    }
}

fn tokens(store: &mut dyn Subject) -> Vec<AccessToken> {
    store.reader().tokens().expect("tokens are read")
}

fn access_tokens_survive_in_order_of_name(store: &mut dyn Subject) {
    let roles = [
        Role::Admin,
        Role::Submit,
        Role::Read,
        Role::Agent("agent:1.2_3-4".into()),
        Role::AnyAgent,
    ];
    let expected = [token("B", &[]), token("a", &roles), token("b:1", &roles[3..4])];
    assert_eq!(tokens(store), []);
    write()
        .token(&expected[2])
        .token(&expected[0])
        .token(&expected[1])
        .commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(tokens(store), expected));
}

fn an_access_token_is_replaced_and_removed(store: &mut dyn Subject) {
    let (first, second, other) = (
        token("a", &[Role::Read]),
        AccessToken {
            digest: [1; 32],
            roles: Arc::new([Role::Admin]),
            ..token("a", &[])
        },
        token("b", &[]),
    );
    write().token(&first).token(&other).commit(store);
    write().token(&second).commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(tokens(store), [second.clone(), other.clone()]));
    write().no_token("a").no_token("never there").commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(tokens(store), std::slice::from_ref(&other)));
    // In one turn the last word counts.
    write()
        .no_token("b")
        .token(&first)
        .no_token("a")
        .token(&second)
        .commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(tokens(store), std::slice::from_ref(&second)));
}

fn the_secret_is_stable(store: &mut dyn Subject) {
    let secret = store.reader().secret().expect("the secret is read");
    assert_ne!(secret, [0; 32]);
    write().event(crate::rows::event(1)).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(store.reader().secret().expect("the secret is read"), secret);
    });
}
