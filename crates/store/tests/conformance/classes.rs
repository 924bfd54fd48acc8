//! Classes: a demand has one number, for ever.

use std::sync::Arc;

use adjutant_core::set::rows::Wanted;
use adjutant_core::task::{Class, ClassId, Demand};

use crate::rows::{NAME, long_name, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    the_same_demand_always_has_the_same_class,
    different_demands_have_different_classes,
    one_turn_asks_for_many_classes,
    a_class_is_found_by_its_number,
    a_class_that_does_not_exist_is_not_given,
    a_census_brings_all_classes,
    a_demand_of_many_long_labels_is_kept,
];

fn demands() -> Vec<Demand> {
    let demand = |labels: &[&str], prefers: &[&str], model: Option<&str>| Demand {
        labels: labels.iter().map(|label| (*label).into()).collect(),
        prefers: prefers.iter().map(|label| (*label).into()).collect(),
        model: model.map(Into::into),
    };
    vec![
        demand(&[], &[], None),
        demand(&["a"], &[], None),
        demand(&[], &["a"], None),
        demand(&[], &[], Some("a")),
        demand(&["a", "b"], &[], None),
        demand(&["a,b"], &[], None),
        demand(&["A"], &[], None),
        demand(&[NAME], &[NAME], Some(NAME)),
    ]
}

fn classes(store: &mut dyn Subject) -> Vec<Arc<Class>> {
    demands().iter().map(|demand| store.class_of(demand)).collect()
}

fn the_same_demand_always_has_the_same_class(store: &mut dyn Subject) {
    let first = classes(store);
    for (class, demand) in first.iter().zip(demands()) {
        assert_eq!(class.demand, demand);
    }
    store.now_and_after_a_crash(|store| assert_eq!(classes(store), first));
}

fn different_demands_have_different_classes(store: &mut dyn Subject) {
    let mut ids: Vec<i64> = classes(store).iter().map(|class| class.id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), demands().len());
}

fn one_turn_asks_for_many_classes(store: &mut dyn Subject) {
    let known = store.class_of(&demands()[3]);
    let rows = store.load(|wanted| wanted.demands = demands());
    assert_eq!(rows.classes.len(), demands().len());
    for demand in demands() {
        assert!(
            rows.classes.iter().any(|class| class.demand == demand),
            "{demand:?}"
        );
    }
    assert!(rows.classes.contains(&known));
}

fn a_class_is_found_by_its_number(store: &mut dyn Subject) {
    for class in classes(store) {
        // Only a class that a task is of has to outlive the turn that asked for it.
        write().task(&task(class.id.0, &class)).commit(store);
        store.now_and_after_a_crash(|store| {
            let rows = store.load(|wanted| {
                wanted.classes.insert(class.id);
            });
            assert_eq!(rows.classes.as_slice(), [Arc::clone(&class)]);
        });
    }
}

fn a_class_that_does_not_exist_is_not_given(store: &mut dyn Subject) {
    let known = store.class(&["rust"]);
    let wanted = Wanted {
        classes: [known.id, ClassId(known.id.0 + 1)].into(),
        ..Wanted::default()
    };
    let rows = store
        .store()
        .load(&wanted)
        .expect("what is not there is no error");
    assert_eq!(rows.classes, [known]);
}

fn a_census_brings_all_classes(store: &mut dyn Subject) {
    let made = classes(store);
    for class in &made {
        write().task(&task(class.id.0, class)).commit(store);
    }
    store.now_and_after_a_crash(|store| {
        let mut given = store.census().classes;
        given.sort_by_key(|class| class.id.0);
        let mut expected = made.clone();
        expected.sort_by_key(|class| class.id.0);
        assert_eq!(given, expected);
    });
}

/// What is stored of it is far longer than what fits into an index.
fn a_demand_of_many_long_labels_is_kept(store: &mut dyn Subject) {
    let labels = |from: u32| (from..from + 64).map(|seed| long_name(seed).into()).collect();
    let demand = |model: u32| Demand {
        labels: labels(0),
        prefers: labels(64),
        model: Some(long_name(model).into()),
    };
    let (first, second) = (store.class_of(&demand(128)), store.class_of(&demand(129)));
    assert_ne!(first.id, second.id);
    write().task(&task(1, &first)).commit(store);
    write().task(&task(2, &second)).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(store.class_of(&demand(128)), first);
        assert_eq!(store.class_of(&demand(129)), second);
    });
}
