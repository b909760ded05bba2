"""Commands inside a guest through qemu-guest-agent.

It needs no network and no login, so it works while the network is cut.
"""

from __future__ import annotations

import base64
import shlex
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .progress import LabError
from .wire import JsonSocket

ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "TERM=dumb",
]
PIECE = 4 << 20
ANSWER = 120.0
Command = str | Sequence[str]


@dataclass(frozen=True)
class Result:
    """What a finished command left; `code` is 128 + N after signal N."""

    stdout: str
    stderr: str
    code: int


class CommandFailed(AssertionError):
    """A checked command ended with another code than 0; carries all it said."""

    def __init__(self, host: str, command: Command, result: Result) -> None:
        shown = command if isinstance(command, str) else shlex.join(command)
        said = f"{result.stdout}{result.stderr}".rstrip()
        super().__init__(f"{host}: `{shown}` ended with {result.code}\n{said}")
        self.result = result


class Running:
    """A command under way in a guest."""

    def __init__(self, agent: Agent, command: Command, pid: int) -> None:
        self._agent = agent
        self._raw: RawResult | None = None
        self.command = command
        self.pid = pid

    def poll(self) -> Result | None:
        """The result once it has ended."""
        raw = self.poll_raw()
        return raw.text() if raw else None

    def poll_raw(self) -> RawResult | None:
        # The agent forgets a process once it has reported its end.
        if self._raw is None:
            self._raw = self._agent.status(self.pid)
        return self._raw

    def wait(self, timeout: float = 600, check: bool = False) -> Result:
        result = self.wait_raw(timeout).text()
        if check and result.code:
            raise CommandFailed(self._agent.host, self.command, result)
        return result

    def wait_raw(self, timeout: float) -> RawResult:
        # The agent has no event for an ended process. Asking costs the guest time: so ever less often.
        begun = time.monotonic()
        while (raw := self.poll_raw()) is None:
            elapsed = time.monotonic() - begun
            if elapsed > timeout:
                raise TimeoutError(f"{self._agent.host}: `{self.command}` still runs after {timeout:.0f} s")
            time.sleep(min(0.25, max(0.01, elapsed / 10)))
        return raw

    def kill(self, signal: str = "KILL") -> None:
        self._agent.start(["kill", f"-{signal}", str(self.pid)]).wait()


@dataclass(frozen=True)
class RawResult:
    stdout: bytes
    stderr: bytes
    code: int

    def text(self) -> Result:
        return Result(self.stdout.decode(errors="replace"), self.stderr.decode(errors="replace"), self.code)


class Agent:
    """The client side of one guest's agent. Threads may share it."""

    def __init__(self, host: str, connection: socket.socket) -> None:
        self.host = host
        self._wire = JsonSocket(connection)
        self._lock = threading.Lock()
        self._cookie = 0

    def wait_up(self, timeout: float) -> None:
        """Block until the agent answers. QEMU keeps the question until the guest opens the port."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._cookie += 1
            self._wire.send({"execute": "guest-sync", "arguments": {"id": self._cookie}})
            try:
                while self._wire.receive(deadline).get("return") != self._cookie:
                    pass
            except TimeoutError:
                raise LabError(f"{self.host}: no answer from its agent within {timeout:.0f} s") from None

    def start(self, command: Command, input: bytes | None = None) -> Running:
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        arguments: dict[str, Any] = {
            "path": words[0],
            "arg": words[1:],
            "env": ENVIRONMENT,
            "capture-output": True,
        }
        if input is not None:
            arguments["input-data"] = base64.b64encode(input).decode()
        return Running(self, command, int(self._call("guest-exec", arguments)["pid"]))

    def status(self, pid: int) -> RawResult | None:
        answer = self._call("guest-exec-status", {"pid": pid})
        if not answer["exited"]:
            return None
        if answer.get("out-truncated") or answer.get("err-truncated"):
            raise LabError(f"{self.host}: more output than the agent carries (16 MB); send it to a file")
        code = int(answer["exitcode"]) if "exitcode" in answer else 128 + int(answer.get("signal", 0))
        out, err = (base64.b64decode(answer.get(field, "")) for field in ("out-data", "err-data"))
        return RawResult(out, err, code)

    def run(
        self, command: Command, check: bool = True, timeout: float = 600, input: bytes | None = None
    ) -> Result:
        return self.start(command, input).wait(timeout, check)

    def put(self, path: str, data: bytes, timeout: float = 600) -> None:
        target = shlex.quote(path)
        self.run(f"mkdir -p -- $(dirname {target}) && : > {target}")
        for offset in range(0, len(data), PIECE):
            self.run(f"cat >> {target}", input=data[offset : offset + PIECE], timeout=timeout)

    def get(self, path: str, timeout: float = 600) -> bytes:
        data = b""
        while True:
            command = f"tail -c +{len(data) + 1} -- {shlex.quote(path)} | head -c {PIECE}"
            raw = self.start(command + "; exit ${PIPESTATUS[0]}").wait_raw(timeout)
            # tail dies of SIGPIPE (141) when there is more than one piece.
            if raw.code not in (0, 141):
                raise FileNotFoundError(f"{self.host}:{path}: {raw.text().stderr.strip()}")
            data += raw.stdout
            if len(raw.stdout) < PIECE:
                return data

    def _call(self, command: str, arguments: dict[str, Any]) -> Any:
        with self._lock:
            self._wire.send({"execute": command, "arguments": arguments})
            message = self._wire.receive(time.monotonic() + ANSWER)
        if "error" in message:
            raise LabError(f"{self.host}: {command}: {message['error'].get('desc')}")
        return message["return"]

    def close(self) -> None:
        self._wire.close()
