-- Version 2: groups and chains. A sixth table of state, `deferred`, and what ties jobs to others:
-- two columns that are null for a plain job.

-- The group that counts it; the job that gets its result.
ALTER TABLE jobs ADD COLUMN grp INTEGER;
ALTER TABLE jobs ADD COLUMN next INTEGER;
CREATE INDEX jobs_grp ON jobs (grp) WHERE grp NOTNULL;

-- Waits for another job, or for the members of a group; in no queue yet.
CREATE TABLE deferred (
    handle INTEGER PRIMARY KEY
) STRICT;

-- `finished` and `failed` count members that have ended, until `ended`. The callbacks are handles of
-- deferred jobs, null once they were let go. From `ended` to `expires` the results of the members are kept.
CREATE TABLE groups (
    grp        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    total      INTEGER NOT NULL,
    finished   INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    created    INTEGER NOT NULL,
    ended      INTEGER,
    expires    INTEGER,
    on_done    INTEGER,
    on_failure INTEGER,
    CHECK (finished >= 0 AND failed >= 0 AND finished + failed <= total)
) STRICT;
CREATE INDEX groups_expires ON groups (expires) WHERE expires NOTNULL;
