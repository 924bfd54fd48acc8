//! The indexed router: the same answers as [`Plain`](super::plain::Plain), at a cost that does not grow with the
//! number of agents.
//!
//! Agents with the same [`Profile`] can take exactly the same tasks, so a profile keeps its agents in two orders: by
//! load (for critical tasks) and by loaded share (for all others). The best agent for a task is the best among the
//! first ones of the profiles that serve it, since the bonus for preferred labels is the same for a whole profile.
//! Which profiles serve a class of tasks is worked out once for each class and profile.
//!
//! # Cost
//! O(profiles that serve the class) for a task, O(log agents) for a change of an agent.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Ask, Candidate, Load, Profile, Rank, Route};
use crate::name::{AgentId, ModelName};
use crate::task::{Class, ClassId, Demand};

/// A profile's place in the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProfileId(u32);

impl ProfileId {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An agent in the order in which a profile offers it to tasks that are not critical: the least loaded share first,
/// then the least load, then the id.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ByShare {
    load: Load,
    id: AgentId,
}

impl Ord for ByShare {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .load
            .compare_scores(0, self.load, 0)
            .then_with(|| self.load.current.cmp(&other.load.current))
            .then_with(|| self.id.cmp(&other.id))
            // Two entries of one agent differ in `max` only while it is replaced; keep the order total.
            .then_with(|| self.load.max.cmp(&other.load.max))
    }
}

impl PartialOrd for ByShare {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Members {
    by_share: BTreeSet<ByShare>,
    by_load: BTreeSet<(u32, AgentId, u32)>,
    /// Agents with room that their own limits refuse.
    refused: BTreeSet<AgentId>,
    online: usize,
    all: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    profile: ProfileId,
    load: Load,
    online: bool,
    has_room: bool,
    permitted: bool,
}

/// All agents, indexed for routing.
#[derive(Debug, Default)]
pub struct Fleet {
    profiles: Vec<Profile>,
    ids: HashMap<Profile, ProfileId>,
    members: Vec<Members>,
    agents: HashMap<AgentId, Entry>,
    serving: HashMap<ClassId, Served>,
    /// Models whose own limits permit nothing now.
    closed: HashSet<ModelName>,
    /// For each profile whether its only model is closed: tasks that name no model count for it.
    only_model_closed: Vec<bool>,
    online: usize,
}

/// A class that was asked for, and the profiles that serve it.
#[derive(Debug)]
struct Served {
    demand: Demand,
    profiles: Vec<Serving>,
}

#[derive(Debug, Clone, Copy)]
struct Serving {
    profile: ProfileId,
    bonus: u8,
}

impl Fleet {
    /// Puts an agent in, or changes it.
    pub fn put(&mut self, candidate: Candidate) {
        let Candidate {
            id,
            profile,
            load,
            online,
            has_room,
            permitted,
        } = candidate;
        if let Some(entry) = self.agents.get(&id)
            && self.profiles[entry.profile.index()] == profile
        {
            if entry.load == load
                && entry.online == online
                && entry.has_room == has_room
                && entry.permitted == permitted
            {
                return;
            }
            let profile = entry.profile;
            self.take_out(&id);
            self.put_in(
                id,
                Entry {
                    profile,
                    load,
                    online,
                    has_room,
                    permitted,
                },
            );
            return;
        }
        self.take_out(&id);
        let profile = self.profile_id(profile);
        self.put_in(
            id,
            Entry {
                profile,
                load,
                online,
                has_room,
                permitted,
            },
        );
    }

    /// Shows an agent as if it had been given one more attempt.
    pub fn load_one_more(&mut self, id: &AgentId) {
        let Some(mut entry) = self.agents.get(id).cloned() else {
            return;
        };
        self.take_out(id);
        entry.load.current = entry.load.current.saturating_add(1);
        entry.has_room &= entry.load.max == 0 || entry.load.current < entry.load.max;
        self.put_in(id.clone(), entry);
    }

