"""What RQ 2 does not have: names that are `None` there. The tests of them carry the mark `rq3`."""

try:
    from rq.command import send_stop_execution_command
    from rq.rate_limit import RateLimit, RateLimitRegistry
except ImportError:
    RateLimit = RateLimitRegistry = send_stop_execution_command = None

__all__ = ['RateLimit', 'RateLimitRegistry', 'send_stop_execution_command']
