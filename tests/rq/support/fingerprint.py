"""All that Redis holds, with what differs from run to run masked: a state to compare field by field.

Kept: every key, its type, its time to live, every field, member, score and stream entry, and how each is
encoded. Masked: ids made at random, process ids, addresses, and the frames of a traceback outside the
application. Points of time become their distance from now, to within `near.SLACK`.
"""

import re
import time
import zlib
from base64 import b64decode
from datetime import datetime, timezone

from support.near import near

ISO = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z')
UNIX = re.compile(r'\d{10}(\.\d+)?')
RANDOM_ID = re.compile(r'[0-9a-f]{32}')
ADDRESS = re.compile(r'127\.0\.0\.1:\d+|')
MOMENT = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00')


def fingerprint(redis):
    """The state of `redis`, masked."""
    now = time.time()
    state = {}
    for key in redis.scan_iter(count=1000):
        kind = redis.type(key).decode()
        ttl = redis.ttl(key)
        state[named(key)] = {
            'type': kind,
            'ttl': None if ttl < 0 else near(ttl),
            'value': READERS[kind](redis, key, now),
        }
    return state


def differences(one, other, path=''):
    """Where two states differ, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            below = f'{path} {key}'
            if key not in other:
                yield f'{below}: only in the first: {one[key]!r}'
            elif key not in one:
                yield f'{below}: only in the second: {other[key]!r}'
            else:
                yield from differences(one[key], other[key], below)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for position, (left, right) in enumerate(zip(one, other)):
            yield from differences(left, right, f'{path} [{position}]')
    elif one != other:
        yield f'{path}: {one!r} in the first, {other!r} in the second'


def named(raw):
    return RANDOM_ID.sub('<id>', raw.decode(errors='backslashreplace'))


def read_hash(redis, key, now):
    return {field.decode(): value_of(field.decode(), raw, now) for field, raw in redis.hgetall(key).items()}


def read_zset(redis, key, now):
    members = redis.zrange(key, 0, -1, withscores=True)
    return {named(member): moment(f'{score:g}' if score < 1e9 else repr(score), now) for member, score in members}


def read_stream(redis, key, now):
    return [
        {
            'id': near(int(entry.split(b'-')[0]) / 1000 - now),
            **{field.decode(): value_of(field.decode(), raw, now) for field, raw in fields.items()},
        }
        for entry, fields in redis.xrange(key)
    ]


READERS = {
    'string': lambda redis, key, now: moment(named(redis.get(key)), now),
    'list': lambda redis, key, now: [named(element) for element in redis.lrange(key, 0, -1)],
    'set': lambda redis, key, now: sorted(named(member) for member in redis.smembers(key)),
    'hash': read_hash,
    'zset': read_zset,
    'stream': read_stream,
}


def value_of(field, raw, now):
    """One field of a hash or stream entry, masked by what the field means."""
    if field in ('data', 'meta', 'return_value'):
        return unpacked(raw)
    if field in ('exc_info', 'exc_string'):
        return [encoding(raw), *traceback_of(unpacked(raw)[-1])]
    text = named(raw)
    if field == 'pid':
        return '<pid>' if text.isdigit() else text
    if field == 'ip_address':
        return '<address>' if ADDRESS.fullmatch(text) else text
    if field == 'total_working_time':
        return ['float', near(float(text))]
    return moment(text, now)


def moment(text, now):
    """A point of time as its distance from now, together with how it is written."""
    if ISO.fullmatch(text):
        then = datetime.strptime(text, '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=timezone.utc)
        return ['iso', near(then.timestamp() - now)]
    if UNIX.fullmatch(text):
        # As it is written: a fraction may happen to be zero.
        whole = '.' not in text or text.endswith('.0')
        return ['unix second' if whole else 'unix second with fraction', near(float(text) - now)]
    return text


def encoding(raw):
    return unpacked(raw)[:-1]


def unpacked(raw):
    """`['base64', 'zlib', bytes]`: how a value is packed, and the value."""
    if raw[:1] == b'\x78':
        return ['zlib', zlib.decompress(raw)]
    if re.fullmatch(rb'[A-Za-z0-9+/]{4,}={0,2}', raw):
        return ['base64', *unpacked(b64decode(raw))]
    return [raw]


def traceback_of(raw):
    """The lines of a traceback that the application answers for."""
    lines, ours = [], True
    for line in raw.decode().splitlines():
        if line.startswith('  File '):
            ours = '/app/' in line
        elif not line.startswith('    '):
            ours = True
        if ours:
            lines.append(MOMENT.sub('<moment>', RANDOM_ID.sub('<id>', line)))
    return lines
