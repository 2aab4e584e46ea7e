"""What an application logs goes out as marked records, by whatever handler writes to standard output or error."""

from __future__ import annotations

import json
import unittest
from typing import Any

from supervisor import Template

MARK = "\x1e"


def records(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line[1:]) for line in printed.split("\n") if line.startswith(MARK)]


class LogRecords(unittest.TestCase):
    def printed(self, app: str, **values: Any) -> str:
        """What a worker printed on standard error until it ended."""
        with Template({"app.py": app}) as template:
            worker = template.ready("app", **values).worker()
            worker.call("app.run", [])
            worker.hang_up()
            self.assertEqual(template.status_of(worker), 0)
            return worker.stderr.all()

    def test_without_any_handler_warnings_are_marked(self) -> None:
        app = (
            "import logging\n"
            "def run():\n"
            "    logging.getLogger('shop').info('not seen')\n"
            "    logging.getLogger('shop').warning('two\\nlines %s', 'ü')\n"
        )
        expected = [{"level": "warn", "logger": "shop", "message": "two\nlines ü"}]
        self.assertEqual(records(self.printed(app)), expected)

    def test_a_handler_keeps_its_format(self) -> None:
        app = (
            "import logging\n"
            "logging.basicConfig(level=5, format='<%(name)s> %(message)s')\n"
            "def run():\n"
            "    log = logging.getLogger('a.b')\n"
            "    for level in (5, 20, 35, 50): log.log(level, 'at %d', level)\n"
        )
        found = records(self.printed(app))
        self.assertEqual([each["level"] for each in found], ["debug", "info", "warn", "error"])
        self.assertEqual(found[0]["message"], "<a.b> at 5")

    def test_a_handler_of_an_after_fork_hook_is_marked_once(self) -> None:
        app = (
            "import logging\n"
            "def hook(): logging.getLogger('x').addHandler(logging.StreamHandler())\n"
            "def run(): logging.getLogger('x').error('here')\n"
        )
        printed = self.printed(app, after_fork=["app.hook"])
        self.assertEqual(records(printed), [{"level": "error", "logger": "x", "message": "here"}])

    def test_a_file_and_a_handler_of_its_own_kind_are_left_alone(self) -> None:
        app = (
            "import logging, sys\n"
            "class Own(logging.StreamHandler):\n"
            "    def emit(self, record): print('own', record.getMessage(), file=sys.stderr)\n"
            "logging.getLogger('x').addHandler(Own())\n"
            "logging.getLogger('x').addHandler(logging.FileHandler('log.txt'))\n"
            "def run():\n"
            "    logging.getLogger('x').error('here')\n"
            "    print(open('log.txt').read(), file=sys.stderr)\n"
        )
        self.assertEqual(self.printed(app).split(), ["own", "here", "here"])

    def test_a_long_message_is_cut_in_its_middle_and_stays_one_line(self) -> None:
        app = (
            "import logging\n"
            "def run(): logging.getLogger('x').error('begin' + 'ü' * 100_000 + 'end')\n"
        )
        (found,) = records(self.printed(app))
        self.assertTrue(found["message"].startswith("begin"))
        self.assertTrue(found["message"].endswith("end"))
        self.assertLess(len(json.dumps(found)), 16_384)

    def test_a_record_that_can_not_be_formatted_is_told_as_ever(self) -> None:
        app = "import logging\ndef run(): logging.getLogger('x').error('%d', 'no number')\n"
        self.assertIn("--- Logging error ---", self.printed(app))
