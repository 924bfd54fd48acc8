//! The indexed router answers exactly like the plain one, whatever happens to the fleet in between.

use std::collections::BTreeSet;

use adjutant_core::name::{AgentId, Label, ModelName};
use adjutant_core::router::indexed::Fleet;
use adjutant_core::router::plain::Plain;
use adjutant_core::router::{Ask, Candidate, Load, Profile, Route};
use adjutant_core::task::{Class, ClassId, Demand};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// Few names, so that profiles, loads and classes coincide often.
const AGENTS: usize = 12;

fn labels(most: usize) -> impl Strategy<Value = Vec<Label>> {
    btree_set(0..8_u8, 0..=most).prop_map(|labels| {
        labels
            .into_iter()
            .map(|label| format!("l{label}").into())
            .collect()
    })
}

fn model() -> impl Strategy<Value = ModelName> {
    (0..3_u8).prop_map(|model| format!("m{model}").into())
}

fn models(most: usize) -> impl Strategy<Value = Vec<ModelName>> {
    vec(model(), 0..=most)
}

fn agent_id() -> impl Strategy<Value = AgentId> {
    (0..AGENTS).prop_map(|agent| format!("a{agent}").into())
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let profile = (labels(6), models(2), models(2), models(1))
        .prop_map(|(labels, models, allowlist, paused)| Profile::new(&labels, &models, &allowlist, &paused));
    let load = (0..6_u32, prop_oneof![Just(0), 1..8_u32]).prop_map(|(current, max)| Load { current, max });
    let mostly = || prop::bool::weighted(0.8);
    (agent_id(), profile, load, mostly(), mostly(), mostly()).prop_map(
        |(id, profile, load, online, has_room, permitted)| Candidate {
            id,
            profile,
            load,
            online,
            has_room,
            permitted,
        },
    )
}

fn demand() -> impl Strategy<Value = Demand> {
    (labels(2), labels(8), prop::option::of(model())).prop_map(|(labels, prefers, model)| Demand {
        labels,
        prefers,
        model,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put(Candidate),
    /// The same profile under another load: what happens most.
    Reload(AgentId, Load),
    Remove(AgentId),
    /// A model's own limits permit nothing, or something again.
    Close(ModelName, bool),
    Route {
        class: usize,
        critical: bool,
        avoid: BTreeSet<AgentId>,
        refused: BTreeSet<AgentId>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let load = (0..6_u32, 0..8_u32).prop_map(|(current, max)| Load { current, max });
    let some = |most| btree_set(agent_id(), 0..=most);
    prop_oneof![
        4 => candidate().prop_map(Step::Put),
        2 => (agent_id(), load).prop_map(|(id, load)| Step::Reload(id, load)),
        1 => agent_id().prop_map(Step::Remove),
        1 => (model(), any::<bool>()).prop_map(|(model, closed)| Step::Close(model, closed)),
        5 => (0..CLASSES, any::<bool>(), some(4), some(6)).prop_map(|(class, critical, avoid, refused)| {
            Step::Route { class, critical, avoid, refused }
        }),
    ]
}

const CLASSES: usize = 6;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_like_the_specification(
        demands in vec(demand(), CLASSES),
        steps in vec(step(), 1..60),
    ) {
        let classes: Vec<Class> =
            demands.into_iter().zip(1..).map(|(demand, id)| Class { id: ClassId(id), demand }).collect();
        let mut plain = Plain::default();
        let mut fleet = Fleet::default();
        let mut closed: BTreeSet<ModelName> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Put(candidate) => {
                    plain.candidates.retain(|other| other.id != candidate.id);
                    plain.candidates.push(candidate.clone());
                    fleet.put(candidate);
                }
                Step::Reload(id, load) => {
                    if let Some(candidate) = plain.candidates.iter_mut().find(|other| other.id == id) {
                        candidate.load = load;
                        fleet.put(candidate.clone());
                    }
                }
                Step::Remove(id) => {
                    plain.candidates.retain(|other| other.id != id);
                    fleet.remove(&id);
                }
                Step::Close(model, close) => {
                    fleet.set_closed(&model, close);
                    if close { closed.insert(model) } else { closed.remove(&model) };
                }
                Step::Route { class, critical, avoid, refused } => {
                    let class = &classes[class];
                    let avoid: Vec<AgentId> = avoid.into_iter().collect();
                    let ask = Ask { demand: &class.demand, critical, avoid: &avoid };
                    // The specification knows no closed models: it admits nobody who would count for one.
                    let shut: BTreeSet<AgentId> = plain
                        .candidates
                        .iter()
                        .filter(|one| one.profile.model_for(ask.demand).is_some_and(|model| closed.contains(model)))
                        .map(|one| one.id.clone())
                        .collect();
                    let expected = plain.route(ask, &mut |id| !refused.contains(id) && !shut.contains(id));
                    prop_assert_eq!(fleet.route(ask, &mut |id| !refused.contains(id)), expected.clone());
                    fleet.prepare(class);
                    let indexed = fleet.route_class(class.id, ask, &mut |id| !refused.contains(id));
                    prop_assert_eq!(indexed, expected);
                }
            }
            prop_assert_eq!(fleet.len(), plain.candidates.len());
            let online = plain.candidates.iter().filter(|candidate| candidate.online).count();
            prop_assert_eq!(fleet.online(), online);
            for class in &classes {
                let capable = plain
                    .candidates
                    .iter()
                    .any(|candidate| candidate.online && candidate.profile.is_capable(&class.demand));
                prop_assert_eq!(fleet.any_capable(&class.demand), capable);
                let roomy = plain
                    .candidates
                    .iter()
                    .any(|candidate| candidate.has_room && candidate.profile.is_capable(&class.demand));
                prop_assert_eq!(fleet.capable_with_room(&class.demand).is_some(), roomy);
            }
        }
    }
}
