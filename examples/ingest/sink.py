"""Events into PostgreSQL: each once, however often it is offered."""

import json
import os

import psycopg

SCHEMA = """
CREATE TABLE events (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    host text NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    context jsonb NOT NULL,
    arrival bigint GENERATED ALWAYS AS IDENTITY  -- counts what is offered, also of rows that are there already
);
-- What a table of log events is searched by.
CREATE INDEX events_by_host ON events (host, at);
CREATE INDEX events_by_words ON events USING gin (to_tsvector('english', message));
CREATE INDEX events_by_context ON events USING gin (context jsonb_path_ops);
"""

# A multi-row INSERT whose text is the same for every number of rows, so that a connection parses it once. The primary
# key makes it idempotent: what a killed worker had committed is passed over when its jobs run again.
_INSERT = """
INSERT INTO events (id, at, host, level, message, context)
SELECT id, at, host, level, message, context
FROM json_to_recordset(%s::json)
     AS new (id uuid, at timestamptz, host text, level text, message text, context jsonb)
ON CONFLICT (id) DO NOTHING
"""

_connection = None


def connect():
    """Opens this process's connection; the `after_fork` hook of the workers."""
    global _connection
    # One statement is one transaction.
    _connection = psycopg.connect(os.environ["INGEST_DSN"], autocommit=True)


def store(events):
    """Writes events in one transaction; they are on disk when it returns."""
    # Always in the order of their keys: two transactions with the same rows wait for each other, but never in a circle.
    events = sorted(events, key=lambda event: event["id"])
    _connection.execute(_INSERT, [json.dumps(events)], prepare=True)
