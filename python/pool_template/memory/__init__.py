"""Cheap forks: `areas` reads the process's mappings, `arenas` keeps Python's memory in one piece, `huge_pages` collapses it."""
