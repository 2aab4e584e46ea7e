"""Lines of JSON to ingest, the same ones for the same seed, and what a table that holds each of them once looks like."""

import hashlib
import json
import random
import uuid

_SEED = 20260301
_LEVELS = ["info", "info", "info", "warning", "error"]
_WORDS = (
    "address cache carrier cart checkout connection customer order parcel payment queue refund request session "
    'shipment stock timeout warehouse accepted closed expired failed opened refused retried Größe "urgent" 100%'
).split()

#: How many rows the table has, and a checksum of all that is in them.
CHECKSUM_SQL = """
SELECT count(*), md5(coalesce(string_agg(text, E'\\n' ORDER BY id), ''))
FROM events,
     concat_ws('|', id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), host, level, message,
               context->>'user', context->>'ms', context->>'path') AS text
"""


def make(count):
    """So many events of a shop's log."""
    chance = random.Random(_SEED)
    return [_event(chance, number) for number in range(count)]


def _event(chance, number):
    seconds, ms = divmod(number * 37, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return {
        "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "at": f"2026-03-01T{hour % 24:02}:{minute:02}:{second:02}.{ms:03}Z",
        "host": f"web-{chance.randrange(200):03}",
        "level": chance.choice(_LEVELS),
        "message": " ".join(chance.choice(_WORDS) for _ in range(12)),
        "context": {
            "user": chance.randrange(100_000),
            "ms": chance.randrange(900),
            "path": f"/orders/{chance.randrange(9_000)}",
        },
    }


def lines(events):
    """A line of JSON each."""
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


def checksum(events):
    """That of a table with each event exactly once and nothing else."""
    return hashlib.md5("\n".join(sorted(map(_text, events))).encode()).hexdigest()


def _text(event):
    fields = [*event.values()][:-1]  # all but the context
    return "|".join(map(str, [*fields, *event["context"].values()]))
