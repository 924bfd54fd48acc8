//! Webhooks: which server delivers, what is tried again, and what an operator sees of it.

use std::sync::Arc;

use adjutant_core::command::{Answer, Command, DeliveryOutcome, DeliveryReport, NewWebhook};
use adjutant_core::rejection::Slug;
use adjutant_core::time::Span;
use adjutant_core::webhook::{LEASE, MAX_ATTEMPTS, MAX_DEAD, PATIENCE, Webhook};

use crate::harness::*;

fn failed() -> DeliveryOutcome {
    DeliveryOutcome::Failed {
        error: "it answered 500".into(),
        retry_after: None,
    }
}

fn new_hook() -> Command {
    Command::AddWebhook(NewWebhook {
        name: "w".into(),
        url: "https://place.example/".into(),
        kinds: Arc::default(),
        since: 3,
    })
}

impl Fleet {
    fn hook(&mut self, command: Command) -> Result<Arc<Webhook>, Slug> {
        match self.call(command).map_err(|no| no.slug)? {
            Answer::Webhook(webhook) => Ok(webhook),
            other => panic!("a webhook was expected, not {other:?}"),
        }
    }

    fn add_hook(&mut self) -> Result<Arc<Webhook>, Slug> {
        self.hook(new_hook())
    }

    fn lease(&mut self, session: &str, alone: bool) -> Result<Arc<Webhook>, Slug> {
        self.hook(Command::LeaseWebhook {
            name: "w".into(),
            session: session.into(),
            alone,
        })
    }

    fn settle(
        &mut self,
        session: &str,
        cursor: u64,
        outcomes: &[(u64, DeliveryOutcome)],
    ) -> Result<Arc<Webhook>, Slug> {
        self.hook(Command::SettleDeliveries(DeliveryReport {
            name: "w".into(),
            session: session.into(),
            cursor,
            missed: 0,
            outcomes: outcomes.to_vec(),
        }))
    }

    fn again(&mut self, seqs: &[u64]) -> Result<Arc<Webhook>, Slug> {
        self.hook(Command::RetryDeliveries {
            name: "w".into(),
            seqs: seqs.to_vec(),
        })
    }

    /// One with a webhook that the session `s` delivers for.
    fn with_hook() -> Self {
        let mut fleet = Self::new();
        fleet.add_hook().unwrap();
        fleet.lease("s", false).unwrap();
        fleet
    }
}

fn counts(webhook: &Webhook) -> (u64, u32, u32, u64) {
    (webhook.cursor, webhook.pending, webhook.dead, webhook.missed)
}

#[test]
fn a_webhook_has_a_name_of_its_own_and_begins_where_it_is_told() {
    let mut fleet = Fleet::new();
    let added = fleet.add_hook().unwrap();
    assert_eq!((counts(&added), &added.lease), ((3, 0, 0, 0), &None));
    assert_eq!(fleet.add_hook(), Err(Slug::WebhookExists));
    fleet.call(Command::RemoveWebhook("w".into())).unwrap();
    let gone = fleet.call(Command::RemoveWebhook("w".into())).unwrap_err();
    assert_eq!(gone.slug, Slug::WebhookNotFound);
    assert_eq!(fleet.lease("s", true), Err(Slug::WebhookNotFound));
    fleet.add_hook().unwrap();
}

#[test]
fn one_server_delivers_until_it_is_silent_for_too_long_or_leaves() {
    let mut fleet = Fleet::with_hook();
    assert_eq!(fleet.lease("other", false), Err(Slug::Superseded));
    assert_eq!(fleet.settle("other", 9, &[]), Err(Slug::Superseded));
    fleet.advance(LEASE + Span::from_secs(1));
    // Nobody took it meanwhile.
    assert_eq!(fleet.settle("s", 4, &[]).unwrap().cursor, 4);
    assert_eq!(fleet.lease("other", false), Err(Slug::Superseded));
    fleet.advance(LEASE);
    fleet.lease("other", false).unwrap();
    assert_eq!(fleet.settle("s", 9, &[]), Err(Slug::Superseded));
    let leave = |session: &str| Command::LeaveWebhook {
        name: "w".into(),
        session: session.into(),
    };
    fleet.call(leave("s")).unwrap();
    assert_eq!(fleet.lease("s", false), Err(Slug::Superseded));
    fleet.call(leave("other")).unwrap();
    assert_eq!(fleet.lease("s", false).unwrap().cursor, 4);
    // Where there can be no other server, whoever had it is dead.
    fleet.lease("next", true).unwrap();
}

