"""The subtask of the peers: two seconds, then the square and when it was ready."""

import time


def square(n):
    time.sleep(2)
    return n * n, time.time()
