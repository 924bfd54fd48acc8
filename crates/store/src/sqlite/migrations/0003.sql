-- What the latest finished attempts of a kind used: a kind is labels (JSON, sorted) and a model, empty for none.
CREATE TABLE experience (
    labels  TEXT NOT NULL,
    model   TEXT NOT NULL,
    samples TEXT NOT NULL,
    PRIMARY KEY (labels, model)
) WITHOUT ROWID;
