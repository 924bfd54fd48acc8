-- Places that are told of events; all but the name is JSON.
CREATE TABLE webhook (
    name     text PRIMARY KEY,
    document text NOT NULL
);

-- Events that were not delivered; `due_at` is null for a dead letter.
CREATE TABLE delivery (
    webhook  text NOT NULL,
    seq      bigint NOT NULL,
    attempts bigint NOT NULL,
    due_at   bigint,
    error    text NOT NULL,
    PRIMARY KEY (webhook, seq)
);
