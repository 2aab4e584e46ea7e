-- Version 5: runs that did not succeed.

-- A JSON array of objects, the newest last: see `Attempt` in `src/job/view.rs`. It is bounded. Only a run that did not
-- succeed writes it.
ALTER TABLE attempts ADD COLUMN history TEXT;
