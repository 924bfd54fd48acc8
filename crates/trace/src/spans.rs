//! Spans: of what was noted.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use adjutant_core::attempt::{Attempt, Outcome, Tokens};
use adjutant_core::name::ModelName;
use adjutant_core::task::{Status as TaskStatus, Task};
use adjutant_core::time::Timestamp;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::identity::{Part, span, trace};
use crate::names;
use crate::record::{Record, What};

/// Adds the spans of a record.
pub(crate) fn add(record: &Record, spans: &mut Vec<SpanData>) {
    let at = record.at;
    match &record.what {
        What::Submitted(task) => spans.push(submitted(task, at)),
        What::Started(attempt, task) => spans.push(dispatched(attempt, task.as_deref(), at)),
        What::Ended(attempt, task, name) => {
            spans.push(invoked(attempt, name.as_deref(), at));
            spans.push(settled(
                attempt,
                task.as_deref(),
                Part::Settle(attempt.key.number),
                at,
            ));
        }
        What::SucceededLate(attempt, task) => {
            let part = Part::LateSuccess(attempt.key.number);
            spans.push(settled(attempt, task.as_deref(), part, at));
        }
        What::Closed(task) => spans.push(closed(task, at)),
    }
}

fn submitted(task: &Task, at: Timestamp) -> SpanData {
    let trace = trace(&task.id, task.key);
    let mut attributes = vec![
        text(names::TASK_ID, task.id.as_str()),
        KeyValue::new(names::TASK_PRIORITY, task.priority.name()),
    ];
    let demand = &task.class.demand;
    if let Some(model) = &demand.model {
        attributes.push(text(names::REQUEST_MODEL, model.as_str()));
    }
    if !demand.labels.is_empty() {
        let labels = demand
            .labels
            .iter()
            .map(|label| StringValue::from(label.to_string()));
        let labels = Value::Array(Array::String(labels.collect()));
        attributes.push(KeyValue::new(names::TASK_LABELS, labels));
    }
    if let Some(project) = &task.project {
        attributes.push(text(names::TASK_PROJECT, project.as_str()));
    }
    if let Some(repo) = &task.repo {
        attributes.push(text(names::TASK_REPO, repo.as_str()));
    }
    let times = (task.created_at(), at);
    Sketch {
        kind: SpanKind::Producer,
        ..Sketch::new(trace, Part::Submit, SpanId::INVALID, names::SUBMIT, times)
    }
    .with(attributes)
}

fn dispatched(attempt: &Attempt, task: Option<&Task>, at: Timestamp) -> SpanData {
    let trace = trace(&attempt.task_id, attempt.key.task);
    let parent = span(trace, Part::Submit);
    let since = task.map_or(attempt.started_at, |task| task.ready_since);
    let part = Part::Dispatch(attempt.key.number);
    Sketch::new(trace, part, parent, names::DISPATCH, (since, at)).with(of_attempt(attempt))
}

fn invoked(attempt: &Attempt, name: Option<&str>, at: Timestamp) -> SpanData {
    let trace = trace(&attempt.task_id, attempt.key.task);
    let number = attempt.key.number;
    let parent = span(trace, Part::Dispatch(number));
    let name = name.unwrap_or(attempt.agent.as_str());
    let mut attributes = of_attempt(attempt);
    attributes.push(KeyValue::new(names::OPERATION_NAME, names::INVOKE_AGENT));
    attributes.push(text(names::AGENT_NAME, name));
    attributes.extend(of_usage(attempt));
    let mut status = Status::Unset;
    if let Some(outcome) = attempt.outcome() {
        attributes.push(KeyValue::new(names::OUTCOME, outcome.name()));
        if matches!(outcome, Outcome::Failed | Outcome::Lost | Outcome::TimedOut) {
            attributes.push(KeyValue::new(names::ERROR_TYPE, outcome.name()));
            status = Status::error(outcome.name());
        }
    }
    let times = (attempt.started_at, attempt.ended_at.unwrap_or(at));
    Sketch {
        kind: SpanKind::Client,
        status,
        ..Sketch::new(
            trace,
            Part::Attempt(number),
            parent,
            format!("{} {name}", names::INVOKE_AGENT),
            times,
        )
    }
    .with(attributes)
}

