"""The example in `docs/protocol.md` is what happens."""

from __future__ import annotations

import json
import re
import unittest
from pathlib import Path

from supervisor import PACKET_LEN_MAX, Template

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def frame(name: str) -> list[str]:
    """The bytes of a frame in the example, in hexadecimal; `??`: any."""
    found = re.search(rf"^{name}((?:\s+(?:[0-9a-f]{{2}}|\?\?)(?=\s))+)", TEXT, re.MULTILINE)
    assert found, name
    return found.group(1).split()


def message(kind: str) -> dict[str, object]:
    """A control message of the example."""
    found = re.search(rf'^C: . (\{{"type":"{kind}".*?\}})(?:\s|$)', TEXT, re.MULTILINE)
    assert found, kind
    return json.loads(found.group(1))


class Protocol(unittest.TestCase):
    def assert_matches(self, packet: bytes, documented: list[str]) -> None:
        shown = [f"{byte:02x}" for byte in packet]
        self.assertEqual(len(shown), len(documented), shown)
        differing = [(a, b) for a, b in zip(shown, documented) if b != "??" and a != b]
        self.assertEqual(differing, [], shown)

    def test_the_example_happens_as_documented(self) -> None:
        with Template({"app.py": "def add(a, b): return a + b\n"}) as template:
            template.control.send(json.dumps(message("load")).encode())
            ready = template.receive()
            self.assertEqual(set(ready), set(message("ready")))
            worker = template.ask_for_fork()
            forked = template.receive()
            self.assertEqual({**forked, "pid": 4711}, message("forked"))
            worker.born(forked["pid"])
            self.assert_matches(worker.socket.recv(PACKET_LEN_MAX), frame("Ready"))
            worker.socket.send(bytes.fromhex("".join(frame("Run"))))
            self.assert_matches(worker.socket.recv(PACKET_LEN_MAX), frame("Done"))
            worker.socket.send(bytes.fromhex("".join(frame("Ping"))))
            self.assert_matches(worker.socket.recv(PACKET_LEN_MAX), frame("Pong"))
            worker.hang_up()
            exited = json.loads(template.control.recv(PACKET_LEN_MAX))
            documented = message("exited")
            self.assertEqual({**exited, "peak_memory": documented["peak_memory"]}, documented)
            self.assertGreater(exited["peak_memory"], 1 << 20)


if __name__ == "__main__":
    unittest.main()
