//! Agents as they go out.

use std::sync::Arc;

use adjutant_core::agent::{Agent, AgentStatus};
use adjutant_core::command::{CheckAnswer, CheckStatus, Stop};
use adjutant_wire as wire;

use super::{raw_json, texts};
use crate::parse::agent::A2A;

/// An agent.
pub(crate) fn agent(agent: &Agent) -> wire::Agent {
    let peer = agent.peer.as_deref();
    wire::Agent {
        id: agent.id.to_string(),
        name: agent.name.clone(),
        capabilities: texts(&agent.capabilities),
        models: texts(&agent.models),
        status: agent.status(),
        last_heartbeat: agent.last_seen,
        current_load: agent.load(),
        max_load: agent.max_load,
        paused_until: agent.paused_until,
        quarantined_until: agent.quarantined_until,
        metadata: raw_json(agent.metadata.as_deref()),
        registered_at: agent.registered_at,
        protocol: peer.map(|_| A2A.to_owned()),
        url: peer.map(|peer| peer.url.to_string()),
        addresses: peer.map(|peer| texts(&peer.addresses)),
        token_env: peer.and_then(|peer| peer.token_env.as_deref().map(str::to_owned)),
    }
}

/// How many agents are in each state, in the order of [`AgentStatus::ALL`].
pub(crate) fn by_status(agents: &[Arc<Agent>]) -> [u64; AgentStatus::ALL.len()] {
    let mut counts = [0; AgentStatus::ALL.len()];
    for agent in agents {
        let status = agent.status();
        if let Some(place) = AgentStatus::ALL.iter().position(|known| *known == status) {
            counts[place] += 1;
        }
    }
    counts
}

/// An attempt to stop.
pub(crate) fn stop(stop: &Stop) -> wire::Stop {
    wire::Stop {
        id: stop.id.to_string(),
        attempt: stop.attempt,
        reason: stop.reason,
    }
}

/// What an agent may start.
pub(crate) fn check(check: CheckAnswer) -> wire::AllowanceCheck {
    wire::AllowanceCheck {
        allowed: check.allowed,
        status: match check.status {
            CheckStatus::Ok => "ok",
            CheckStatus::Warning => "warning",
            CheckStatus::Exceeded => "exceeded",
        }
        .to_owned(),
        remaining_tokens: check.remaining_tokens,
        remaining_jobs: check.remaining_jobs,
        reason: check.reason,
    }
}
