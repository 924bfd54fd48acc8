//! Values of flags: parsers that say what may be written.

use adjutant_core::agent::AgentStatus;
use adjutant_core::limit::{Scope, Window};
use adjutant_core::money::Money;
use adjutant_core::task::{Priority, Produces, Status};
use adjutant_core::time::Span;
use serde_json::value::RawValue;

fn one_of<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter()
        .copied()
        .find(|value| name(*value) == text)
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|value| name(*value)).collect();
            format!("write one of {}", names.join(", "))
        })
}

/// A task's urgency.
pub(crate) fn priority(text: &str) -> Result<Priority, String> {
    one_of(text, &Priority::ALL, Priority::name)
}

/// A task's state.
pub(crate) fn status(text: &str) -> Result<Status, String> {
    one_of(text, &Status::ALL, Status::name)
}

/// An agent's state.
pub(crate) fn agent_status(text: &str) -> Result<AgentStatus, String> {
    one_of(text, &AgentStatus::ALL, AgentStatus::name)
}

/// A limit's window.
pub(crate) fn window(text: &str) -> Result<Window, String> {
    one_of(text, &Window::ALL, Window::name)
}

/// What a task's success makes.
pub(crate) fn produces(text: &str) -> Result<Produces, String> {
    one_of(
        text,
        &[Produces::PullRequest, Produces::Issue],
        |produces| match produces {
            Produces::PullRequest => "pull_request",
            Produces::Issue => "issue",
        },
    )
}

/// A scope, as the API names it.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    text.parse::<Scope>().map(|scope| scope.to_string())
}

/// A length of time.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    text.parse()
}

/// An amount of money in cents.
pub(crate) fn cents(text: &str) -> Result<Money, String> {
    let cents: f64 = text
        .parse()
        .map_err(|_| "write an amount in cents, such as 150 or 0.5".to_owned())?;
    Money::from_cents(cents)
}

/// Any JSON.
pub(crate) fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| format!("not valid JSON: {error}"))
}
