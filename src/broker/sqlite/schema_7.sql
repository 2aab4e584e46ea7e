-- Version 7: jobs that expire, and limits of how many jobs of a key run at once.

-- A job that has not begun by `begin_by` never runs. At most `limit_max` jobs of `limit_key` are claimed at once.
ALTER TABLE jobs ADD COLUMN begin_by INTEGER;
ALTER TABLE jobs ADD COLUMN limit_key TEXT;
ALTER TABLE jobs ADD COLUMN limit_max INTEGER;

-- Jobs that expire, by time. A row stays until its time, also when its job has begun or ended before.
CREATE TABLE expiring (
    begin_by INTEGER NOT NULL,
    handle   INTEGER NOT NULL,
    PRIMARY KEY (begin_by, handle)
) STRICT, WITHOUT ROWID;

-- The limit that a claim counts for; null for a job without one.
ALTER TABLE running ADD COLUMN limit_key TEXT;
CREATE INDEX running_limit ON running (limit_key) WHERE limit_key NOTNULL;

-- A seventh table of state: a claim found as many jobs of its key running as may be. It is in no queue until one of
-- them ends, and then returns to its position there.
CREATE TABLE blocked (
    limit_key TEXT NOT NULL,
    queue     INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    handle    INTEGER NOT NULL,
    since     INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    PRIMARY KEY (limit_key, queue, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX blocked_handle ON blocked (handle);
CREATE INDEX blocked_queue ON blocked (queue, position);
