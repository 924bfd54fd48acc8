//! The chronicle: the history of all tasks is gone through as it was committed, and must have been right at each step.

use std::collections::{BTreeMap, BTreeSet};

use adjutant_postgres_fixture::Database;

/// What is known of a task apart from its history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) dependencies: Vec<String>,
    pub(crate) locks: Vec<String>,
    pub(crate) project: Option<String>,
}

/// The most that may run at the same time, by scope: `agent:…`, `project:…`, `fleet`.
pub(crate) type Bounds = BTreeMap<String, usize>;

struct Chronicle<'a> {
    terms: &'a BTreeMap<String, Terms>,
    bounds: &'a Bounds,
    /// Tasks in progress, with their agents.
    open: BTreeMap<String, String>,
    running: BTreeMap<String, usize>,
    locked: BTreeMap<String, String>,
    last: BTreeMap<String, i64>,
    completed: BTreeSet<String>,
}

/// Goes through all events; gives the tasks that were completed.
pub(crate) fn check(
    database: &Database,
    terms: &BTreeMap<String, Terms>,
    bounds: &Bounds,
) -> BTreeSet<String> {
    let mut chronicle = Chronicle {
        terms,
        bounds,
        open: BTreeMap::new(),
        running: BTreeMap::new(),
        locked: BTreeMap::new(),
        last: BTreeMap::new(),
        completed: BTreeSet::new(),
    };
    let sql = "SELECT seq, kind, task_id, coalesce(agent, ''), coalesce(payload::jsonb ->> 'attempt', '0') FROM event \
               WHERE kind IN ('task_dispatched', 'task_claimed', 'task_completed', 'task_attempt_failed', \
               'task_released', 'task_cancelled') ORDER BY seq";
    for line in database.sql(sql).lines() {
        let [_, kind, task, agent, attempt] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        match kind {
            "task_dispatched" | "task_claimed" => {
                chronicle.starts(line, task, agent, attempt.parse().unwrap());
            }
            "task_completed" => {
                assert!(chronicle.completed.insert(task.to_owned()), "I10: {line}");
                chronicle.ends(task);
            }
            _ => chronicle.ends(task),
        }
    }
    assert!(
        chronicle.open.is_empty(),
        "still in progress: {:?}",
        chronicle.open
    );
    chronicle.completed
}

impl Chronicle<'_> {
    fn scopes(&self, task: &str, agent: &str) -> Vec<String> {
        let project = self.terms.get(task).and_then(|terms| terms.project.as_ref());
        ["fleet".to_owned(), format!("agent:{agent}")]
            .into_iter()
            .chain(project.map(|name| format!("project:{name}")))
            .collect()
    }

    fn starts(&mut self, line: &str, task: &str, agent: &str, attempt: i64) {
        assert!(!self.completed.contains(task), "I10, started again: {line}");
        let before = self.open.insert(task.to_owned(), agent.to_owned());
        assert_eq!(before, None, "I1, two at once: {line}");
        let last = self.last.insert(task.to_owned(), attempt).unwrap_or(0);
        assert_eq!(last + 1, attempt, "the attempts of a task are counted: {line}");
        if let Some(terms) = self.terms.get(task) {
            let unmet: Vec<_> = terms
                .dependencies
                .iter()
                .filter(|id| !self.completed.contains(*id))
                .collect();
            assert!(unmet.is_empty(), "I7, before {unmet:?}: {line}");
            for lock in &terms.locks {
                let holder = self.locked.insert(lock.clone(), task.to_owned());
                assert_eq!(holder, None, "I1, both hold {lock}: {line}");
            }
        }
        for scope in self.scopes(task, agent) {
            let running = self.running.entry(scope.clone()).or_default();
            *running += 1;
            if let Some(bound) = self.bounds.get(&scope) {
                assert!(*running <= *bound, "I2, {running} of {bound} in {scope}: {line}");
            }
        }
    }

    fn ends(&mut self, task: &str) {
        // A success may come after the attempt was lost.
        let Some(agent) = self.open.remove(task) else {
            return;
        };
        self.locked.retain(|_, holder| holder != task);
        for scope in self.scopes(task, &agent) {
            *self.running.get_mut(&scope).unwrap() -= 1;
        }
    }
}
