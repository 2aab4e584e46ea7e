-- Version 8: how far a running job says that it is.

-- A JSON object, see `Progress` in `src/job/progress.rs`. Only a job that says so writes it; it goes with the row.
ALTER TABLE running ADD COLUMN progress TEXT;
