-- Version 3: what is known of a claim beyond that it is held.

-- Its job has begun some time ago: if the holder dies, that counts as a loss.
ALTER TABLE running ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
-- Somebody has called the job off: 1: it is not to begin; 2: nor to run on.
ALTER TABLE running ADD COLUMN stop INTEGER NOT NULL DEFAULT 0;
CREATE INDEX running_stop ON running (session) WHERE stop > 0;
