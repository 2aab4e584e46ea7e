-- Version 9: when jobs that ended well began.

-- When its last run began; null: that is not known. It stands behind the result, which may be long: lists do not read it.
ALTER TABLE finished ADD COLUMN started INTEGER;
