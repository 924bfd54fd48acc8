//! Events, explanations and the fleet as they go out.

use adjutant_core::command::{AccessToken, AgentStanding, Explanation};
use adjutant_core::event::Event;
use adjutant_core::name::TaskId;
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

/// An access token.
pub(crate) fn token(token: &AccessToken) -> wire::Token {
    wire::Token {
        name: token.name.to_string(),
        roles: texts(&token.roles),
        created_at: token.created_at,
    }
}
