-- Times are microseconds since 1970, money is nano-dollars, lists are JSON.
-- `key` of a task is its arrival time: the order of arrival is the order of the primary key.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE class (
    id     INTEGER PRIMARY KEY,
    demand TEXT NOT NULL UNIQUE
);

CREATE TABLE task (
    key                 INTEGER PRIMARY KEY,
    id                  TEXT NOT NULL UNIQUE,
    class               INTEGER NOT NULL,
    priority            INTEGER NOT NULL,
    status              INTEGER NOT NULL,
    held                INTEGER NOT NULL,
    gate                TEXT NOT NULL,
    delayed_until       INTEGER,
    wakes_at            INTEGER,
    claimed_by          TEXT,
    project             TEXT,
    repo                TEXT,
    produces            INTEGER,
    locks               TEXT,
    estimated_tokens    INTEGER NOT NULL,
    timeout             INTEGER,
    not_before          INTEGER,
    max_retries         INTEGER NOT NULL,
    retry_count         INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    dependencies        INTEGER NOT NULL,
    unmet               INTEGER NOT NULL,
    failed_dependencies INTEGER NOT NULL,
    dependents          INTEGER NOT NULL,
    claimed_at          INTEGER,
    lease_expires_at    INTEGER,
    deadline            INTEGER,
    last_attempt        INTEGER,
    failed_on           TEXT,
    progress            INTEGER NOT NULL,
    notes               INTEGER NOT NULL,
    has_result          INTEGER NOT NULL,
    refusal_told        INTEGER NOT NULL,
    used                TEXT,
    ready_since         INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    fanout              TEXT
);
CREATE INDEX task_by_status ON task (status, key);
CREATE INDEX task_pending ON task (priority, key) WHERE status = 0;
CREATE INDEX task_ready ON task (class, gate, priority, key) WHERE status = 0 AND delayed_until IS NULL;
CREATE INDEX task_wakes ON task (wakes_at) WHERE wakes_at IS NOT NULL;
CREATE INDEX task_by_holder ON task (claimed_by, key) WHERE claimed_by IS NOT NULL;
CREATE INDEX task_by_project ON task (project, key) WHERE project IS NOT NULL;

CREATE TABLE body (
    task         INTEGER PRIMARY KEY,
    title        TEXT NOT NULL,
    description  TEXT NOT NULL,
    payload      TEXT,
    files        TEXT,
    dependencies TEXT
);

CREATE TABLE ending (
    task        INTEGER PRIMARY KEY,
    result      TEXT,
    fail_reason TEXT
);

CREATE TABLE note (
    task   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    author TEXT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;

CREATE TABLE output (
    id   INTEGER PRIMARY KEY,
    task INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX output_by_task ON output (task, id);

CREATE TABLE attempt (
    task          INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    task_id       TEXT NOT NULL,
    external      INTEGER NOT NULL,
    agent         TEXT NOT NULL,
    registered    INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    occupies      INTEGER NOT NULL,
    model         TEXT,
    project       TEXT,
    repo          TEXT,
    produces      INTEGER,
    locks         TEXT,
    started_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    timeout       INTEGER,
    hold_tokens   INTEGER NOT NULL,
    hold_cost     INTEGER NOT NULL,
    used          TEXT,
    stop          INTEGER,
    lingers_until INTEGER,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE INDEX attempt_open ON attempt (agent) WHERE state < 2 OR occupies = 1;

CREATE TABLE line (
    task          INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    scope         TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    resets        INTEGER NOT NULL,
    model         TEXT NOT NULL,
    jobs          INTEGER NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    refunded      INTEGER NOT NULL,
    pull_requests INTEGER NOT NULL,
    issues        INTEGER NOT NULL,
    PRIMARY KEY (task, number, scope, hour, resets, model)
) WITHOUT ROWID;

CREATE TABLE agent (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    capabilities      TEXT NOT NULL,
    models            TEXT NOT NULL,
    max_load          INTEGER NOT NULL,
    metadata          TEXT,
    registered_at     INTEGER NOT NULL,
    session           TEXT,
    offline           INTEGER NOT NULL,
    draining          INTEGER NOT NULL,
    paused_until      INTEGER,
    paused_models     TEXT NOT NULL,
    quarantined_until INTEGER,
    quarantines       INTEGER NOT NULL,
    fast_failures     TEXT NOT NULL,
    last_seen         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE policy (
    scope           TEXT PRIMARY KEY,
    limits          TEXT NOT NULL,
    model_allowlist TEXT NOT NULL,
    max_duration    INTEGER,
    prices          TEXT NOT NULL,
    cooldown        INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE counter (
    scope              TEXT PRIMARY KEY,
    resets             INTEGER NOT NULL,
    tallies            BLOB NOT NULL,
    held_tokens        INTEGER NOT NULL,
    held_cost          INTEGER NOT NULL,
    held_pull_requests INTEGER NOT NULL,
    held_issues        INTEGER NOT NULL,
    active             INTEGER NOT NULL,
    cooldown_until     INTEGER NOT NULL
) WITHOUT ROWID;

-- Locks that are taken, and by which attempt.
CREATE TABLE lock (
    name   TEXT PRIMARY KEY,
    task   INTEGER NOT NULL,
    number INTEGER NOT NULL
) WITHOUT ROWID;

-- Parked tasks that want a lock.
CREATE TABLE want (
    lock     TEXT NOT NULL,
    priority INTEGER NOT NULL,
    task     INTEGER NOT NULL,
    PRIMARY KEY (lock, priority, task)
) WITHOUT ROWID;

CREATE TABLE edge (
    dependency INTEGER NOT NULL,
    dependent  INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    PRIMARY KEY (dependency, dependent)
) WITHOUT ROWID;

CREATE TABLE replay (
    token  TEXT NOT NULL,
    key    TEXT NOT NULL,
    digest BLOB NOT NULL,
    at     INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (token, key)
) WITHOUT ROWID;
CREATE INDEX replay_by_age ON replay (at);

-- Jobs that were dispatched elsewhere and are accounted for here.
CREATE TABLE job (
    id     TEXT PRIMARY KEY,
    task   INTEGER NOT NULL,
    number INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE token (
    name       TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,
    roles      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE event (
    seq     INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    task    INTEGER,
    task_id TEXT,
    agent   TEXT,
    at      INTEGER NOT NULL,
    payload TEXT
);
CREATE INDEX event_by_task ON event (task, seq) WHERE task IS NOT NULL;
