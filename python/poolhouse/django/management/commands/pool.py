"""`manage.py pool`: runs the workers of Django's tasks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from typing import Any, Dict, List

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, handle_default_options

from poolhouse.django.backend import PoolBackend
from poolhouse.django.command import command_of, queue_flags
from poolhouse.django.options import in_lines
from poolhouse.django.tasks import task_backends
from poolhouse.program import find_program

_PRINT = "--print-config"
_NO_CLASS = "no BACKEND"


class Command(BaseCommand):  # type: ignore[misc]
    """Replaces this process by the program `pool`."""

    help = (
        "Runs the workers of Django's tasks, with this project's settings. What is not listed here is handed on to the "
        "program, as `pool run --help` lists it: manage.py pool --max-workers 8"
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Its own; see `run_from_argv` for the others."""
        parser.add_argument("--backend", default="default", help="which of TASKS (default: default)")

    def run_from_argv(self, argv: List[str]) -> None:
        """Splits Django's options from those of the program."""
        self._called_from_command_line = True  # then wrong usage is told, and not raised
        # Not by their first letters: the program has a `--python`, and Django a `--pythonpath`.
        parser = self.create_parser(argv[0], argv[1], allow_abbrev=False)
        options, flags = parser.parse_known_args(argv[2:])
        handle_default_options(options)
        try:
            self.handle(flags=flags, **vars(options))
        except CommandError as error:
            if options.traceback:
                raise
            self.stderr.write(f"error: {error}")
            sys.exit(error.returncode)

    def handle(self, *args: Any, backend: str = "default", flags: Any = (), **options: Any) -> None:
        """Does not return."""
        found = _backend(backend)
        program = find_program()
        if program is None:
            raise CommandError(
                "the program `pool` is neither beside this Python nor on PATH: install the wheel of poolhouse, which has it"
            )
        environment: Dict[str, str] = {**os.environ, "DJANGO_SETTINGS_MODULE": str(settings.SETTINGS_MODULE)}
        if found.broker_url is not None:
            environment["POOL_BROKER"] = found.broker_url  # not a flag: it may hold a password
        names = [config.name for config in apps.get_app_configs()]
        command = [program, *command_of(sys.executable, os.getcwd(), found.broker_url, names, flags)]
        if not _says_queues(command, environment):
            command += queue_flags(found.queues)
        os.execve(program, command, environment)


def _backend(alias: str) -> PoolBackend:
    """The backend of this alias, if it is a pool's and its settings are right."""
    entries = {name: _class_of(entry) for name, entry in task_backends.settings.items()}
    there_are = ", ".join(f"{name} ({entry})" for name, entry in entries.items())
    if alias not in entries:
        raise CommandError(f"there is no TASKS[{alias!r}]; choose with --backend: {there_are}")
    try:
        found = task_backends[alias] if entries[alias] != _NO_CLASS else None
    except ImproperlyConfigured as error:
        raise CommandError(f"TASKS[{alias!r}]: {error}") from error
    if not isinstance(found, PoolBackend):
        raise CommandError(f"TASKS[{alias!r}] is not poolhouse.django.PoolBackend; choose with --backend: {there_are}")
    errors = [error for error in found.check() if error.is_serious() and not error.is_silenced()]
    if errors:
        raise CommandError(in_lines(errors))
    return found


def _class_of(entry: Any) -> str:
    """What an entry of `TASKS` names."""
    return str(entry.get("BACKEND", _NO_CLASS)) if isinstance(entry, dict) else _NO_CLASS


def _says_queues(command: List[str], environment: Dict[str, str]) -> bool:
    """Whether flags, variables or the configuration file say which queues are served: then the backend does not."""
    ask = [*(word for word in command if word != _PRINT), _PRINT]
    # What is wrong is told by the program itself, once it is started for good.
    settings = subprocess.run(ask, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return bool(re.search(r"^queues = ", settings, re.MULTILINE)) or settings.count("[pools.") > 1
