//! Events, explanations and the fleet as they go out.

use adjutant_core::command::{AccessToken, AgentStanding, Explanation};
use adjutant_core::event::Event;
use adjutant_core::name::TaskId;
use adjutant_core::webhook::{Delivery, Webhook};
use adjutant_wire as wire;

use super::{agent, raw_json, task, texts};

/// The most agents that a group of an explanation names.
const MAX_NAMED: usize = 100;

/// An event.
pub(crate) fn event(event: &Event) -> wire::Event {
    wire::Event {
        seq: event.seq,
        kind: event.kind.name().to_owned(),
        task_id: event.task.as_ref().map(|(_, id)| id.to_string()),
        agent_id: event.agent.as_ref().map(ToString::to_string),
        timestamp: event.at,
        payload: raw_json(event.payload.as_deref()),
    }
}

/// What each agent lacks for a task.
pub(crate) fn explanation(id: &TaskId, explanation: Explanation) -> wire::Explanation {
    wire::Explanation {
        task_id: id.to_string(),
        status: explanation.status.name().to_owned(),
        waiting: explanation.waiting.as_ref().map(task::waiting),
        considered: explanation.considered,
        groups: explanation
            .groups
            .into_iter()
            .map(|group| wire::ExplanationGroup {
                reason: group.reason,
                count: group.count,
                agents: texts(&group.agents[..group.agents.len().min(MAX_NAMED)]),
            })
            .collect(),
    }
}

/// An agent with what is left of its allowance.
pub(crate) fn standing(standing: AgentStanding) -> wire::FleetAgent {
    wire::FleetAgent {
        agent: agent::agent(&standing.agent),
        allowance: agent::check(standing.check),
    }
}

/// A webhook; with its secret where it is shown.
pub(crate) fn webhook(webhook: &Webhook, secret: Option<String>) -> wire::Webhook {
    let (status, detail) = match &webhook.disabled {
        Some(why) => (
            "disabled",
            Some(format!("{why}; `adjutant webhook resume` has it told again")),
        ),
        None if webhook.is_stalled() => (
            "stalled",
            Some(format!(
                "{} deliveries wait for another try: what is new waits until some of them are through",
                webhook.pending
            )),
        ),
        None => ("active", None),
    };
    wire::Webhook {
        name: webhook.name.to_string(),
        url: webhook.url.to_string(),
        events: webhook.kinds.iter().map(|kind| kind.name().to_owned()).collect(),
        created_at: webhook.created_at,
        status: status.to_owned(),
        detail,
        failing_since: webhook.failing_since,
        cursor: webhook.cursor,
        pending: webhook.pending,
        dead: webhook.dead,
        missed: webhook.missed,
        secret,
    }
}

/// What could not be delivered.
pub(crate) fn delivery(seq: u64, delivery: Delivery) -> wire::WebhookDelivery {
    wire::WebhookDelivery {
        seq,
        status: if delivery.due_at.is_some() {
            "pending"
        } else {
            "dead"
        }
        .to_owned(),
        attempts: delivery.attempts,
        due_at: delivery.due_at,
        error: delivery.error.into(),
    }
}

/// An access token.
pub(crate) fn token(token: &AccessToken) -> wire::Token {
    wire::Token {
        name: token.name.to_string(),
        roles: texts(&token.roles),
        created_at: token.created_at,
    }
}
