"""The task, for the python and rq runtimes."""


def fib(n):
    """The nth Fibonacci number."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
