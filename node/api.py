"""The local API: verbs over a unix socket, answered by handlers that the composition root registers.

Who calls is what the kernel says of the other end (SO_PEERCRED); who may connect is the mode of the socket.
A caller that goes away never interrupts a handler: progress is dropped, the handler runs to its end.
"""

import asyncio
import grp
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from node.errors import Exit, MeshkeepError

__all__ = ["Access", "Api", "Handler", "Request"]

log = logging.getLogger(__name__)

Access = Literal["group", "root"]
NDJSON = "application/x-ndjson"
MAX_BODY = 1 << 20
HTTP_STATUS = {
    Exit.OK: 200,
    Exit.FAILED: 500,
    Exit.USAGE: 400,
    Exit.PARTIAL: 500,
    Exit.CONFIG: 422,
    Exit.NO_AGENT: 503,
    Exit.NO_PEER: 504,
    Exit.REFUSED: 409,
    Exit.NOT_PERMITTED: 403,
    Exit.NOT_FOUND: 404,
}


class Request:
    """One call: its arguments, and the uid and gid of the process that made it."""

    def __init__(
        self, verb: str, args: dict[str, Any], uid: int, gid: int, stream: "_Stream | None" = None
    ) -> None:
        self.verb = verb
        self.args = args
        self.uid = uid
        self.gid = gid
        self._stream = stream

    @property
    def streaming(self) -> bool:
        """Whether the caller asked to be told of progress."""
        return self._stream is not None

    @property
    def gone(self) -> bool:
        """Whether a streaming caller has hung up."""
        return self._stream is not None and self._stream.gone

    async def progress(self, event: Mapping[str, Any]) -> None:
        """Tell the caller; does nothing for a call that does not stream or whose caller has gone."""
        if self._stream is not None:
            await self._stream.send({"type": "progress", **event})


Handler = Callable[[Request], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Verb:
    handler: Handler
    access: Access


class _Stream:
    """An NDJSON answer; lines for a caller that has hung up are dropped."""

    def __init__(self, response: web.StreamResponse, http: web.Request) -> None:
        self._response = response
        self._http = http
        self._broken = False

    @property
    def gone(self) -> bool:
        return self._broken or self._http.transport is None or self._http.transport.is_closing()

    async def send(self, event: Mapping[str, Any]) -> None:
        if self.gone:
            return
        try:
            await self._response.write(_line(event))
        except ConnectionError:
            self._broken = True


class Api:
    """The verbs and the socket they are served on. Register before `start`, or at any time after."""

    def __init__(
        self,
        path: Path,
        *,
        group: str = "meshkeep",
        translate: Callable[[Exception], MeshkeepError | None] = lambda _error: None,
    ) -> None:
        """`translate` makes a `MeshkeepError` of an exception of another package, or None if it is a bug."""
        self.path = path
        self._group = group
        self._translate = translate
        self._verbs: dict[str, _Verb] = {}
        self._runner: web.AppRunner | None = None

    def register(self, verb: str, handler: Handler, *, access: Access) -> None:
        """Serve `verb`; access "root" is for uid 0 only, "group" for everyone whom the socket lets in."""
        if verb in self._verbs:
            raise ValueError(f"verb {verb!r} is registered twice")
        self._verbs[verb] = _Verb(handler, access)

    @property
    def verbs(self) -> Mapping[str, Access]:
        """What is served, and to whom."""
        return {name: verb.access for name, verb in self._verbs.items()}

    async def start(self) -> None:
        """Listen. Raises `MeshkeepError` (refused) when another agent answers on the same socket."""
        if await asyncio.to_thread(_answers, self.path):
            raise MeshkeepError(
                f"another agent is listening on {self.path}", code="agent_running", exit=Exit.REFUSED
            )
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/{verb}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = os.umask(0o177)
        try:
            await web.UnixSite(runner, str(self.path)).start()
        finally:
            os.umask(old)
        _open_to_group(self.path, self._group)
        self._runner = runner

    async def stop(self) -> None:
        """Take no more calls, give running ones 5 s, cancel the rest, remove the socket."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self.path.unlink(missing_ok=True)

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        if NDJSON in http.headers.get("Accept", ""):
            return await self._serve_stream(http)
        try:
            result = await self._run(http, None)
        except MeshkeepError as error:
            return _json({"error": error.as_json()}, HTTP_STATUS[error.exit])
        return _json(result, 200)

    async def _serve_stream(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        await response.prepare(http)
        stream = _Stream(response, http)
        try:
            event: dict[str, Any] = {"type": "result", "result": dict(await self._run(http, stream))}
        except MeshkeepError as error:
            event = {"type": "error", "error": error.as_json()}
        await stream.send(event)
        return response

    async def _run(self, http: web.Request, stream: _Stream | None) -> Mapping[str, Any]:
        """Run the verb. Whatever goes wrong leaves here as a `MeshkeepError`."""
        name = http.match_info["verb"]
        uid, gid = _peer(http)
        try:
            verb = self._permitted(name, uid)
            return await verb.handler(Request(name, await _args(http), uid, gid, stream))
        except MeshkeepError:
            raise
        except Exception as error:
            known = self._translate(error)
            if known is not None:
                raise known from error
            log.exception("verb %s failed", name)
            raise MeshkeepError(
                f"{name} failed inside the agent",
                code="internal",
                why=f"{type(error).__name__}: {error}",
                hint="journalctl -u meshkeep-agent -n 50",
            ) from error

    def _permitted(self, name: str, uid: int) -> _Verb:
        verb = self._verbs.get(name)
        if verb is None:
            raise MeshkeepError(f"{name}: not in this version", code="not_in_this_version", exit=Exit.USAGE)
        if verb.access == "root" and uid != 0:
            raise MeshkeepError(
                f"this needs root (you are uid {uid})",
                code="needs_root",
                exit=Exit.NOT_PERMITTED,
                hint=f"sudo meshkeep {name.replace('.', ' ')} …",
            )
        return verb


async def _args(http: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty body is no arguments."""
    try:
        raw = await http.read()
    except web.HTTPRequestEntityTooLarge:
        raise MeshkeepError("the request is larger than 1 MiB", code="bad_request", exit=Exit.USAGE) from None
    try:
        args = json.loads(raw or b"{}")
    except ValueError as error:
        raise MeshkeepError(
            "the request is not JSON", code="bad_request", exit=Exit.USAGE, why=str(error)
        ) from None
    if not isinstance(args, dict):
        raise MeshkeepError("the request is not a JSON object", code="bad_request", exit=Exit.USAGE)
    return args


def _peer(http: web.Request) -> tuple[int, int]:
    """uid and gid of the process at the other end; nobody when it has gone already."""
    sock = http.get_extra_info("socket")
    if sock is None:
        return 65534, 65534
    _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, gid


def _answers(path: Path) -> bool:
    """Whether someone accepts connections on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _open_to_group(path: Path, group: str) -> None:
    """Mode 0660 for the group if the host has it; else root's own, 0600."""
    try:
        gid = grp.getgrnam(group).gr_gid
        os.chown(path, -1, gid)
    except (KeyError, PermissionError):
        os.chmod(path, 0o600)
    else:
        os.chmod(path, 0o660)


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _json(body: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(body=_line(body), status=status, content_type="application/json")
