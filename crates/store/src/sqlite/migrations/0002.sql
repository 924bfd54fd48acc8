-- What the ledger lines of forgotten tasks come to, by scope and reset, so that totals stay sums.
-- `hour` is that of the latest line among them: periods up to it are closed.
CREATE TABLE archive (
    scope         TEXT NOT NULL,
    resets        INTEGER NOT NULL,
    hour          INTEGER NOT NULL,
    jobs          INTEGER NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    refunded      INTEGER NOT NULL,
    pull_requests INTEGER NOT NULL,
    issues        INTEGER NOT NULL,
    PRIMARY KEY (scope, resets)
) WITHOUT ROWID;

-- Jobs that were dispatched elsewhere have no row among the tasks: so they are found in the order of arrival.
CREATE INDEX attempt_external ON attempt (task) WHERE external = 1;