#[test]
fn what_fails_is_tried_again_until_it_is_a_dead_letter() {
    let mut fleet = Fleet::with_hook();
    let outcomes = [(4, failed()), (5, DeliveryOutcome::Delivered)];
    assert_eq!(counts(&fleet.settle("s", 5, &outcomes).unwrap()), (5, 1, 0, 0));
    for _ in 2..MAX_ATTEMPTS {
        assert_eq!(
            counts(&fleet.settle("s", 5, &outcomes[..1]).unwrap()),
            (5, 1, 0, 0)
        );
    }
    assert_eq!(
        counts(&fleet.settle("s", 5, &outcomes[..1]).unwrap()),
        (5, 0, 1, 0)
    );
    // Repeated after a crash it stays one.
    assert_eq!(
        counts(&fleet.settle("s", 5, &outcomes[..1]).unwrap()),
        (5, 0, 1, 0)
    );
    assert_eq!(counts(&fleet.again(&[4]).unwrap()), (5, 1, 0, 0));
    assert_eq!(
        counts(&fleet.settle("s", 5, &outcomes[..1]).unwrap()),
        (5, 1, 0, 0)
    );
    let taken = [(4, DeliveryOutcome::Delivered)];
    assert_eq!(counts(&fleet.settle("s", 5, &taken).unwrap()), (5, 0, 0, 0));
    assert_eq!(fleet.again(&[4]), Err(Slug::DeliveryNotFound));
}

#[test]
fn a_try_before_its_time_costs_none_when_it_fails() {
    let mut fleet = Fleet::with_hook();
    let first = fleet.settle("s", 4, &[(4, failed())]).unwrap();
    let early = DeliveryOutcome::FailedEarly {
        error: "it is away".into(),
    };
    for _ in 0..2 * MAX_ATTEMPTS {
        assert_eq!(fleet.settle("s", 4, &[(4, early.clone())]).unwrap(), first);
    }
    let taken = [(4, DeliveryOutcome::Delivered)];
    assert_eq!(counts(&fleet.settle("s", 4, &taken).unwrap()), (4, 0, 0, 0));
}

#[test]
fn a_trouble_that_ended_in_dead_letters_is_not_part_of_the_next() {
    let mut fleet = Fleet::with_hook();
    let tries: Vec<_> = (0..MAX_ATTEMPTS).map(|_| (4, failed())).collect();
    assert_eq!(fleet.settle("s", 4, &tries).unwrap().dead, 1);
    fleet.jump(PATIENCE);
    let tries: Vec<_> = (0..MAX_ATTEMPTS).map(|_| (5, failed())).collect();
    let webhook = fleet.settle("s", 5, &tries).unwrap();
    assert_eq!((webhook.disabled.clone(), webhook.dead), (None, 2));
}

#[test]
fn the_cursor_never_goes_back() {
    let mut fleet = Fleet::with_hook();
    assert_eq!(fleet.settle("s", 9, &[]).unwrap().cursor, 9);
    assert_eq!(fleet.settle("s", 7, &[]).unwrap().cursor, 9);
}

#[test]
fn a_place_that_is_gone_disables_its_webhook_and_loses_nothing() {
    let mut fleet = Fleet::with_hook();
    let webhook = fleet.settle("s", 4, &[(4, DeliveryOutcome::Gone)]).unwrap();
    assert!(webhook.disabled.as_deref().unwrap().contains("410"));
    assert_eq!(counts(&webhook), (4, 1, 0, 0));
    assert_eq!(fleet.lease("s", true), Err(Slug::WrongState));
    let resumed = fleet.hook(Command::ResumeWebhook("w".into())).unwrap();
    assert_eq!((resumed.disabled.clone(), counts(&resumed)), (None, (4, 1, 0, 0)));
    fleet.lease("s", true).unwrap();
}

#[test]
fn a_place_that_takes_nothing_for_long_disables_its_webhook_and_loses_nothing() {
    let mut fleet = Fleet::with_hook();
    let begun = fleet.settle("s", 4, &[(4, failed())]).unwrap().failing_since;
    assert!(begun.is_some());
    fleet.jump(PATIENCE);
    // An event that may yet be taken disables nothing, and one that is taken is the end of it.
    for seq in 5..5 + u64::from(MAX_ATTEMPTS) - 1 {
        let webhook = fleet.settle("s", seq, &[(seq, failed())]).unwrap();
        assert_eq!((webhook.disabled.clone(), webhook.failing_since), (None, begun));
    }
    let taken = fleet.settle("s", 20, &[(5, DeliveryOutcome::Delivered)]).unwrap();
    assert_eq!(taken.failing_since, None);

    fleet.jump(PATIENCE);
    for _ in 1..MAX_ATTEMPTS {
        fleet.settle("s", 20, &[(20, failed())]).unwrap();
    }
    // A dead letter of a short trouble is one of many, maybe by its own fault.
    let webhook = fleet.settle("s", 20, &[(20, failed())]).unwrap();
    assert_eq!((webhook.disabled.clone(), webhook.dead), (None, 1));
    fleet.jump(PATIENCE);
    let pending = webhook.pending;
    let tries: Vec<_> = (0..MAX_ATTEMPTS).map(|_| (21, failed())).collect();
    let webhook = fleet.settle("s", 21, &tries).unwrap();
    let why = webhook.disabled.clone().unwrap();
    assert!(why.contains("has taken nothing since 20"), "{why}");
    assert_eq!((webhook.cursor, &webhook.lease), (21, &None));
    assert_eq!(fleet.lease("s", true), Err(Slug::WrongState));
    let resumed = fleet.hook(Command::ResumeWebhook("w".into())).unwrap();
    assert_eq!((resumed.disabled.clone(), resumed.failing_since), (None, None));
    assert_eq!((resumed.pending, resumed.dead), (pending, 2));
}

