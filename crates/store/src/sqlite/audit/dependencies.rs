//! Dependencies: I7, and that what tasks count is what their edges say.

use rusqlite::Connection;

use super::Audit;

const DEPENDENCIES: &str = "I7 dependencies";

const STARTED_EARLY: &str = "SELECT 'task ' || id || ' is ' || CASE status WHEN 0 THEN 'pending' ELSE 'in progress' END \
    || ' with ' || unmet || ' dependencies that are not completed' FROM task WHERE status IN (0, 2) AND unmet > 0";

/// Dependents find their dependencies by no index: their edges are counted once and looked up.
const MISCOUNTED: &str = "WITH counted AS MATERIALIZED \
    (SELECT dependent, sum(state <> 1) AS unmet, sum(state = 2) AS failed FROM edge GROUP BY dependent) \
    SELECT 'task ' || task.id || ' counts ' || task.unmet || ' open and ' || task.failed_dependencies \
    || ' failed dependencies, and has ' || coalesce(counted.unmet, 0) || ' and ' || coalesce(counted.failed, 0) \
    FROM task LEFT JOIN counted ON counted.dependent = task.key \
    WHERE task.unmet <> coalesce(counted.unmet, 0) OR task.failed_dependencies <> coalesce(counted.failed, 0)";

/// Edges whose state is not that of the dependency, though its dependents have all been told.
const MISTOLD: &str = "SELECT 'task with key ' || edge.dependent || ' takes its dependency ' || task.id || ' for ' \
    || CASE edge.state WHEN 0 THEN 'waiting' WHEN 1 THEN 'met' ELSE 'failed' END || ', and it is ' \
    || CASE task.status WHEN 0 THEN 'pending' WHEN 1 THEN 'blocked' WHEN 2 THEN 'in progress' WHEN 3 THEN 'completed' \
    WHEN 4 THEN 'failed' ELSE 'cancelled' END \
    FROM edge JOIN task ON task.key = edge.dependency WHERE task.fanout IS NULL \
    AND edge.state <> CASE task.status WHEN 3 THEN 1 WHEN 4 THEN 2 WHEN 5 THEN 2 ELSE 0 END";

const UNCOUNTED_DEPENDENTS: &str = "SELECT 'task ' || task.id || ' counts ' || task.dependents || ' dependents, and has ' \
    || counted.dependents FROM \
    (SELECT dependency, count(*) AS dependents FROM edge GROUP BY dependency) AS counted \
    JOIN task ON task.key = counted.dependency WHERE task.dependents < counted.dependents";

impl Audit {
    pub(super) fn dependencies(&mut self, db: &Connection) {
        for sql in [STARTED_EARLY, MISCOUNTED, MISTOLD, UNCOUNTED_DEPENDENTS] {
            self.each(db, DEPENDENCIES, sql);
        }
    }
}
