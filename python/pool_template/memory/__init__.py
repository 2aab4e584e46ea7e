"""Cheap forks: `areas` reads the process's mappings, `arenas` keeps Python's memory in one piece, `heap`, `immortal` and `huge_pages` make it ready for forks."""
