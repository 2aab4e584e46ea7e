-- Version 9: when jobs that ended well began, and leases by a clock that nobody sets.

-- When its last run began; null: that is not known. It stands behind the result, which may be long: lists do not read it.
ALTER TABLE finished ADD COLUMN started INTEGER;

-- When the lease ends by CLOCK_MONOTONIC, in milliseconds: it holds for those who can see the lock of the holder, since they
-- run on the same boot of the same host. `expires`, by the clock of the wall, holds for all others. 0: not known.
ALTER TABLE sessions ADD COLUMN expires_monotonic INTEGER NOT NULL DEFAULT 0;
