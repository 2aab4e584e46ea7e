"""Facts of the application travel in parts that fit into packets."""

from __future__ import annotations

import json
import socket
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from supervisor import PATIENCE_S  # noqa: E402

from pool_template.process.control import PACKET_LEN_MAX, ControlSocket  # noqa: E402


def parts_of(text: str) -> list[str]:
    """What arrives when this text is told, each part in a packet of its own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(PATIENCE_S)
        sender = ControlSocket(theirs.detach())

        def tell() -> None:
            sender.send_facts(text)
            sender.send("ready")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        found = []
        while (message := json.loads(ours.recv(PACKET_LEN_MAX)))["type"] == "facts":
            found.append(message["part"])
        teller.join()
        return found


class Facts(unittest.TestCase):
    def test_a_long_text_of_any_characters_arrives_whole(self) -> None:
        for character in ("x", '"', "\\", "\x01", "é", "\U0001f600"):
            for length in (1, 9_999, 10_000, 10_001, 70_000):
                with self.subTest(character=character, length=length):
                    self.assertEqual("".join(parts_of(character * length)), character * length)

    def test_who_has_nothing_to_tell_tells_nothing(self) -> None:
        self.assertEqual(parts_of(""), [])


if __name__ == "__main__":
    unittest.main()
