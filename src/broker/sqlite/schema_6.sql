-- Version 6: schedules.

-- `mark`: the last due time that was handled, or since when the schedule is known; a due time up to it is never handled again.
-- `rule`: when it is due, as text; another text is another rule. `job`: the handle of the job that it made last, and `fired`
-- when. `held`: a due time that waits for that job to end.
CREATE TABLE schedules (
    name   TEXT PRIMARY KEY,
    rule   TEXT NOT NULL,
    mark   INTEGER NOT NULL,
    job    INTEGER,
    fired  INTEGER,
    held   INTEGER,
    paused INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
