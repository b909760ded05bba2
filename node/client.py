"""The blocking client of the local API that the command line uses.

It speaks HTTP/1.0 over the unix socket by hand: http.client alone would cost a third of the command's start.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from node.errors import Exit, MeshkeepError

__all__ = ["DEFAULT_SOCKET", "call", "socket_path"]

DEFAULT_SOCKET = "/run/meshkeep/agent.sock"
START_AGENT = "sudo systemctl start meshkeep-agent"
LOGS = "journalctl -u meshkeep-agent -n 50"

OnProgress = Callable[[dict[str, Any]], None]


def socket_path() -> str:
    """Where the agent listens; MESHKEEP_SOCKET overrides the default."""
    return os.environ.get("MESHKEEP_SOCKET") or DEFAULT_SOCKET


def call(
    verb: str,
    args: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Ask the agent. `timeout` in seconds bounds each silence of it, None waits for ever.

    Raises `MeshkeepError`: what the agent answered, or exit 5 (not running, silent, gone), or 8 (not let in).
    """
    path = socket_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        _connect(sock, path)
        try:
            sock.sendall(_request(verb, args or {}, streaming=on_progress is not None))
            with sock.makefile("rb") as answer:
                status = _head(answer)
                if on_progress is None or status != 200:
                    return _single(answer.read(), status)
                return _stream(iter(answer), on_progress)
        except TimeoutError:
            raise MeshkeepError(
                "the agent does not answer",
                code="agent_silent",
                exit=Exit.NO_AGENT,
                why=f"it said nothing for {timeout:g} s",
                hint=LOGS,
            ) from None
        except ConnectionError as error:
            raise _gone(str(error)) from None


def _connect(sock: socket.socket, path: str) -> None:
    try:
        sock.connect(path)
    except PermissionError:
        raise MeshkeepError(
            "you may not talk to the agent",
            code="not_permitted",
            exit=Exit.NOT_PERMITTED,
            why=f"{path} is for root and the group meshkeep (you are uid {os.getuid()})",
            hint="sudo meshkeep …, or for good: sudo adduser $USER meshkeep, and log in again",
        ) from None
    except OSError as error:
        raise MeshkeepError(
            "the agent is not running",
            code="agent_not_running",
            exit=Exit.NO_AGENT,
            why=f"nobody listens on {path} ({error.strerror or error})",
            hint=START_AGENT,
        ) from None


def _request(verb: str, args: Mapping[str, Any], *, streaming: bool) -> bytes:
    body = json.dumps(args).encode()
    accept = "application/x-ndjson" if streaming else "application/json"
    head = (
        f"POST /v1/{verb} HTTP/1.0\r\nHost: meshkeep\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _head(answer: Any) -> int:
    """Read the status line and the headers; with HTTP/1.0 the body then lasts until the end of the stream."""
    words = answer.readline(4096).split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise _gone("no answer")
    while answer.readline(65536).strip():
        pass
    return int(words[1])


def _single(body: bytes, status: int) -> dict[str, Any]:
    raw = _object(body, status)
    if status == 200:
        return raw
    raise MeshkeepError.from_json(_error_of(raw))


def _stream(lines: Iterator[bytes], on_progress: OnProgress) -> dict[str, Any]:
    for line in lines:
        event = _object(line, 200)
        kind = event.pop("type", None)
        if kind == "progress":
            on_progress(event)
        elif kind == "result":
            result = event.get("result")
            return result if isinstance(result, dict) else {}
        elif kind == "error":
            raise MeshkeepError.from_json(_error_of(event))
    raise _gone("the answer broke off")


def _object(body: bytes, status: int) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raise MeshkeepError(
            "the agent's answer makes no sense", code="internal", why=f"HTTP status {status}", hint=LOGS
        )
    return raw


def _error_of(raw: dict[str, Any]) -> dict[str, Any]:
    error = raw.get("error")
    return error if isinstance(error, dict) else {}


def _gone(why: str) -> MeshkeepError:
    return MeshkeepError(
        "the agent went away before it answered",
        code="agent_gone",
        exit=Exit.NO_AGENT,
        why=why,
        hint="systemctl status meshkeep-agent",
    )
