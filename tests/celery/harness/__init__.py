"""What the tests stand on: messages as Celery sends them, a worker of pool's Python template, and a stock one."""
