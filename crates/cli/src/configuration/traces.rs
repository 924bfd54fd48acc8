//! Where traces are sent to.

use adjutant_trace::Endpoint;

use super::Configuration;
use crate::failure::{Failure, Outcome};

/// The address for spans, as it is: the standard name of it.
const EXACT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// The address of a collector for everything: the standard name of it.
const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where this is `true` nothing is sent that was not asked for by our own settings.
const DISABLED: &str = "OTEL_SDK_DISABLED";

impl Configuration {
    /// Where traces are sent to, if anywhere. Our own settings come before those of OpenTelemetry.
    pub(crate) fn otlp_endpoint(&self, flag: Option<&String>) -> Outcome<Option<Endpoint>> {
        let own = self.file.otlp_endpoint.as_ref();
        if let Some((value, place)) = self.text(flag, "otlp_endpoint", own) {
            return parsed(&place, value.parse());
        }
        let set = |name| (self.environment)(name).filter(|value: &String| !value.is_empty());
        if set(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        if let Some(value) = set(EXACT) {
            return parsed(EXACT, Endpoint::exact(&value));
        }
        match set(BASE) {
            Some(value) => parsed(BASE, value.parse()),
            None => Ok(None),
        }
    }
}

fn parsed(place: &str, endpoint: Result<Endpoint, String>) -> Outcome<Option<Endpoint>> {
    endpoint
        .map(Some)
        .map_err(|why| Failure::usage(format!("{place}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::configuration;
    use super::*;

    fn endpoint(file: &str, environment: &'static [(&'static str, &'static str)]) -> Option<Endpoint> {
        configuration(file, environment)
            .unwrap()
            .otlp_endpoint(None)
            .unwrap()
    }

    fn at(url: &str) -> Endpoint {
        Endpoint::exact(url).unwrap()
    }

    #[test]
    fn our_own_settings_come_before_those_of_opentelemetry() {
        let file = "otlp_endpoint = 'http://file'";
        let all: &[_] = &[
            ("ADJUTANT_OTLP_ENDPOINT", "http://ours"),
            (EXACT, "http://exact/x"),
            (BASE, "http://base"),
        ];
        let flag = "http://flag".to_owned();
        let with_all = configuration(file, all).unwrap();
        assert_eq!(
            with_all.otlp_endpoint(Some(&flag)).unwrap(),
            Some(at("http://flag/v1/traces"))
        );
        assert_eq!(endpoint(file, all), Some(at("http://ours/v1/traces")));
        assert_eq!(
            endpoint(file, &[(BASE, "http://base")]),
            Some(at("http://file/v1/traces"))
        );
        assert_eq!(
            endpoint("", &[(EXACT, "http://exact/x"), (BASE, "http://base")]),
            Some(at("http://exact/x"))
        );
        assert_eq!(
            endpoint("", &[(BASE, "http://base/")]),
            Some(at("http://base/v1/traces"))
        );
        assert_eq!(endpoint("", &[]), None);
    }

    #[test]
    fn opentelemetry_may_be_switched_off_where_it_was_not_asked_for_here() {
        assert_eq!(endpoint("", &[(BASE, "http://base"), (DISABLED, "true")]), None);
        let ours: &[_] = &[("ADJUTANT_OTLP_ENDPOINT", "http://ours"), (DISABLED, "true")];
        assert_eq!(endpoint("", ours), Some(at("http://ours/v1/traces")));
    }

    #[test]
    fn a_wrong_address_names_where_it_came_from() {
        for name in ["ADJUTANT_OTLP_ENDPOINT", BASE, EXACT] {
            let environment: &'static [_] = vec![(name, "collector:4318")].leak();
            let failure = configuration("", environment)
                .unwrap()
                .otlp_endpoint(None)
                .unwrap_err();
            assert!(
                failure
                    .to_string()
                    .starts_with(&format!("error: {name}: `collector:4318`")),
                "{failure}"
            );
        }
    }
}
