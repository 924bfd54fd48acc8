//! Experience: what attempts of a kind used, by labels and model.

use std::collections::BTreeMap;
use std::sync::Arc;

use adjutant_core::experience::{Experience, Kind};
use adjutant_core::name::Label;

use crate::rows::{NAME, long_name};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    experiences_are_kept_apart_by_labels_and_model,
    a_changed_experience_takes_the_place_of_the_old_one,
    a_kind_of_which_nothing_is_known_is_not_given,
    experience_of_many_long_labels_is_kept,
];

fn kind(labels: &[&str], model: Option<&str>) -> Kind {
    Kind {
        labels: labels.iter().map(|label| Label::from(*label)).collect(),
        model: model.map(Into::into),
    }
}

fn of(samples: &[u64]) -> Experience {
    Experience {
        samples: samples.to_vec(),
    }
}

/// All of them, in whatever way the store gives them.
fn experiences(store: &mut dyn Subject) -> Vec<(Kind, Arc<Experience>)> {
    let mut experiences = store.census().experiences;
    experiences.sort_by_key(|(kind, _)| kind.clone());
    let mut rows = store.load(|wanted| {
        wanted.experiences = experiences.iter().map(|(kind, _)| kind.clone()).collect();
    });
    rows.experiences.sort_by_key(|(kind, _)| kind.clone());
    assert_eq!(
        rows.experiences, experiences,
        "a turn is given what a census says"
    );
    experiences
}

fn experiences_are_kept_apart_by_labels_and_model(store: &mut dyn Subject) {
    let mut all = vec![
        (kind(&[], None), of(&[])),
        (kind(&[], Some("m")), of(&[0, 1, u64::from(u32::MAX)])),
        (kind(&["a"], None), of(&[3])),
        (kind(&["a", "b"], None), of(&[5; 100])),
        (kind(&["a,b"], Some(NAME)), of(&[4])),
        (kind(&["\"quoted\""], Some("m")), of(&[6])),
    ];
    for (kind, experience) in &all {
        write().experience(kind, None, experience).commit(store);
    }
    all.sort_by_key(|(kind, _)| kind.clone());
    store.now_and_after_a_crash(|store| {
        let kept: Vec<_> = experiences(store)
            .into_iter()
            .map(|(kind, experience)| (kind, (*experience).clone()))
            .collect();
        assert_eq!(kept, all);
    });
}

fn a_changed_experience_takes_the_place_of_the_old_one(store: &mut dyn Subject) {
    let (kind, old, new) = (kind(&["a"], Some("m")), of(&[1]), of(&[1, 2]));
    write().experience(&kind, None, &old).commit(store);
    write().experience(&kind, Some(&old), &new).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(experiences(store), [(kind.clone(), Arc::new(new.clone()))]);
    });
}

fn a_kind_of_which_nothing_is_known_is_not_given(store: &mut dyn Subject) {
    write()
        .experience(&kind(&["a"], None), None, &of(&[1]))
        .commit(store);
    let rows = store.load(|wanted| {
        wanted.experiences = [kind(&["a"], Some("m")), kind(&["b"], None)].into();
    });
    assert_eq!(rows.experiences, []);
}

fn experience_of_many_long_labels_is_kept(store: &mut dyn Subject) {
    let kind = |model: u32| Kind {
        labels: (0..64).map(|seed| long_name(seed).into()).collect(),
        model: Some(long_name(model).as_str().into()),
    };
    write().experience(&kind(64), None, &of(&[1])).commit(store);
    write().experience(&kind(65), None, &of(&[2])).commit(store);
    write()
        .experience(&kind(64), Some(&of(&[1])), &of(&[1, 3]))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let kept: BTreeMap<Kind, Arc<Experience>> = experiences(store).into_iter().collect();
        let expected = [(kind(64), of(&[1, 3])), (kind(65), of(&[2]))];
        assert_eq!(kept, expected.map(|(kind, of)| (kind, Arc::new(of))).into());
    });
}
