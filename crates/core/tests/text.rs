//! Texts and numbers of the wire, whatever they say: they are refused or mean one thing, and what is written is read back.

use adjutant_core::access::Role;
use adjutant_core::limit::Scope;
use adjutant_core::money::Money;
use adjutant_core::name::{MAX_ID_CHARS, MAX_NAME_CHARS, check_id, check_name};
use adjutant_core::time::{Span, Timestamp};
use proptest::prelude::*;

/// Texts near the ones that are right.
fn near() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{0,25}[smhd]?",
        "-?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})",
        "(fleet|agent|project|model|repo|team)?:?[ -~\u{0}-\u{9f}é]{0,6}",
        "(admin|submit|read|agent:)[*a-z]{0,3}",
        "[A-Za-z0-9._:-]{120,135}",
        "[ä-ö]{198,202}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_duration_is_refused_or_bounded_and_read_back(text in near()) {
        if let Ok(span) = text.parse::<Span>() {
            prop_assert!(u64::try_from(span.as_secs()).unwrap() <= Span::MAX_SECONDS, "{text:?}");
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
            let json = serde_json::to_string(&span).unwrap();
            prop_assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }
    }

    #[test]
    fn every_time_that_is_read_is_written_so_that_it_is_read_again(text in near(), micros in 0..253_402_207_200_000_000_i64) {
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert!(time >= Timestamp::EPOCH);
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time), "{:?}", text);
        }
        let time = Timestamp::from_micros(micros);
        prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
    }

    #[test]
    fn money_is_never_negative_and_keeps_the_nano_dollars_of_a_million(cents in any::<f64>(), nanos in prop_oneof![0..=1_000_000_000_000_000_i64, 0..=Money::MAX.as_nanos()]) {
        if let Ok(money) = Money::from_cents(cents) {
            prop_assert!(money >= Money::ZERO && money <= Money::MAX);
        }
        let json = serde_json::to_string(&Money::from_nanos(nanos)).unwrap();
        let read = serde_json::from_str::<Money>(&json).unwrap();
        // A million dollars and less are exact; above that a float has room for the last nano-dollar or two only.
        let off = (read.as_nanos() - nanos).abs();
        prop_assert!(off <= if nanos <= 1_000_000_000_000_000 { 0 } else { 2 }, "{}", json);
        // Whatever number a body has, it is an amount or a refusal.
        let any = serde_json::from_str::<Money>(&format!("{cents:e}"));
        prop_assert!(any.is_err() || any.unwrap() >= Money::ZERO);
    }

    #[test]
    fn scopes_and_roles_are_written_as_they_are_read(text in near()) {
        if let Ok(scope) = text.parse::<Scope>() {
            prop_assert_eq!(scope.to_string(), text.clone());
        }
        if let Ok(role) = text.parse::<Role>() {
            prop_assert_eq!(role.to_string(), text);
        }
    }

    #[test]
    fn ids_and_names_stay_within_what_they_may_be(text in near()) {
        if check_id(&text).is_ok() {
            prop_assert!((1..=MAX_ID_CHARS).contains(&text.len()) && text.is_ascii());
            prop_assert!(check_name(&text).is_ok(), "an id that is no name: {text}");
        }
        if check_name(&text).is_ok() {
            prop_assert!((1..=MAX_NAME_CHARS).contains(&text.chars().count()));
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
