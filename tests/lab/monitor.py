"""QEMU's own monitor (QMP): saving and restoring a machine's state, and orderly quitting."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from .progress import LabError
from .wire import JsonSocket, Message

PATIENCE = 120.0


class Monitor:
    """Commands with their replies; events that arrive in between are dropped unless waited for."""

    def __init__(self, connection: socket.socket) -> None:
        self._wire = JsonSocket(connection)
        self._greeted = False

    def call(self, command: str, **arguments: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        if not self._greeted:
            self._wire.receive(deadline)
            self._greeted = True
            self.call("qmp_capabilities")
        self._wire.send({"execute": command, "arguments": arguments})
        while True:
            message = self._wire.receive(deadline)
            if "error" in message:
                raise LabError(f"QEMU refused {command}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def human(self, line: str) -> None:
        """A command that QMP lacks; the human monitor answers with text only when something is wrong."""
        said = self.call("human-monitor-command", **{"command-line": line})
        if said:
            raise LabError(f"QEMU: {line}: {said.strip()}")

    def migrate_to(self, path: Path) -> None:
        """Write the running machine's memory and devices to a file; it stands still afterwards."""
        self.call("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.call("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.call("migrate", uri=f"exec:cat > '{path}'")
        deadline = time.monotonic() + PATIENCE
        while True:
            status = self._migration_status(self._wire.receive(deadline))
            if status == "completed":
                return
            if status == "failed":
                raise LabError(f"saving the machine to {path} failed")

    @staticmethod
    def _migration_status(message: Message) -> str | None:
        if message.get("event") != "MIGRATION":
            return None
        return str(message["data"]["status"])

    def close(self) -> None:
        self._wire.close()
