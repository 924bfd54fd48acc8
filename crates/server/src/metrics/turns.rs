//! What turns change: counted as each is durable, by the server that committed it.

use std::sync::atomic::AtomicU64;
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

use super::labels::{AgentTokens, ByAgent, ByModel, ByOutcome, ByPriority, ByType, ModelTokens};
use super::places::Places;
use super::{QUICK_SECONDS, seconds};

/// Upper bounds of what takes anything from milliseconds to a day: waiting and working.
const LONG_SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
    43_200.0, 86_400.0,
];
/// Upper bounds of requests in a turn, up to the most that there can be.
const REQUESTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// All ends of attempts.
const OUTCOMES: [Outcome; 6] = [
    Outcome::Completed,
    Outcome::Failed,
    Outcome::Lost,
    Outcome::TimedOut,
    Outcome::Cancelled,
    Outcome::Released,
];
/// What is counted for the model of a report that names none, for an attempt that has none.
const UNKNOWN: &str = "unknown";
/// Kinds of tokens.
const KINDS: [&str; 3] = ["input", "output", "cached"];

/// A counter of dollars.
type Dollars = Counter<f64, AtomicU64>;

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
    models: Places,
    model_tokens: Family<ModelTokens, Counter>,
    model_cost: Family<ByModel, Dollars>,
    agents: Places,
    agent_tokens: Family<AgentTokens, Counter>,
    agent_cost: Family<ByAgent, Dollars>,
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
            models: Places::default(),
            model_tokens: Family::default(),
            model_cost: Family::default(),
            agents: Places::default(),
            agent_tokens: Family::default(),
            agent_cost: Family::default(),
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
        for outcome in OUTCOMES.map(Outcome::name) {
            drop(self.ended.get_or_create(&ByOutcome { outcome }));
            drop(self.duration.get_or_create(&ByOutcome { outcome }));
        }
    }

    fn register(&self, registry: &mut Registry) {
        let mut counted = |name: &str, help: &str, metric: &Family<_, Counter>| {
            registry.register(name, help, metric.clone());
        };
        counted(
            "adjutant_events",
            "Events that this server committed, by type",
            &self.events,
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
        registry.register(
            "adjutant_model_tokens",
            "Tokens that were booked, by model and kind",
            self.model_tokens.clone(),
        );
        registry.register(
            "adjutant_model_cost_dollars",
            "Cost that was booked, by model",
            self.model_cost.clone(),
        );
        registry.register(
            "adjutant_agent_tokens",
            "Tokens that were booked, by agent and kind",
            self.agent_tokens.clone(),
        );
        registry.register(
            "adjutant_agent_cost_dollars",
            "Cost that was booked, by agent",
            self.agent_cost.clone(),
        );
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
                self.used_by(now.agent.as_str(), tokens, cost, heard);
                let model = entry.model.as_ref().map_or(UNKNOWN, |model| model.as_str());
                self.used_of(model, tokens, cost, heard);
            }
        }
    }

    fn used_of(&mut self, model: &str, tokens: Tokens, cost: Money, heard: Instant) {
        let (place, loser) = self.models.of(model, heard);
        if let Some(model) = loser {
            for kind in KINDS {
                self.model_tokens.remove(&ModelTokens {
                    model: model.clone(),
                    kind,
                });
            }
            self.model_cost.remove(&ByModel { model });
        }
        let model = place.to_owned();
        for (kind, count) in by_kind(tokens) {
            let model = model.clone();
            let labels = ModelTokens { model, kind };
            self.model_tokens.get_or_create(&labels).inc_by(count);
        }
        self.model_cost
            .get_or_create(&ByModel { model })
            .inc_by(dollars(cost));
    }

    fn used_by(&mut self, agent: &str, tokens: Tokens, cost: Money, heard: Instant) {
        let (place, loser) = self.agents.of(agent, heard);
        if let Some(agent) = loser {
            for kind in KINDS {
                self.agent_tokens.remove(&AgentTokens {
                    agent: agent.clone(),
                    kind,
                });
            }
            self.agent_cost.remove(&ByAgent { agent });
        }
        let agent = place.to_owned();
        for (kind, count) in by_kind(tokens) {
            let agent = agent.clone();
            let labels = AgentTokens { agent, kind };
            self.agent_tokens.get_or_create(&labels).inc_by(count);
        }
        self.agent_cost
            .get_or_create(&ByAgent { agent })
            .inc_by(dollars(cost));
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

fn by_kind(tokens: Tokens) -> [(&'static str, u64); 3] {
    let [input, output, cached] = KINDS;
    [
        (input, tokens.tokens_in),
        (output, tokens.tokens_out),
        (cached, tokens.tokens_cached),
    ]
}

/// A counter does not go back, and so a cost that was corrected downwards stays as it was counted.
#[expect(
    clippy::cast_precision_loss,
    reason = "the ledger has the cost to the nano-dollar; a plot need not"
)]
fn dollars(cost: Money) -> f64 {
    cost.as_nanos().max(0) as f64 / 1e9
}