fn settled(attempt: &Attempt, task: Option<&Task>, part: Part, at: Timestamp) -> SpanData {
    let trace = trace(&attempt.task_id, attempt.key.task);
    let parent = span(trace, Part::Attempt(attempt.key.number));
    let mut attributes = of_attempt(attempt);
    if let Some(outcome) = attempt.outcome() {
        attributes.push(KeyValue::new(names::OUTCOME, outcome.name()));
    }
    if let Some(task) = task {
        attributes.push(KeyValue::new(names::TASK_STATUS, task.status.name()));
    }
    // A late success has no other time than that of its commit.
    let since = match part {
        Part::Settle(_) => attempt.ended_at.unwrap_or(at),
        _ => at,
    };
    Sketch {
        status: of_task(task),
        ..Sketch::new(trace, part, parent, names::SETTLE, (since, at))
    }
    .with(attributes)
}

fn closed(task: &Task, at: Timestamp) -> SpanData {
    let trace = trace(&task.id, task.key);
    let attributes = vec![
        text(names::TASK_ID, task.id.as_str()),
        KeyValue::new(names::TASK_STATUS, task.status.name()),
    ];
    let (part, parent) = (Part::Close(task.attempt), span(trace, Part::Submit));
    Sketch {
        status: of_task(Some(task)),
        ..Sketch::new(trace, part, parent, names::SETTLE, (task.updated_at, at))
    }
    .with(attributes)
}

/// The dead letter is an error; an attempt that failed and is tried again is none of the task.
fn of_task(task: Option<&Task>) -> Status {
    match task.map(|task| task.status) {
        Some(TaskStatus::Failed) => Status::error("no attempt is left"),
        _ => Status::Unset,
    }
}

fn of_attempt(attempt: &Attempt) -> Vec<KeyValue> {
    let mut attributes = vec![
        text(names::TASK_ID, attempt.task_id.as_str()),
        KeyValue::new(names::ATTEMPT, i64::from(attempt.key.number)),
        text(names::AGENT_ID, attempt.agent.as_str()),
    ];
    if let Some(model) = &attempt.model {
        attributes.push(text(names::REQUEST_MODEL, model.as_str()));
    }
    attributes
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the ledger has the cost to the nano-dollar; a trace need not"
)]
fn of_usage(attempt: &Attempt) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    let mut models = attempt.usage.iter().filter_map(|entry| entry.model.as_ref());
    let told = models.next().filter(|_| models.next().is_none());
    if let Some(model) = told {
        attributes.push(text(names::RESPONSE_MODEL, model.as_str()));
    }
    let provider = told.or(attempt.model.as_ref()).map(ModelName::as_str);
    if let Some(provider) = provider.and_then(names::provider) {
        attributes.push(KeyValue::new(names::PROVIDER_NAME, provider));
    }
    if attempt.usage.is_empty() {
        return attributes;
    }
    let all = attempt
        .usage
        .iter()
        .fold(Tokens::default(), |all, entry| all.plus(entry.tokens));
    let number = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let input = all.tokens_in.saturating_add(all.tokens_cached);
    attributes.push(KeyValue::new(names::INPUT_TOKENS, number(input)));
    attributes.push(KeyValue::new(names::CACHED_TOKENS, number(all.tokens_cached)));
    attributes.push(KeyValue::new(names::OUTPUT_TOKENS, number(all.tokens_out)));
    let dollars = attempt.cost().as_nanos() as f64 / 1e9;
    attributes.push(KeyValue::new(names::COST_DOLLARS, dollars));
    attributes
}

fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

/// A span without its attributes.
struct Sketch {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    name: Cow<'static, str>,
    kind: SpanKind,
    status: Status,
    start: Timestamp,
    end: Timestamp,
}

impl Sketch {
    fn new(
        trace: TraceId,
        part: Part,
        parent: SpanId,
        name: impl Into<Cow<'static, str>>,
        (start, end): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            trace,
            id: span(trace, part),
            parent,
            name: name.into(),
            kind: SpanKind::Internal,
            status: Status::Unset,
            // A claim may come before the task's time, and clocks of servers differ a little.
            start: start.min(end),
            end,
        }
    }

    fn with(self, attributes: Vec<KeyValue>) -> SpanData {
        SpanData {
            span_context: SpanContext::new(self.trace, self.id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: self.parent,
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: self.name,
            start_time: time(self.start),
            end_time: time(self.end),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.status,
            instrumentation_scope: InstrumentationScope::builder(names::SCOPE)
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at.as_micros().unsigned_abs())
}