    /// Removes an agent.
    pub fn remove(&mut self, id: &AgentId) {
        self.take_out(id);
    }

    fn put_in(&mut self, id: AgentId, entry: Entry) {
        let members = &mut self.members[entry.profile.index()];
        members.all += 1;
        members.online += usize::from(entry.online);
        self.online += usize::from(entry.online);
        if entry.has_room && entry.permitted {
            members
                .by_load
                .insert((entry.load.current, id.clone(), entry.load.max));
            members.by_share.insert(ByShare {
                load: entry.load,
                id: id.clone(),
            });
        } else if entry.has_room {
            members.refused.insert(id.clone());
        }
        self.agents.insert(id, entry);
    }

    fn take_out(&mut self, id: &AgentId) {
        let Some(entry) = self.agents.remove(id) else {
            return;
        };
        let members = &mut self.members[entry.profile.index()];
        members.all -= 1;
        members.online -= usize::from(entry.online);
        self.online -= usize::from(entry.online);
        if entry.has_room && entry.permitted {
            members
                .by_load
                .remove(&(entry.load.current, id.clone(), entry.load.max));
            members.by_share.remove(&ByShare {
                load: entry.load,
                id: id.clone(),
            });
        } else if entry.has_room {
            members.refused.remove(id);
        }
    }

    fn profile_id(&mut self, profile: Profile) -> ProfileId {
        if let Some(id) = self.ids.get(&profile) {
            return *id;
        }
        let id = ProfileId(u32::try_from(self.profiles.len()).unwrap_or(u32::MAX));
        self.ids.insert(profile.clone(), id);
        self.only_model_closed.push(match profile.models.as_slice() {
            [only] => self.closed.contains(only),
            _ => false,
        });
        for served in self.serving.values_mut() {
            if profile.serves(&served.demand) {
                let bonus = profile.bonus(&served.demand);
                served.profiles.push(Serving { profile: id, bonus });
            }
        }
        self.profiles.push(profile);
        self.members.push(Members::default());
        id
    }

    /// Says whether a model's own limits permit anything now.
    pub fn set_closed(&mut self, model: &ModelName, closed: bool) {
        let changed = if closed {
            self.closed.insert(model.clone())
        } else {
            self.closed.remove(model)
        };
        if changed {
            for (profile, flag) in self.profiles.iter().zip(&mut self.only_model_closed) {
                if profile.models.len() == 1 && profile.models[0] == *model {
                    *flag = closed;
                }
            }
        }
    }

    /// Whether a model's own limits permit nothing now.
    pub fn is_closed(&self, model: &ModelName) -> bool {
        self.closed.contains(model)
    }

    /// How many agents are not offline.
    pub const fn online(&self) -> usize {
        self.online
    }

    /// How many agents there are.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there is no agent.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Whether this agent can take something.
    pub fn takes(&self, id: &AgentId) -> bool {
        self.agents
            .get(id)
            .is_some_and(|entry| entry.has_room && entry.permitted)
    }

    /// The agent's profile.
    pub fn profile_of(&self, id: &AgentId) -> Option<&Profile> {
        self.agents
            .get(id)
            .map(|entry| &self.profiles[entry.profile.index()])
    }

    /// Agents with room that their own limits refuse.
    pub fn refused(&self) -> impl Iterator<Item = &AgentId> {
        self.members.iter().flat_map(|members| &members.refused)
    }

    /// Whether some agent that is not offline has what a task asks for.
    pub fn any_capable(&self, demand: &Demand) -> bool {
        self.profiles
            .iter()
            .zip(&self.members)
            .any(|(profile, members)| members.online > 0 && profile.is_capable(demand))
    }

