-- Times are microseconds since 1970, money is nano-dollars. What no statement looks at is JSON in `state`.
-- `key` of a task is its arrival time and the lane of its server: the order of arrival is the order of the key.
-- Rows that change often are narrow, and texts are apart from them: an update writes a row anew.

CREATE TABLE meta (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);

-- Servers that use this database. The lane makes the keys of a server unique among those that live.
CREATE TABLE server (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane       smallint UNIQUE,
    version    integer NOT NULL,
    started_at bigint NOT NULL,
    turn       bigint NOT NULL DEFAULT 0,
    vouched_at bigint NOT NULL
) WITH (fillfactor = 50);

-- The number and the time of the last event: one row, whose lock puts commits into an order.
CREATE TABLE event_head (
    id  smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL,
    at  bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO event_head (id, seq, at) VALUES (1, 0, 0);

-- An entry of an index holds 2,704 bytes, and a list of labels may be longer: what stands in the index is the SHA-256 of
-- the text. Names, with their 200 characters of four bytes at most, fit.
CREATE TABLE class (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    demand text NOT NULL
);

-- Ids never change: apart from the rows that do, they cost an index entry once.
CREATE TABLE task_id (
    id   text PRIMARY KEY,
    task bigint NOT NULL
);

CREATE TABLE task (
    key        bigint PRIMARY KEY,
    id         text NOT NULL,
    class      bigint NOT NULL,
    priority   smallint NOT NULL,
    status     smallint NOT NULL,
    ready      boolean NOT NULL,
    gate       text NOT NULL,
    wakes_at   bigint,
    claimed_by text,
    project    text,
    state      text NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX task_ready ON task (class, gate, priority, key) WHERE ready;
CREATE INDEX task_pending ON task (priority, key) WHERE status = 0;
CREATE INDEX task_by_status ON task (status, key);
CREATE INDEX task_wakes ON task (wakes_at) WHERE wakes_at IS NOT NULL;
CREATE INDEX task_by_holder ON task (claimed_by, key) WHERE claimed_by IS NOT NULL;
CREATE INDEX task_by_project ON task (project, key) WHERE project IS NOT NULL;

CREATE TABLE body (
    task    bigint PRIMARY KEY,
    doc     text NOT NULL,
    payload text
);

CREATE TABLE ending (
    task bigint PRIMARY KEY,
    doc  text NOT NULL
);

CREATE TABLE note (
    task   bigint NOT NULL,
    number integer NOT NULL,
    doc    text NOT NULL,
    PRIMARY KEY (task, number)
);

CREATE TABLE output (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task bigint NOT NULL,
    size integer NOT NULL,
    doc  text NOT NULL
);
CREATE INDEX output_by_task ON output (task, id);

-- An attempt is changed once or twice, soon after it began, and no index holds what changes then: with room for it on the
-- page the index is left alone, and what is dead is cleared away by whoever comes by. `lapses_at` is `lingers_until` as long
-- as that may come.
CREATE TABLE attempt (
    task          bigint NOT NULL,
    number        bigint NOT NULL,
    agent         text NOT NULL,
    open          boolean NOT NULL,
    external      boolean NOT NULL,
    lingers_until bigint,
    lapses_at     bigint,
    state         text NOT NULL,
    PRIMARY KEY (task, number)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX attempt_lapses ON attempt (lapses_at) WHERE lapses_at IS NOT NULL;
CREATE INDEX attempt_external ON attempt (task) WHERE external;

CREATE TABLE line (
    task          bigint NOT NULL,
    number        bigint NOT NULL,
    index         integer NOT NULL,
    scope         text NOT NULL,
    hour          bigint NOT NULL,
    resets        bigint NOT NULL,
    model         text NOT NULL,
    jobs          bigint NOT NULL,
    tokens_in     bigint NOT NULL,
    tokens_out    bigint NOT NULL,
    tokens_cached bigint NOT NULL,
    cost          bigint NOT NULL,
    refunded      bigint NOT NULL,
    pull_requests bigint NOT NULL,
    issues        bigint NOT NULL,
    PRIMARY KEY (task, number, index)
) WITH (fillfactor = 85);

CREATE TABLE archive (
    scope         text NOT NULL,
    resets        bigint NOT NULL,
    hour          bigint NOT NULL,
    jobs          bigint NOT NULL,
    tokens_in     bigint NOT NULL,
    tokens_out    bigint NOT NULL,
    tokens_cached bigint NOT NULL,
    cost          bigint NOT NULL,
    refunded      bigint NOT NULL,
    pull_requests bigint NOT NULL,
    issues        bigint NOT NULL,
    PRIMARY KEY (scope, resets)
);

-- `home` is the server that hears an agent: that server vouches for it.
CREATE TABLE agent (
    id        text PRIMARY KEY,
    room      boolean NOT NULL,
    offline   boolean NOT NULL,
    last_seen bigint NOT NULL,
    home      bigint NOT NULL,
    state     text NOT NULL
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.1);

-- What is set and used for a scope. `guarded`: decisions hang on what is used, so that the row is locked for them.
CREATE TABLE scope (
    name    text PRIMARY KEY,
    guarded boolean NOT NULL,
    version bigint NOT NULL,
    policy  text,
    counter bigint[]
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.1);

-- `digest` is that of the labels.
CREATE TABLE experience (
    digest  bytea NOT NULL,
    model   text NOT NULL,
    labels  text NOT NULL,
    samples text NOT NULL,
    PRIMARY KEY (digest, model)
) WITH (fillfactor = 40);

-- Locks that are taken, and by which attempt.
CREATE TABLE lock (
    name   text PRIMARY KEY,
    task   bigint NOT NULL,
    number bigint NOT NULL
);

-- Parked tasks that want a lock.
CREATE TABLE want (
    lock     text NOT NULL,
    priority smallint NOT NULL,
    task     bigint NOT NULL,
    PRIMARY KEY (lock, priority, task)
);

CREATE TABLE edge (
    dependency bigint NOT NULL,
    dependent  bigint NOT NULL,
    state      smallint NOT NULL,
    PRIMARY KEY (dependency, dependent)
) WITH (fillfactor = 85);

CREATE TABLE replay (
    token  text NOT NULL,
    key    text NOT NULL,
    digest bytea NOT NULL,
    at     bigint NOT NULL,
    answer text NOT NULL,
    PRIMARY KEY (token, key)
);
CREATE INDEX replay_by_age ON replay (at);

-- Jobs that were dispatched elsewhere and are accounted for here.
CREATE TABLE job (
    id     text PRIMARY KEY,
    task   bigint NOT NULL,
    number bigint NOT NULL
);

CREATE TABLE token (
    name       text PRIMARY KEY,
    digest     bytea NOT NULL,
    roles      text NOT NULL,
    created_at bigint NOT NULL
);

-- `origin` is the server that wrote it.
CREATE TABLE event (
    seq     bigint PRIMARY KEY,
    kind    text NOT NULL,
    task    bigint,
    task_id text,
    agent   text,
    at      bigint NOT NULL,
    origin  bigint NOT NULL,
    payload text
);
CREATE INDEX event_by_task ON event (task, seq) WHERE task IS NOT NULL;
