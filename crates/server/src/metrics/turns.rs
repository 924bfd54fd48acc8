//! What turns change: counted as each is durable, by the server that committed it.

use std::time::Instant;

use adjutant_core::attempt::{Attempt, ModelUsage, Outcome, Tokens};
use adjutant_core::event::EventKind;
use adjutant_core::money::Money;
use adjutant_core::set::rows::Changes;
use adjutant_core::task::{Priority, Status};
use adjutant_core::time::Timestamp;
use adjutant_engine::watch::{Turn, Watcher};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ByOutcome, ByPriority, ByType};
use super::spending::Spending;
use super::{QUICK_SECONDS, seconds};

/// Upper bounds of what takes anything from milliseconds to a day: waiting and working.
const LONG_SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
    43_200.0, 86_400.0,
];
/// Upper bounds of requests in a turn, up to the most that there can be.
const REQUESTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// What is counted for the model of a report that names none, for an attempt that has none.
const UNKNOWN: &str = "unknown";

/// Makes histograms of what may take long.
#[derive(Clone, Debug)]
struct Long;

impl MetricConstructor<Histogram> for Long {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LONG_SECONDS)
    }
}

/// Counts what turns change.
pub(super) struct TurnCounter {
    requests: Histogram,
    deciding: Histogram,
    committing: Histogram,
    events: Family<ByType, Counter>,
    latency: Family<ByPriority, Histogram, Long>,
    started: Counter,
    ended: Family<ByOutcome, Counter>,
    duration: Family<ByOutcome, Histogram, Long>,
    models: Spending,
    agents: Spending,
}

impl TurnCounter {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let counter = Self {
            requests: Histogram::new(REQUESTS),
            deciding: Histogram::new(QUICK_SECONDS),
            committing: Histogram::new(QUICK_SECONDS),
            events: Family::default(),
            latency: Family::new_with_constructor(Long),
            started: Counter::default(),
            ended: Family::default(),
            duration: Family::new_with_constructor(Long),
            models: Spending::new("model"),
            agents: Spending::new("agent"),
        };
        counter.begin_at_zero();
        counter.register(registry);
        counter
    }

    /// A series that is there from the start shows its first step; one that appears with it does not.
    fn begin_at_zero(&self) {
        for kind in EventKind::ALL {
            drop(self.events.get_or_create(&ByType { r#type: kind.name() }));
        }
        for priority in Priority::ALL.map(Priority::name) {
            drop(self.latency.get_or_create(&ByPriority { priority }));
        }
        for outcome in Outcome::ALL.map(Outcome::name) {
            drop(self.ended.get_or_create(&ByOutcome { outcome }));
            drop(self.duration.get_or_create(&ByOutcome { outcome }));
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "adjutant_events",
            "Events that this server committed, by type",
            self.events.clone(),
        );
        registry.register(
            "adjutant_turn_requests",
            "Requests that were taken in one turn",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "adjutant_turn_decide",
            "How long a turn took to load and to decide",
            Unit::Seconds,
            self.deciding.clone(),
        );
        registry.register_with_unit(
            "adjutant_turn_commit",
            "How long a turn took from its decision until it was durable",
            Unit::Seconds,
            self.committing.clone(),
        );
        registry.register_with_unit(
            "adjutant_dispatch_latency",
            "From when a task was startable until its dispatch or claim was durable",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register(
            "adjutant_attempts_started",
            "Attempts that were dispatched or claimed",
            self.started.clone(),
        );
        registry.register(
            "adjutant_attempts_ended",
            "Attempts that ended, by outcome",
            self.ended.clone(),
        );
        registry.register_with_unit(
            "adjutant_attempt_duration",
            "From the start of an attempt to its end, by outcome",
            Unit::Seconds,
            self.duration.clone(),
        );
        self.models.register(registry);
        self.agents.register(registry);
    }

    /// Tasks that were given to somebody.
    fn dispatched(&self, changes: &Changes, at: Timestamp) {
        for change in &changes.tasks {
            let Some(now) = &change.now else { continue };
            let attempt_before = change.before.as_ref().map_or(0, |before| before.attempt);
            if now.status == Status::InProgress && now.attempt != attempt_before {
                let priority = now.priority.name();
                self.latency
                    .get_or_create(&ByPriority { priority })
                    .observe(seconds(at.since(now.ready_since)));
            }
        }
    }

    fn attempt(&mut self, before: Option<&Attempt>, now: &Attempt, heard: Instant) {
        // A job that was dispatched elsewhere started and ended there; what it used is booked here.
        if !now.external {
            if before.is_none() {
                self.started.inc();
            }
            if let Some(outcome) = now.outcome()
                && before.and_then(Attempt::outcome) != Some(outcome)
            {
                let outcome = outcome.name();
                self.ended.get_or_create(&ByOutcome { outcome }).inc();
                if let Some(ended_at) = now.ended_at {
                    self.duration
                        .get_or_create(&ByOutcome { outcome })
                        .observe(seconds(ended_at.since(now.started_at)));
                }
            }
        }
        let booked = before.map_or(&[][..], |before| &before.usage);
        for entry in &now.usage {
            let of_model = booked.iter().find(|other| other.model == entry.model);
            let (tokens, cost) = increase(of_model, entry);
            if !tokens.is_zero() || cost > Money::ZERO {
                self.agents.add(now.agent.as_str(), tokens, cost, heard);
                let model = entry.model.as_ref().map_or(UNKNOWN, |model| model.as_str());
                self.models.add(model, tokens, cost, heard);
            }
        }
    }
}

impl Watcher for TurnCounter {
    #[expect(clippy::cast_precision_loss, reason = "a turn has some hundred requests")]
    fn turn(&mut self, turn: &Turn<'_>) {
        self.requests.observe(turn.requests as f64);
        self.deciding.observe(turn.deciding.as_secs_f64());
        let changes = turn.changes;
        if changes.is_empty() {
            return;
        }
        self.committing.observe(turn.committing.as_secs_f64());
        for event in &changes.events {
            let r#type = event.kind.name();
            self.events.get_or_create(&ByType { r#type }).inc();
        }
        self.dispatched(changes, turn.at);
        let heard = Instant::now();
        for change in &changes.attempts {
            if let Some(now) = &change.now {
                self.attempt(change.before.as_deref(), now, heard);
            }
        }
    }
}

/// What is new in an entry of usage.
fn increase(before: Option<&ModelUsage>, now: &ModelUsage) -> (Tokens, Money) {
    match before {
        None => (now.tokens, now.cost),
        Some(before) => (now.tokens.beyond(before.tokens), now.cost - before.cost),
    }
}