/// Everything of one turn, of which no more is known than what is stored.
#[test]
fn deliveries_are_counted_right_whatever_happens_to_them_in_one_turn() {
    let mut fleet = Fleet::with_hook();
    let dead: Vec<_> = (0..MAX_ATTEMPTS).map(|_| (4, failed())).collect();
    let webhook = fleet.settle("s", 9, &dead).unwrap();
    assert_eq!(
        counts(&webhook),
        (9, 0, 1, 0),
        "all tries of one event in one report"
    );
    assert_eq!(
        counts(&fleet.again(&[4, 4, 4]).unwrap()),
        (9, 1, 0, 0),
        "named again and again"
    );
    let outcomes = [
        (4, failed()),
        (5, failed()),
        (4, DeliveryOutcome::Delivered),
        (5, failed()),
        (6, failed()),
        (6, DeliveryOutcome::Forgotten),
        (4, DeliveryOutcome::Delivered),
    ];
    assert_eq!(counts(&fleet.settle("s", 9, &outcomes).unwrap()), (9, 1, 0, 1));
    // What is gone by now needs no other try; where that is all, it is told.
    assert_eq!(fleet.again(&[7]), Err(Slug::DeliveryNotFound));
    assert_eq!(counts(&fleet.again(&[5, 7]).unwrap()), (9, 1, 0, 1));
    let taken = [(5, DeliveryOutcome::Delivered)];
    assert_eq!(counts(&fleet.settle("s", 9, &taken).unwrap()), (9, 0, 0, 1));
}

#[test]
fn a_webhook_that_is_added_anew_has_nothing_of_the_one_before_even_in_the_same_turn() {
    let mut fleet = Fleet::with_hook();
    fleet.settle("s", 9, &[(4, failed()), (5, failed())]).unwrap();
    fleet.advance(Span::from_secs(1));
    let one = |seq| Command::RetryDeliveries {
        name: "w".into(),
        seqs: vec![seq],
    };
    let lease = Command::LeaseWebhook {
        name: "w".into(),
        session: "t".into(),
        alone: false,
    };
    let report = Command::SettleDeliveries(DeliveryReport {
        name: "w".into(),
        session: "t".into(),
        cursor: 5,
        missed: 0,
        outcomes: vec![(5, failed())],
    });
    let answers = fleet.together([
        one(4),
        Command::RemoveWebhook("w".into()),
        new_hook(),
        one(4),
        one(5),
        lease,
        report,
    ]);
    let slug = |at: usize| answers[at].as_ref().map_err(|no| no.slug).err();
    assert_eq!(
        (slug(3), slug(4)),
        (Some(Slug::DeliveryNotFound), Some(Slug::DeliveryNotFound))
    );
    let Ok(Answer::Webhook(webhook)) = &answers[6] else {
        panic!("{:?}", answers[6]);
    };
    assert_eq!(counts(webhook), (5, 1, 0, 0));
    // What is stored says the same.
    assert_eq!(fleet.again(&[4]), Err(Slug::DeliveryNotFound));
    assert_eq!(counts(&fleet.again(&[5]).unwrap()), (5, 1, 0, 0));
}

#[test]
fn dead_letters_are_bounded_and_what_is_lost_is_counted() {
    let mut fleet = Fleet::with_hook();
    let most = u64::from(MAX_DEAD);
    let outcomes: Vec<_> = (10..most + 12).map(|seq| (seq, failed())).collect();
    for _ in 0..MAX_ATTEMPTS {
        fleet.settle("s", 10_000, &outcomes).unwrap();
    }
    let webhook = fleet.settle("s", 0, &[(5, DeliveryOutcome::Forgotten)]).unwrap();
    assert_eq!(counts(&webhook), (10_000, 0, MAX_DEAD, 3));
}

#[test]
fn nothing_about_webhooks_is_an_event() {
    let mut fleet = Fleet::with_hook();
    fleet
        .settle("s", 9, &[(4, failed()), (5, DeliveryOutcome::Gone)])
        .unwrap();
    fleet.again(&[4]).unwrap();
    fleet.call(Command::RemoveWebhook("w".into())).unwrap();
    assert!(fleet.events().is_empty());
}
