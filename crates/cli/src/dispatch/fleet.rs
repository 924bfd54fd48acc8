//! Who could take something: the agents that are registered here, as the router sees them.

use std::collections::{HashMap, HashSet};

use adjutant_client::{Client, Error};
use adjutant_core::agent::AgentStatus;
use adjutant_core::name::{AgentId, Label, ModelName};
use adjutant_core::router::plain::Plain;
use adjutant_core::router::{Ask, Candidate, Load, Profile, Route as _};
use adjutant_core::task::{Demand, Priority};
use adjutant_wire::{Agent, Task};

/// No more is claimed for an agent while so much waits for it here, however much it could take.
const MAX_WAITING: usize = 16;

/// The agents with room, and which of them their allowance refuses.
pub(super) struct Fleet {
    router: Plain,
    refused: HashSet<(AgentId, Option<String>)>,
}

impl Fleet {
    /// The agents as they are now, each with what it is about to be given beside that.
    pub(super) fn new<'a>(agents: &[Agent], about: impl Iterator<Item = &'a str>) -> Self {
        let mut candidates: Vec<Candidate> = agents.iter().map(candidate).collect();
        let mut waiting: HashMap<&str, usize> = HashMap::new();
        for id in about {
            *waiting.entry(id).or_default() += 1;
            if let Some(candidate) = candidates.iter_mut().find(|one| one.id.as_str() == id) {
                load_one_more(candidate);
                // Something holds them back that is not to be seen here: a limit of the fleet, a lock.
                candidate.has_room &= waiting[id] < MAX_WAITING;
            }
        }
        candidates.retain(Candidate::takes);
        Self {
            router: Plain { candidates },
            refused: HashSet::new(),
        }
    }

    /// Whether nobody can take anything.
    pub(super) fn is_full(&self) -> bool {
        !self.router.candidates.iter().any(Candidate::takes)
    }

    /// The best agent for a task that its allowance permits a start.
    pub(super) async fn choose(&mut self, task: &Task, here: &Client) -> Result<Option<AgentId>, Error> {
        let demand = Demand {
            labels: task
                .labels
                .iter()
                .map(|label| Label::from(label.as_str()))
                .collect(),
            prefers: task
                .prefers
                .iter()
                .map(|label| Label::from(label.as_str()))
                .collect(),
            model: task.model.as_deref().map(ModelName::from),
        };
        let ask = Ask {
            demand: &demand,
            critical: task.priority == Priority::Critical,
            avoid: &[],
        };
        loop {
            let refused = &self.refused;
            let chosen = self.router.route(ask, &mut |id| {
                !refused.contains(&(id.clone(), task.model.clone()))
            });
            let Some(agent) = chosen else {
                return Ok(None);
            };
            if here
                .check_allowance(agent.as_str(), task.model.as_deref())
                .await?
                .allowed
            {
                return Ok(Some(agent));
            }
            self.refused.insert((agent, task.model.clone()));
        }
    }

    /// An agent is about to be given one more.
    pub(super) fn load(&mut self, agent: &AgentId) {
        if let Some(candidate) = self.router.candidates.iter_mut().find(|one| one.id == *agent) {
            load_one_more(candidate);
        }
    }
}

fn load_one_more(candidate: &mut Candidate) {
    candidate.load.current += 1;
    candidate.has_room &= candidate.load.max == 0 || candidate.load.current < candidate.load.max;
}

fn candidate(agent: &Agent) -> Candidate {
    let labels: Vec<Label> = agent
        .capabilities
        .iter()
        .map(|label| Label::from(label.as_str()))
        .collect();
    let models: Vec<ModelName> = agent
        .models
        .iter()
        .map(|model| ModelName::from(model.as_str()))
        .collect();
    let is_willing = matches!(agent.status, AgentStatus::Available | AgentStatus::Busy);
    Candidate {
        id: AgentId::from(agent.id.as_str()),
        profile: Profile::new(&labels, &models, &[], &[]),
        load: Load {
            current: agent.current_load,
            max: agent.max_load,
        },
        online: agent.status != AgentStatus::Offline,
        has_room: is_willing
            && agent.paused_until.is_none()
            && (agent.max_load == 0 || agent.current_load < agent.max_load),
        // Its allowance is asked for once it is chosen.
        permitted: true,
    }
}
