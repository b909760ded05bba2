"""The local API and its client, over a real unix socket."""

import asyncio
import json
import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.api import MAX_BODY, Api, Request
from node.errors import Exit, MeshkeepError

NOBODY = 65534


class Leaf(Exception):
    """An error of another package."""


def translate(error: Exception) -> MeshkeepError | None:
    return MeshkeepError("no leaf", code="leaf", exit=Exit.NOT_FOUND) if isinstance(error, Leaf) else None


async def echo(request: Request) -> dict[str, Any]:
    return {"verb": request.verb, "args": request.args, "uid": request.uid, "gid": request.gid}


async def refuse(_request: Request) -> dict[str, Any]:
    raise MeshkeepError("no", code="no", exit=Exit.REFUSED, why="because", hint="ask again")


async def leaf(_request: Request) -> dict[str, Any]:
    raise Leaf


async def bug(_request: Request) -> dict[str, Any]:
    raise ZeroDivisionError("a bug")


async def count(request: Request) -> dict[str, Any]:
    for number in range(3):
        await request.progress({"number": number})
    if request.args.get("fail"):
        raise MeshkeepError("broke", code="broke", exit=Exit.NO_PEER)
    return {"streaming": request.streaming}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = tmp_path / "run" / "agent.sock"
    monkeypatch.setenv("MESHKEEP_SOCKET", str(where))
    return where


@pytest.fixture
async def api(path: Path) -> AsyncIterator[Api]:
    api = Api(path, group="no-such-group", translate=translate)
    for name, handler in (("echo", echo), ("refuse", refuse), ("leaf", leaf), ("bug", bug), ("count", count)):
        api.register(name, handler, access="group")
    api.register("rule", echo, access="root")
    await api.start()
    yield api
    await api.stop()