    /// An agent that has what a task asks for and has room, whatever its limits say.
    pub fn capable_with_room(&self, demand: &Demand) -> Option<&AgentId> {
        self.profiles
            .iter()
            .zip(&self.members)
            .filter(|(profile, _)| profile.is_capable(demand))
            .find_map(|(_, members)| {
                members
                    .refused
                    .first()
                    .or_else(|| members.by_load.first().map(|(_, id, _)| id))
            })
    }

    /// Works out which profiles serve a class, unless that is known.
    pub fn prepare(&mut self, class: &Class) {
        if self.serving.contains_key(&class.id) {
            return;
        }
        let serving = self
            .profiles
            .iter()
            .zip(0..)
            .filter(|(profile, _)| profile.serves(&class.demand))
            .map(|(profile, index)| Serving {
                profile: ProfileId(index),
                bonus: profile.bonus(&class.demand),
            })
            .collect();
        self.serving.insert(
            class.id,
            Served {
                demand: class.demand.clone(),
                profiles: serving,
            },
        );
    }

    /// Forgets a class that is no longer asked for.
    pub fn forget(&mut self, class: ClassId) {
        self.serving.remove(&class);
    }

    /// The best agent for a class that was [prepared](Self::prepare).
    pub fn route_class(
        &self,
        class: ClassId,
        ask: Ask<'_>,
        admits: &mut dyn FnMut(&AgentId) -> bool,
    ) -> Option<AgentId> {
        let serving = &self.serving.get(&class)?.profiles;
        if let Some(model) = &ask.demand.model
            && self.closed.contains(model)
        {
            return None;
        }
        let fresh = self.best(serving, ask, admits, false);
        if fresh.is_some() || ask.avoid.is_empty() {
            return fresh.cloned();
        }
        self.best(serving, ask, admits, true).cloned()
    }

    fn best<'a>(
        &'a self,
        serving: &[Serving],
        ask: Ask<'_>,
        admits: &mut dyn FnMut(&AgentId) -> bool,
        avoided: bool,
    ) -> Option<&'a AgentId> {
        let mut best: Option<Rank<'a>> = None;
        for Serving { profile, bonus } in serving {
            if ask.demand.model.is_none() && self.only_model_closed[profile.index()] {
                continue;
            }
            let members = &self.members[profile.index()];
            let mut consider = |load: Load, id: &'a AgentId| {
                let rank = Rank {
                    critical: ask.critical,
                    load,
                    bonus: *bonus,
                    id,
                };
                if best.is_some_and(|best| best.compare(&rank) == Ordering::Less) {
                    return true;
                }
                let admitted = (avoided || !ask.avoid.contains(id)) && admits(id);
                if admitted {
                    best = Some(rank);
                }
                admitted
            };
            if ask.critical {
                for (current, id, max) in &members.by_load {
                    if consider(
                        Load {
                            current: *current,
                            max: *max,
                        },
                        id,
                    ) {
                        break;
                    }
                }
            } else {
                for ByShare { load, id } in &members.by_share {
                    if consider(*load, id) {
                        break;
                    }
                }
            }
        }
        best.map(|rank| rank.id)
    }
}

/// For comparison with the plain router: every profile is looked at, nothing is prepared.
impl Route for Fleet {
    fn route(&self, ask: Ask<'_>, admits: &mut dyn FnMut(&AgentId) -> bool) -> Option<AgentId> {
        if ask
            .demand
            .model
            .as_ref()
            .is_some_and(|model| self.closed.contains(model))
        {
            return None;
        }
        let serving: Vec<Serving> = self
            .profiles
            .iter()
            .zip(0..)
            .filter(|(profile, _)| profile.serves(ask.demand))
            .map(|(profile, index)| Serving {
                profile: ProfileId(index),
                bonus: profile.bonus(ask.demand),
            })
            .collect();
        let fresh = self.best(&serving, ask, admits, false);
        if fresh.is_some() || ask.avoid.is_empty() {
            return fresh.cloned();
        }
        self.best(&serving, ask, admits, true).cloned()
    }
}
