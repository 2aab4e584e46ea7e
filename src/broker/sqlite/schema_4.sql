-- Version 4: jobs that take their supervisor down before anybody notes that they have begun.

-- How often the claim came back from a supervisor that was no more and had not noted that the job had begun.
ALTER TABLE attempts ADD COLUMN returned INTEGER NOT NULL DEFAULT 0;
-- Jobs that are taken alone: see `RETURNS_ALONE`.
CREATE INDEX attempts_returned ON attempts (handle) WHERE returned > 1;
