-- Version 1. A job is one row of `jobs`, written once, and one row in exactly one of the five
-- tables of state: `waiting`, `scheduled`, `running`, `finished`, `dead`. A transition deletes
-- one small row and inserts another, so that arguments are never written again.
-- Times are milliseconds since 1970 (UTC).

-- The source of handles and positions: numbers that never come back.
CREATE TABLE sequence (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO sequence VALUES (1, 0);

-- Queues by name, with the number of rows that `waiting` and `scheduled` hold for each.
CREATE TABLE queues (
    queue     INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    waiting   INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    scheduled INTEGER NOT NULL DEFAULT 0 CHECK (scheduled >= 0)
) STRICT;

CREATE TABLE jobs (
    handle        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    queue         INTEGER NOT NULL,
    task          TEXT NOT NULL,
    enqueued      INTEGER NOT NULL,
    timeout_ms    INTEGER,
    retries       INTEGER,
    result_ttl_ms INTEGER,
    unique_key    TEXT,
    payload       BLOB NOT NULL
) STRICT;

-- In its queue. The lowest position is next: positive at the back, negative at the front.
-- `since`: when it became ready; it grows with the distance of a position from zero.
-- `epoch`, here and below: claims so far.
CREATE TABLE waiting (
    queue    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    handle   INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    PRIMARY KEY (queue, position)
) STRICT, WITHOUT ROWID;

-- Due later.
CREATE TABLE scheduled (
    handle   INTEGER PRIMARY KEY,
    due      INTEGER NOT NULL,
    queue    INTEGER NOT NULL,
    at_front INTEGER NOT NULL,
    epoch    INTEGER NOT NULL
) STRICT;
CREATE INDEX scheduled_due ON scheduled (due);

-- Claimed under the lease of a session. `position` and `since` are those that it had in its
-- queue, to give it back. Small: as many rows as all supervisors hold jobs.
CREATE TABLE running (
    handle   INTEGER PRIMARY KEY,
    session  INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    queue    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    since    INTEGER NOT NULL
) STRICT;

-- Ended well; the result is kept until `expires`.
CREATE TABLE finished (
    handle  INTEGER PRIMARY KEY,
    ended   INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    result  BLOB NOT NULL
) STRICT;
CREATE INDEX finished_expires ON finished (expires);

-- Dead letters.
CREATE TABLE dead (
    handle INTEGER PRIMARY KEY,
    ended  INTEGER NOT NULL,
    epoch  INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_ended ON dead (ended);

-- What went wrong before; only for jobs with which something did. `error` is a JSON object.
CREATE TABLE attempts (
    handle   INTEGER PRIMARY KEY,
    failures INTEGER NOT NULL,
    losses   INTEGER NOT NULL,
    error    TEXT
) STRICT;

-- Unique keys of jobs that have not ended.
CREATE TABLE unique_keys (
    key    TEXT PRIMARY KEY,
    handle INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Leases: one row for each handle that holds claims, whatever their number. `bell`: inode of the
-- bell file on which the holder keeps byte `session` locked while it lives.
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    expires INTEGER NOT NULL,
    bell    INTEGER NOT NULL
) STRICT;
