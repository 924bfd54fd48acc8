//! The rules of the roster, without a server.

use adjutant_wire::{BatchItem, Completion, ErrorBody};
use tokio::time::Instant;

use crate::attempt::Ending;
use crate::observer::Cause;
use crate::roster::{Key, Roster, Settled};
use crate::stop::Order;

fn key(id: &str) -> Key {
    Key {
        id: id.to_owned(),
        attempt: 1,
    }
}

fn done(roster: &mut Roster, id: &str, output: String) {
    assert!(roster.admit(&key(id)).is_some());
    let completion = Completion {
        id: Some(id.to_owned()),
        success: true,
        output,
        ..Completion::default()
    };
    roster.finish(key(id), Ending::Completed(Box::new(completion)));
}

fn error(code: u16) -> ErrorBody {
    ErrorBody {
        code,
        message: "no".into(),
        details: String::new(),
        error: String::new(),
        retryable: false,
    }
}

fn item(code: u16) -> BatchItem {
    BatchItem {
        status: code,
        task: None,
        error: (code >= 400).then(|| error(code)),
    }
}

fn ids(batch: &[Key]) -> Vec<&str> {
    batch.iter().map(|key| key.id.as_str()).collect()
}

#[test]
fn completions_that_do_not_fit_are_listed_as_running_meanwhile() {
    let mut roster = Roster::default();
    for id in ["a", "b", "c"] {
        done(&mut roster, id, "x".repeat(1_200_000));
    }
    let (request, batch) = roster.compose();
    assert_eq!(ids(&batch), ["a", "b"]);
    assert_eq!((request.running.len(), request.running[0].id.as_str()), (1, "c"));
    // Too few answers settle what they answer and nothing else.
    assert_eq!(roster.settle(&batch, vec![item(200)]), [Settled::Taken(key("a"))]);
    assert_eq!(ids(&roster.compose().1), ["b", "c"]);
}

#[test]
fn a_result_that_poisons_the_roll_call_is_found_and_replaced() {
    let mut roster = Roster::default();
    for id in ["a", "b"] {
        done(&mut roster, id, "out".into());
    }
    let (_, batch) = roster.compose();
    assert_eq!(roster.suspect(&batch, error(413)), None);
    let (request, batch) = roster.compose();
    assert_eq!((ids(&batch), request.running.len()), (vec!["a"], 1));
    assert_eq!(roster.suspect(&batch, error(413)), None);
    let (request, batch) = roster.compose();
    assert_eq!(ids(&batch), ["a", "b"]);
    let bare = &request.done[0];
    assert!(!bare.success && bare.output.is_empty() && bare.error_message.contains("did not take"));
    // When even that is not taken it is given up; the other one is not touched.
    let settled = roster.settle(&batch, vec![item(422), item(429)]);
    assert_eq!(settled, [Settled::Refused(key("a"), error(422))]);
    assert_eq!(ids(&roster.compose().1), ["b"]);
}

#[test]
fn the_first_cause_of_a_stop_stands() {
    let mut roster = Roster::default();
    let stop = roster.admit(&key("a")).unwrap();
    assert!(roster.admit(&key("a")).is_none());
    assert!(roster.stop(&key("a"), Cause::LeaseLost));
    assert!(!roster.stop(&key("a"), Cause::Shutdown));
    assert_eq!(*stop.borrow(), Some(Order::because(Cause::LeaseLost)));
    assert!(!roster.stop(&key("b"), Cause::Shutdown));
    roster.finish(key("a"), Ending::Stopped(Cause::LeaseLost));
    assert!(roster.is_empty() && roster.admit(&key("a")).is_none());
}

#[test]
fn a_lost_lease_leaves_less_time_to_what_ends_already() {
    let mut roster = Roster::default();
    let ending = roster.admit(&key("a")).unwrap();
    let running = roster.admit(&key("b")).unwrap();
    roster.stop(&key("a"), Cause::Shutdown);
    let gone_by = Some(Instant::now());
    roster.lose_all(gone_by);
    for (orders, cause) in [(ending, Cause::Shutdown), (running, Cause::LeaseLost)] {
        assert_eq!(*orders.borrow(), Some(Order { cause, gone_by }));
    }
}

#[test]
fn what_was_interrupted_is_listed_until_it_is_given_back() {
    let mut roster = Roster::default();
    roster.admit(&key("a"));
    roster.finish(key("a"), Ending::Stopped(Cause::Shutdown));
    assert_eq!(roster.compose().0.running.len(), 1);
    roster.given_back(&key("a"));
    assert!(roster.compose().0.running.is_empty());
}