async def ask(verb: str, args: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return await asyncio.to_thread(client.call, verb, args, **options)


async def refusal(verb: str, **options: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await ask(verb, **options)
    return caught.value


def raw(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(65536), b""))


async def raw_error(path: Path, body: bytes, verb: str = "echo") -> tuple[int, dict[str, Any]]:
    head = f"POST /v1/{verb} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = await asyncio.to_thread(raw, path, head + body)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


class TestACall:
    async def test_hands_over_the_arguments_and_who_calls(self, api: Api) -> None:
        answer = await ask("echo", {"dataset": "tank/höme", "n": None})
        assert answer == {
            "verb": "echo",
            "args": {"dataset": "tank/höme", "n": None},
            "uid": os.getuid(),
            "gid": os.getgid(),
        }

    async def test_without_arguments_has_an_empty_dict(self, api: Api) -> None:
        assert (await ask("echo"))["args"] == {}

    async def test_that_is_refused_carries_every_field_of_the_error(self, api: Api) -> None:
        error = await refusal("refuse")
        assert error.as_json() == {
            "code": "no",
            "exit": 7,
            "message": "no",
            "why": "because",
            "try": "ask again",
        }

    async def test_of_an_unknown_verb_says_not_in_this_version(self, api: Api) -> None:
        error = await refusal("teleport")
        assert (error.exit, error.what) == (Exit.USAGE, "teleport: not in this version")

    async def test_that_meets_an_error_of_another_package_gets_its_translation(self, api: Api) -> None:
        assert (await refusal("leaf")).code == "leaf"

    async def test_that_meets_a_bug_is_told_so_and_the_traceback_is_logged(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.ERROR, "node.api"):
            error = await refusal("bug")
        assert (error.code, error.exit, error.why) == ("internal", Exit.FAILED, "ZeroDivisionError: a bug")
        assert "ZeroDivisionError" in caplog.text
        assert "Traceback" in caplog.text

    @pytest.mark.parametrize("body", [b"[1]", b"{", b'"x"', b"\xff"])
    async def test_with_no_json_object_is_a_usage_error(self, api: Api, path: Path, body: bytes) -> None:
        status, error = await raw_error(path, body)
        assert (status, error["exit"], error["code"]) == (400, 2, "bad_request")

    async def test_larger_than_a_mebibyte_is_refused(self, api: Api, path: Path) -> None:
        _status, error = await raw_error(path, b" " * (MAX_BODY + 1))
        assert error["message"] == "the request is larger than 1 MiB"

    async def test_by_another_user_for_what_is_roots_says_who_they_are(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("node.api._peer", lambda _http: (1000, 1000))
        error = await refusal("rule")
        assert error.exit == Exit.NOT_PERMITTED
        assert error.what == "this needs root (you are uid 1000)"
        assert error.hint == "sudo meshkeep rule …"

    @pytest.mark.skipif(os.geteuid() != 0, reason="changes its effective uid")
    async def test_learns_the_uid_from_the_kernel(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "agent.sock")
            api = Api(path)
            api.register("rule", echo, access="root")
            await api.start()
            Path(folder).chmod(0o755)
            path.chmod(0o666)
            answer = await self._as_nobody(path)
            await api.stop()
        assert b"403" in answer.splitlines()[0]
        assert b"you are uid 65534" in answer

    @staticmethod
    async def _as_nobody(path: Path) -> bytes:
        child = await asyncio.create_subprocess_exec(
            "/usr/bin/python3",
            "-I",
            "-c",
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(b'POST /v1/rule HTTP/1.0\\r\\nContent-Length: 0\\r\\n\\r\\n');"
            "print(s.makefile().read())",
            str(path),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            stdout=asyncio.subprocess.PIPE,
        )
        return (await child.communicate())[0]


class TestAStreamingCall:
    async def test_is_told_of_progress_and_then_of_the_result(self, api: Api) -> None:
        seen: list[dict[str, Any]] = []
        assert await ask("count", on_progress=seen.append) == {"streaming": True}
        assert seen == [{"number": 0}, {"number": 1}, {"number": 2}]

    async def test_that_fails_raises_after_the_progress(self, api: Api) -> None:
        seen: list[dict[str, Any]] = []
        error = await refusal("count", args={"fail": True}, on_progress=seen.append)
        assert (error.code, error.exit, len(seen)) == ("broke", Exit.NO_PEER, 3)

    async def test_of_an_unknown_verb_fails_like_any_other(self, api: Api) -> None:
        assert (await refusal("teleport", on_progress=lambda _event: None)).exit == Exit.USAGE

    async def test_progress_is_dropped_for_a_caller_that_does_not_stream(self, api: Api) -> None:
        assert await ask("count") == {"streaming": False}

    async def test_whose_caller_hangs_up_runs_to_its_end(self, api: Api, path: Path) -> None:
        hung_up, ended = asyncio.Event(), asyncio.Event()

        async def long(request: Request) -> dict[str, Any]:
            await request.progress({"here": True})
            await hung_up.wait()
            while not request.gone:
                await asyncio.sleep(0)
            await request.progress({"here": False})
            ended.set()
            return {}

        api.register("long", long, access="group")
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"POST /v1/long HTTP/1.0\r\nAccept: application/x-ndjson\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b'"here":true}\n')
        writer.close()
        await writer.wait_closed()
        hung_up.set()
        await asyncio.wait_for(ended.wait(), 10)


class TestTheSocket:
    async def test_is_roots_alone_where_there_is_no_group(self, api: Api, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives the socket to a group")
    async def test_is_for_the_group_where_there_is_one(self, path: Path) -> None:
        api = Api(path, group="daemon")
        await api.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        await api.stop()

    async def test_goes_with_the_agent_and_comes_again(self, api: Api, path: Path) -> None:
        await api.stop()
        assert not path.exists()
        await api.start()
        assert (await ask("echo"))["verb"] == "echo"

    async def test_left_over_by_a_crash_is_taken_over(self, path: Path) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(path))
        api = Api(path)
        api.register("echo", echo, access="group")
        await api.start()
        assert (await ask("echo"))["verb"] == "echo"
        await api.stop()

    async def test_of_a_running_agent_is_left_alone(self, api: Api, path: Path) -> None:
        with pytest.raises(MeshkeepError, match="another agent") as caught:
            await Api(path).start()
        assert caught.value.exit == Exit.REFUSED
        assert (await ask("echo"))["verb"] == "echo"

    async def test_a_verb_is_registered_once(self, api: Api) -> None:
        with pytest.raises(ValueError, match="twice"):
            api.register("echo", echo, access="root")
        assert api.verbs["rule"] == "root"


class TestTheClientMeets:
    def test_no_agent(self, path: Path) -> None:
        with pytest.raises(MeshkeepError) as caught:
            client.call("status")
        assert caught.value.exit == Exit.NO_AGENT
        assert caught.value.hint == "sudo systemctl start meshkeep-agent"

    def test_a_socket_nobody_listens_on(self, path: Path) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(path))
        with pytest.raises(MeshkeepError) as caught:
            client.call("status")
        assert caught.value.exit == Exit.NO_AGENT

    def test_a_socket_it_may_not_use(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Shut(socket.socket):
            def connect(self, _address: Any, /) -> None:
                raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("node.client.socket.socket", Shut)
        with pytest.raises(MeshkeepError) as caught:
            client.call("status")
        assert caught.value.exit == Exit.NOT_PERMITTED

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"garbage\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.0 500 Oh\r\n\r\noh",
            b"HTTP/1.0 200 OK\r\n\r\n[]",
        ],
    )
    @pytest.mark.parametrize("streaming", [False, True])
    def test_an_agent_that_breaks_off_or_makes_no_sense(
        self, path: Path, answer: bytes, streaming: bool
    ) -> None:
        with against(path, answer), pytest.raises(MeshkeepError) as caught:
            client.call("status", on_progress=(lambda _event: None) if streaming else None)
        assert caught.value.code in ("agent_gone", "internal")

    def test_an_agent_that_says_nothing(self, path: Path) -> None:
        with against(path, None), pytest.raises(MeshkeepError) as caught:
            client.call("status", timeout=0.05)
        assert (caught.value.code, caught.value.exit) == ("agent_silent", Exit.NO_AGENT)


class against:
    """A listener that answers one call with fixed bytes; with None it is silent until the caller hangs up."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        path.parent.mkdir(exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        caller, _ = self._listener.accept()
        with caller:
            caller.recv(65536)
            if self._answer is None:
                caller.recv(1)
            else:
                caller.sendall(self._answer)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._thread.join()
        self._listener.close()
