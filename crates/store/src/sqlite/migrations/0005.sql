-- Places that are told of events; all but the name is JSON.
CREATE TABLE webhook (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
) WITHOUT ROWID;

-- Events that were not delivered; `due_at` is null for a dead letter.
CREATE TABLE delivery (
    webhook  TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_at   INTEGER,
    error    TEXT NOT NULL,
    PRIMARY KEY (webhook, seq)
) WITHOUT ROWID;
