//! The agent card: the whole fleet as one agent, with a skill for each capability.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::a2a::{
    AgentCapabilities, AgentCard, AgentInterface, AgentSkill, HttpAuthSecurityScheme, SecurityScheme,
    TRANSPORT_PROTOCOL_HTTP_JSON,
};
use adjutant_core::access::Actor;
use adjutant_core::agent::Agent;
use tokio::sync::Mutex;

use crate::app::App;
use crate::failure::Failure;

/// A card is looked up again after so long: it is asked for without a token, and must not cost a turn each time.
pub(crate) const FRESH: Duration = Duration::from_secs(10);
/// The most skills of a card, so that it stays something to read.
const MAX_SKILLS: usize = 100;
/// The name of the security scheme.
const BEARER: &str = "bearer";

/// The skills as they were some seconds ago.
#[derive(Default)]
pub(crate) struct Skills(Mutex<Option<(Instant, Arc<[AgentSkill]>)>>);

impl Skills {
    /// Those of now, or nearly. While they are looked up, everyone else who asks waits for the same answer.
    pub(super) async fn get(&self, app: &App) -> Result<Arc<[AgentSkill]>, Failure> {
        let mut kept = self.0.lock().await;
        if let Some((at, skills)) = kept.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(skills));
        }
        match app.agents(Actor::admin()).await {
            Ok(agents) => {
                let there = agents.iter().filter(|agent| !agent.offline);
                let skills: Arc<[_]> = skills(there.map(|agent| &**agent)).into();
                *kept = Some((Instant::now(), Arc::clone(&skills)));
                Ok(skills)
            }
            // Old skills are better than none while there is too much to do.
            Err(failure) => kept.as_ref().map(|(_, skills)| Arc::clone(skills)).ok_or(failure),
        }
    }
}

fn skills<'a>(agents: impl Iterator<Item = &'a Agent>) -> Vec<AgentSkill> {
    let mut able: BTreeMap<&str, usize> = BTreeMap::new();
    for agent in agents {
        for capability in agent.capabilities.iter() {
            *able.entry(capability.as_str()).or_default() += 1;
        }
    }
    if able.is_empty() {
        let description = "Whatever a task says, once there is an agent that takes it.".to_owned();
        return vec![skill("task", "Any task", description)];
    }
    let skills = able.into_iter().take(MAX_SKILLS).map(|(name, count)| {
        let who = match count {
            1 => "one agent has it".to_owned(),
            more => format!("{more} agents have it"),
        };
        skill(name, name, format!("Tasks that need `{name}`: {who}."))
    });
    skills.collect()
}

fn skill(id: &str, name: &str, description: String) -> AgentSkill {
    AgentSkill {
        id: id.to_owned(),
        name: name.to_owned(),
        description,
        tags: vec![id.to_owned()],
        examples: None,
        input_modes: None,
        output_modes: None,
        security_requirements: None,
    }
}

/// The card of a fleet that can be reached at `url`.
pub(super) fn card(url: &str, skills: &[AgentSkill]) -> AgentCard {
    let bearer = SecurityScheme::HttpAuth(HttpAuthSecurityScheme {
        scheme: "Bearer".to_owned(),
        description: Some("An access token of this server, with the role `submit`.".to_owned()),
        bearer_format: None,
    });
    let modes = || vec!["text/plain".to_owned(), "application/json".to_owned()];
    AgentCard {
        name: "adjutant".to_owned(),
        description: "A fleet of agents behind one dispatcher: a message becomes a task, and the agent that fits best does \
                      it. `metadata.adjutant.labels` names the skills that it needs."
            .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        supported_interfaces: vec![AgentInterface::new(url, TRANSPORT_PROTOCOL_HTTP_JSON)],
        capabilities: AgentCapabilities {
            streaming: Some(true),
            push_notifications: Some(false),
            extensions: None,
            extended_agent_card: Some(false),
        },
        default_input_modes: modes(),
        default_output_modes: vec!["text/plain".to_owned()],
        skills: skills.to_vec(),
        provider: None,
        documentation_url: None,
        icon_url: None,
        security_schemes: Some(HashMap::from([(BEARER.to_owned(), bearer)])),
        security_requirements: Some(vec![HashMap::from([(BEARER.to_owned(), Vec::new())])]),
        signatures: None,
    }
}
