//! The order of submission: what others depend on comes first, otherwise the order of the file stays.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use super::Item;
use crate::failure::{Failure, Outcome};

/// Sorts the items so that each comes after those of the list that it depends on.
///
/// Ids that the list does not have are left to the server, which may know them.
pub(super) fn by_dependency(file: &Path, items: Vec<Item>) -> Outcome<Vec<Item>> {
    let places: HashMap<&str, usize> = items
        .iter()
        .enumerate()
        .map(|(at, item)| (item.id(), at))
        .collect();
    let mut unmet = vec![0_usize; items.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (at, item) in items.iter().enumerate() {
        for dependency in &item.task.dependencies {
            if let Some(&place) = places.get(dependency.as_str()) {
                unmet[at] += 1;
                dependents[place].push(at);
            }
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..items.len())
        .filter(|at| unmet[*at] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for &dependent in &dependents[at] {
            unmet[dependent] -= 1;
            if unmet[dependent] == 0 {
                ready.push(Reverse(dependent));
            }
        }
    }
    if order.len() < items.len() {
        return Err(circle(file, &items, &places, &unmet));
    }
    let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| items[at].take()).collect())
}

/// Names the tasks of one circle, from its first in the file on.
fn circle(file: &Path, items: &[Item], places: &HashMap<&str, usize>, unmet: &[usize]) -> Failure {
    let next = |at: usize| {
        items[at]
            .task
            .dependencies
            .iter()
            .filter_map(|id| places.get(id.as_str()).copied())
            .find(|place| unmet[*place] > 0)
    };
    let mut path: Vec<usize> = Vec::new();
    let mut at = unmet.iter().position(|n| *n > 0);
    while let Some(here) = at {
        if let Some(start) = path.iter().position(|seen| *seen == here) {
            path.drain(..start);
            break;
        }
        path.push(here);
        at = next(here);
    }
    let first = path.iter().copied().min().unwrap_or_default();
    let names: Vec<&str> = path.iter().map(|at| items[*at].id()).collect();
    Failure::at(
        file,
        items[first].line,
        format!(
            "these tasks wait for each other in a circle: {}",
            names.join(", ")
        ),
    )
}
