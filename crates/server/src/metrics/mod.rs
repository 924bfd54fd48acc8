//! Metrics: what Prometheus reads at `/metrics`.
//!
//! Counters and histograms are kept up as things happen: turns by [`turns`], requests by the guard. What stands still
//! (tasks by state, agents, the queue) is looked up by [`standing`] when it is asked for. docs/observability.md has the
//! table of all of them; a test holds it to what is exposed.
//!
//! # Invariants
//! - Labels are bounded: they are of sets that the program knows, except names of agents and models, of which
//!   [`places::MOST`] have series of their own at a time.
//! - A look never counts rows of a large store: see [`standing`].
//!
//! # Not here
//! The text formats: prometheus-client. What a turn changed: the engine, which tells its watchers.

mod labels;
mod places;
mod process;
mod spending;
mod standing;
mod turns;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adjutant_core::agent::AgentStatus;
use adjutant_core::task::{Priority, Status};
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::tally::{STORE_ERRORS, Tally};
use adjutant_engine::watch::Watcher;
use http::{Method, StatusCode};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::failure::Failure;
use labels::{ByKind, ByPriority, ByRequest, ByStatus, ByVersion};
use standing::{Lookout, Standing};

/// Methods that are counted by their names; others are `other`.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];
/// What is neither of a known set nor has a place.
const OTHER: &str = "other";
/// Where a request that no route took is counted.
const NO_ENDPOINT: &str = "none";
/// Requests to these endpoints may wait for work or for its end: that says nothing of how quick the server is.
const LONG_POLLS: [&str; 3] = ["/api/agents/{id}/sync", "/mcp", "/message:send"];
/// Upper bounds of what should take milliseconds.
const QUICK_SECONDS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    lookout: Lookout,
    tasks: Family<ByStatus, Gauge>,
    queue_age: Family<ByPriority, Seconds>,
    agents: Family<ByStatus, Gauge>,
    load: Gauge,
    waiting: Gauge,
    streams: Gauge,
    last_seq: Gauge,
    store_errors: Family<ByKind, Counter>,
    discarded: Counter,
    requests: Family<ByRequest, Counter>,
    request_time: Histogram,
}

impl Metrics {
    /// All of them at zero, and the watcher that keeps up what turns change.
    pub(crate) fn new() -> (Self, Box<dyn Watcher>) {
        let mut registry = Registry::default();
        let watcher = turns::TurnCounter::new(&mut registry);
        let metrics = Self {
            lookout: Lookout::default(),
            tasks: Family::default(),
            queue_age: Family::default(),
            agents: Family::default(),
            load: Gauge::default(),
            waiting: Gauge::default(),
            streams: Gauge::default(),
            last_seq: Gauge::default(),
            store_errors: Family::default(),
            discarded: Counter::default(),
            requests: Family::default(),
            request_time: Histogram::new(QUICK_SECONDS),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        registry.register_collector(Box::new(process::Process::new()));
        (Self { registry, ..metrics }, Box::new(watcher))
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("adjutant_tasks", "Tasks by status", self.tasks.clone());
        registry.register_with_unit(
            "adjutant_queue_age",
            "How long the task has been startable that waits for longest, by priority; 0 when none waits",
            Unit::Seconds,
            self.queue_age.clone(),
        );
        registry.register("adjutant_agents", "Agents by status", self.agents.clone());
        registry.register(
            "adjutant_agent_load",
            "Attempts that occupy agents",
            self.load.clone(),
        );
        registry.register(
            "adjutant_waiting_agents",
            "Agents that wait for work in a long poll",
            self.waiting.clone(),
        );
        registry.register(
            "adjutant_event_streams",
            "Event streams that are open",
            self.streams.clone(),
        );
        registry.register(
            "adjutant_event_seq",
            "The number of the last committed event",
            self.last_seq.clone(),
        );
        registry.register(
            "adjutant_store_errors",
            "Errors of the store, also those after which something was tried again",
            self.store_errors.clone(),
        );
        registry.register(
            "adjutant_turns_discarded",
            "Turns that were discarded because they met a bug or a row that cannot be read",
            self.discarded.clone(),
        );
        registry.register(
            "adjutant_http_requests",
            "Requests that were answered, by method, endpoint and class of status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "adjutant_http_request_duration",
            "From the head of a request to the head of its answer, those that may wait for work aside",
            Unit::Seconds,
            self.request_time.clone(),
        );
        registry.register(
            "adjutant_build",
            "The version that runs",
            Info::new(ByVersion {
                version: env!("CARGO_PKG_VERSION"),
            }),
        );
    }

    /// A request was answered.
    pub(crate) fn answered(
        &self,
        method: &Method,
        endpoint: Option<&str>,
        status: StatusCode,
        took: Duration,
    ) {
        let labels = ByRequest {
            method: METHODS
                .iter()
                .find(|known| *known == method)
                .map_or(OTHER, Method::as_str),
            endpoint: endpoint.unwrap_or(NO_ENDPOINT).to_owned(),
            class: match status.as_u16() / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                5 => "5xx",
                _ => OTHER,
            },
        };
        self.requests.get_or_create(&labels).inc();
        if !endpoint.is_some_and(|endpoint| LONG_POLLS.contains(&endpoint)) {
            self.request_time.observe(took.as_secs_f64());
        }
    }

