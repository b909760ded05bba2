"""JSON lines over one end of a socket pair: the form of QEMU's monitor and of the guest agent."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from .progress import LabError

Message = dict[str, Any]


class Gone(LabError):
    """The other end closed: QEMU is not running any more."""


class JsonSocket:
    """One message a line, in both directions; a deadline on every read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def send(self, message: Message) -> None:
        self._connection.settimeout(None)
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Gone("the machine is not running") from error

    def receive(self, deadline: float) -> Message:
        """The next message; TimeoutError once the monotonic deadline has passed."""
        while b"\n" not in self._buffer:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._connection.recv(1 << 20)
            except TimeoutError:
                raise
            except OSError as error:
                raise Gone("the machine is not running") from error
            if not piece:
                raise Gone("the machine is not running")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        self._connection.close()
