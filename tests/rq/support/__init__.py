"""What the tests stand on: a Redis server, the worker under test, waiting, reading the state left behind."""