    /// All of them as text: in the format of `OpenMetrics` for who asks for that, else in Prometheus' own.
    ///
    /// # Errors
    /// When what stands still cannot be looked up.
    pub(crate) async fn render(app: &App, open: bool) -> Result<String, Failure> {
        let standing = standing::look(app).await?;
        let metrics = &app.metrics;
        metrics.show(&standing, app.handle.now());
        metrics.show_tally(app.handle.tally());
        let places = app
            .config
            .max_streams
            .saturating_sub(app.streams.available_permits());
        metrics.streams.set(whole(places as u64));
        let mut out = String::with_capacity(32 << 10);
        let written = if open {
            text::encode(&mut out, &metrics.registry)
        } else {
            prometheus_text::encode(&mut out, &metrics.registry)
        };
        written.map_err(|error| Failure::bug(&format!("the metrics cannot be written: {error}")))?;
        Ok(out)
    }

    fn show(&self, standing: &Standing, now: Timestamp) {
        for (status, count) in Status::ALL.iter().zip(standing.tasks) {
            let status = status.name();
            self.tasks.get_or_create(&ByStatus { status }).set(whole(count));
        }
        for (status, count) in AgentStatus::ALL.iter().zip(standing.agents) {
            let status = status.name();
            self.agents.get_or_create(&ByStatus { status }).set(whole(count));
        }
        for (priority, since) in Priority::ALL.iter().zip(standing.ready_since) {
            let age = since.map_or(0.0, |since: Timestamp| seconds(now.since(since)));
            let priority = priority.name();
            self.queue_age.get_or_create(&ByPriority { priority }).set(age);
        }
        self.load.set(whole(standing.load));
        self.last_seq.set(whole(standing.last_seq));
    }

    fn show_tally(&self, tally: &Tally) {
        self.waiting.set(whole(tally.waiting()));
        for (kind, count) in STORE_ERRORS.iter().zip(tally.store_errors()) {
            let counter = self.store_errors.get_or_create(&ByKind { kind });
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.discarded.inner().store(tally.bugs(), Ordering::Relaxed);
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A length of time as Prometheus wants it.
fn seconds(span: Span) -> f64 {
    Duration::from_micros(span.as_micros().unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::table::Table;

    #[test]
    fn what_may_wait_is_there() {
        let table = Table::new();
        for endpoint in LONG_POLLS {
            assert!(table.of(endpoint).is_some(), "{endpoint}");
        }
    }

    #[test]
    fn requests_are_counted_by_what_the_program_knows() {
        let (metrics, _watcher) = Metrics::new();
        let brew = Method::from_bytes(b"BREW").unwrap();
        for (method, endpoint, status, took) in [
            (&Method::GET, Some("/api/tasks"), StatusCode::OK, 1),
            (&Method::POST, Some(LONG_POLLS[0]), StatusCode::CONFLICT, 20_000),
            (&brew, None, StatusCode::NOT_FOUND, 1),
        ] {
            metrics.answered(method, endpoint, status, Duration::from_millis(took));
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &metrics.registry).unwrap();
        for expected in [
            r#"adjutant_http_requests_total{method="GET",endpoint="/api/tasks",class="2xx"} 1"#,
            r#"adjutant_http_requests_total{method="POST",endpoint="/api/agents/{id}/sync",class="4xx"} 1"#,
            r#"adjutant_http_requests_total{method="other",endpoint="none",class="4xx"} 1"#,
            "adjutant_http_request_duration_seconds_count 2",
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "no {expected} in {text}"
            );
        }
    }
}
