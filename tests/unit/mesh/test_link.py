"""Two agents talk over real sockets on ::1: answers, refusals, streams both ways, and every break."""

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.channel import STALL
from mesh.frames import DEFAULT_LIMIT, FrameTooLarge, encode_frame
from mesh.link import (
    IncomingStream,
    Link,
    LinkServer,
    LinkTimeout,
    PeerBroke,
    PeerRefused,
    PeerUnreachable,
    Refusal,
)
from mesh.link_server import AT_ONCE
from mesh.ports import LINK_SOURCES, RESERVED

ROOT = os.geteuid() == 0
PATIENCE = 20
MEGABYTE = 1 << 20
SIZE = 50 * MEGABYTE

# What a worker does with its descriptor 0: a process of its own, as in the agent.
WRITE = f"""
import os, socket
s = socket.socket(fileno=0)
assert os.get_blocking(0)
for n in range({SIZE // MEGABYTE}): s.sendall(bytes([n]) * {MEGABYTE})
s.shutdown(socket.SHUT_WR)
"""
READ = """
import hashlib, os
assert os.get_blocking(0)
h = hashlib.sha256()
while data := os.read(0, 1 << 20): h.update(data)
print(h.hexdigest())
"""
STUCK = """
import errno, os
print("reading", flush=True)
try: print(len(os.read(0, 1)))
except OSError as error: print(errno.errorcode[error.errno])
"""
WRITTEN = hashlib.sha256(b"".join(bytes([n]) * MEGABYTE for n in range(SIZE // MEGABYTE))).hexdigest()


async def work(code: str, sock: socket.socket) -> str:
    """Runs a worker process on the socket and returns what it printed."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=sock, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await worker.communicate()
    except asyncio.CancelledError:
        worker.kill()
        await worker.communicate()
        raise
    assert worker.returncode == 0, err.decode()
    return out.decode().strip()


class Peer:
    """A handler with one verb per test, and what the tests wait for."""

    def __init__(self) -> None:
        self.callers: list[str] = []
        self.began, self.done = asyncio.Event(), asyncio.Event()
        self.labouring = self.most = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        self.callers.append(caller)
        answer: dict[str, Any] = await getattr(self, verb)(args, stream)
        return answer

    async def echo(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        return args

    async def refuse(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        raise Refusal("vault_keeps", "a vault does not forget", "meshkeep vault forget", exit=8)

    async def stumble(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    async def babble(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        return {"never": object()}

    async def hang(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.set_result("cancelled")
            raise
        return {}

    async def labour(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        self.labouring += 1
        self.most = max(self.most, self.labouring)
        if self.labouring == AT_ONCE:
            self.began.set()
        await self.done.wait()
        self.labouring -= 1
        return {}

    async def take(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        sock = await stream.accept({"ready": True})
        return {"sha256": await work(READ, sock)}

    async def give(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        sock = await stream.accept({"size": SIZE}, sending=True)
        await work(WRITE, sock)
        return {"dropped": True}

    async def take_and_refuse(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        await stream.accept({})
        raise Refusal("no_space", "the pool is full", exit=1)

    async def give_and_stumble(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        sock = await stream.accept({}, sending=True)
        sock.sendall(b"half")
        raise ZeroDivisionError

    async def take_until_the_end(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        sock = await stream.accept({})
        try:
            count = len(await asyncio.to_thread(_read_all, sock))
            self.ended.set_result(f"end of file after {count}")
        except OSError as error:
            self.ended.set_result(errno.errorcode[error.errno or 0])
        return {}

    async def hang_open(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        await stream.accept({}, sending=True)
        self.began.set()
        await stream.gone()
        return {}

    async def give_until_gone(self, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        await stream.accept({}, sending=True)
        await stream.gone()
        self.ended.set_result("gone")
        return {}


def _read_all(sock: socket.socket) -> bytes:
    got = bytearray()
    while data := sock.recv(MEGABYTE):
        got += data
    return bytes(got)


@contextlib.asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[LinkServer]:
    server = LinkServer("::1", 0, handler=peer, source_port_limit=RESERVED if ROOT else None)
    task = asyncio.ensure_future(server.serve())
    try:
        async with asyncio.timeout(PATIENCE):
            yield server
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def link_to(server: LinkServer) -> Link:
    return Link("::1", port=server.port, source_ports=LINK_SOURCES if ROOT else range(1))


class TestCall:
    async def test_is_answered_and_the_handler_knows_the_caller(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            assert await link_to(server).call("::1", "echo", {"a": [1, "ü"]}) == {"a": [1, "ü"]}
        assert peer.callers == ["::1"]

    async def test_fifty_at_once_are_all_answered(self) -> None:
        async with serving(Peer()) as server:
            link = link_to(server)
            answers = await asyncio.gather(*(link.call("::1", "echo", {"n": n}) for n in range(50)))
        assert answers == [{"n": n} for n in range(50)]

    async def test_of_one_that_asks_without_end_only_a_few_are_worked_on_at_a_time(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            link = link_to(server)
            asked = [asyncio.ensure_future(link.call("::1", "labour", {})) for _ in range(20)]
            await peer.began.wait()
            with pytest.raises(LinkTimeout):
                await link.call("::1", "echo", {}, timeout=0.2)
            peer.done.set()
            await asyncio.gather(*asked)
            assert await link.call("::1", "echo", {"n": 1}) == {"n": 1}
        assert peer.most == AT_ONCE

    async def test_streams_that_run_are_in_nobodys_way(self) -> None:
        async with serving(Peer()) as server, contextlib.AsyncExitStack() as streams:
            link = link_to(server)
            for _ in range(AT_ONCE + 2):
                await streams.enter_async_context(link.stream("::1", "hang_open", {}, sending=False))
            assert await link.call("::1", "echo", {"n": 1}) == {"n": 1}

    async def test_a_large_answer_arrives_whole(self) -> None:
        text = "x" * (DEFAULT_LIMIT - 100)
        async with serving(Peer()) as server:
            assert await link_to(server).call("::1", "echo", {"t": text}) == {"t": text}

    async def test_a_refusal_comes_with_code_text_hint_and_exit(self) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(PeerRefused) as refused:
                await link_to(server).call("::1", "refuse", {})
        error = refused.value
        assert (error.code, error.text) == ("vault_keeps", "a vault does not forget")
        assert (error.hint, error.exit) == ("meshkeep vault forget", 8)

    @pytest.mark.parametrize("verb", ["stumble", "babble"])
    async def test_a_bug_in_a_handler_is_answered_without_its_details_and_the_next_call_works(
        self, verb: str
    ) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(PeerRefused, match=r"^\w+ failed; the log") as refused:
                await link_to(server).call("::1", verb, {})
            assert refused.value.code == "failed"
            assert await link_to(server).call("::1", "echo", {}) == {}

    async def test_a_silent_peer_is_a_timeout(self) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(LinkTimeout, match=r"no answer to hang within 0\.05 s"):
                await link_to(server).call("::1", "hang", {}, timeout=0.05)

    async def test_nobody_there_is_unreachable(self) -> None:
        async with serving(Peer()) as server:
            link = link_to(server)
            assert await link.call("::1", "echo", {}) == {}
        with pytest.raises(PeerUnreachable, match="refused") as unreachable:
            await link.call("::1", "echo", {})
        assert not isinstance(unreachable.value, PeerBroke)

    async def test_a_request_beyond_the_limit_is_not_sent(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            with pytest.raises(FrameTooLarge):
                await link_to(server).call("::1", "echo", {"t": "x" * DEFAULT_LIMIT})
        assert peer.callers == []

    async def test_a_stream_that_was_not_asked_for_is_nonsense(self) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(PeerBroke):
                await link_to(server).call("::1", "give_until_gone", {})
            with pytest.raises(PeerBroke):
                async with link_to(server).stream("::1", "echo", {}):
                    pass

    async def test_a_cancelled_caller_leaves_no_socket_behind(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            before = len(os.listdir("/proc/self/fd"))
            call = asyncio.ensure_future(link_to(server).call("::1", "hang", {}))
            await peer.began.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert len(os.listdir("/proc/self/fd")) == before + 1  # the server's end

    async def test_an_evicted_caller_is_cut(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            call = asyncio.ensure_future(link_to(server).call("::1", "hang", {}))
            await peer.began.wait()
            assert server.cut("fd00::1") == 0
            assert server.cut("::1") == 1
            with pytest.raises(PeerBroke):
                await call
            assert await peer.ended == "cancelled"
            assert await link_to(server).call("::1", "echo", {}) == {}


class TestStranger:
    """What is no agent gets nothing, and harms nobody."""

    @pytest.mark.parametrize(
        "said",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            (DEFAULT_LIMIT + 1).to_bytes(4, "big"),
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x02[]",
            b"\x00\x00\x00\x02\xff\xfe",
            b"\x00\x00\x00\x09{}",
            b"\x00",
            b"",
        ],
    )
    async def test_garbage_ends_the_connection_and_the_server_goes_on(self, said: bytes) -> None:
        peer = Peer()
        async with serving(peer) as server:
            assert await asyncio.to_thread(_say, server.port, said) == b""
            assert await link_to(server).call("::1", "echo", {}) == {}
        assert peer.callers == ["::1"]

    @pytest.mark.parametrize(
        "asked", [{}, {"verb": "echo"}, {"verb": 1, "args": {}}, {"verb": "e", "args": []}]
    )
    async def test_a_frame_that_is_no_request_is_told_so(self, asked: dict[str, Any]) -> None:
        peer = Peer()
        async with serving(peer) as server:
            answer = await asyncio.to_thread(_say, server.port, encode_frame(asked))
        assert b"bad_request" in answer
        assert peer.callers == []

    @pytest.mark.skipif(not ROOT, reason="needs ports below 1024")
    async def test_a_port_that_any_program_can_have_is_closed_at_once(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            with pytest.raises(PeerBroke):
                await Link("::1", port=server.port, source_ports=range(1)).call("::1", "echo", {})
        assert peer.callers == []

    @pytest.mark.skipif(not ROOT, reason="needs ports below 1024")
    async def test_a_taken_source_port_is_passed_over(self) -> None:
        async with serving(Peer()) as server:
            with socket.socket(socket.AF_INET6) as taken:
                taken.bind(("::1", 1000))
                taken.listen()
                link = Link("::1", port=server.port, source_ports=range(1000, 1002))
                assert await link.call("::1", "echo", {}) == {}
                only = Link("::1", port=server.port, source_ports=range(1000, 1001))
                with pytest.raises(PeerUnreachable):
                    await only.call("::1", "echo", {})


def _say(port: int, said: bytes) -> bytes:
    with _stranger() as sock:
        sock.connect(("::1", port))
        sock.sendall(said)
        try:
            sock.shutdown(socket.SHUT_WR)
            return _read_all(sock)
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.ENOTCONN):
                return b""
            raise


def _stranger() -> socket.socket:
    sock = socket.socket(socket.AF_INET6)
    sock.settimeout(PATIENCE)
    for port in reversed(LINK_SOURCES) if ROOT else [0]:
        with contextlib.suppress(OSError):
            sock.bind(("::1", port))
            return sock
    sock.close()
    raise AssertionError("no port is free")


class TestStream:
    async def test_fifty_megabytes_from_worker_to_worker_and_the_last_answer_comes_back(self) -> None:
        async with serving(Peer()) as server, link_to(server).stream("::1", "take", {}) as stream:
            assert stream.reply == {"ready": True}
            await work(WRITE, stream.socket)
            assert await stream.finish() == {"sha256": WRITTEN}

    async def test_fifty_megabytes_the_other_way(self) -> None:
        async with (
            serving(Peer()) as server,
            link_to(server).stream("::1", "give", {}, sending=False) as stream,
        ):
            assert stream.reply == {"size": SIZE}
            assert await work(READ, stream.socket) == WRITTEN

    async def test_the_loop_serves_others_meanwhile(self) -> None:
        async with serving(Peer()) as server, link_to(server).stream("::1", "take", {}) as stream:
            assert await link_to(server).call("::1", "echo", {}) == {}
            stream.socket.shutdown(socket.SHUT_WR)
            assert await stream.finish() == {"sha256": hashlib.sha256().hexdigest()}

    async def test_a_refusal_before_it_begins(self) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(PeerRefused, match="does not forget"):
                async with link_to(server).stream("::1", "refuse", {}):
                    pass

    async def test_a_refusal_in_the_middle_reaches_a_sender_that_is_still_sending(self) -> None:
        async with serving(Peer()) as server, link_to(server).stream("::1", "take_and_refuse", {}) as stream:
            stream.socket.sendall(b"x" * 1000)
            await stream.spoken()
            with pytest.raises(PeerRefused, match="the pool is full"):
                await stream.finish()

    async def test_a_refusal_reaches_even_a_sender_that_notices_only_by_the_broken_pipe(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mesh.link_server.LINGER", 0.05)
        async with serving(Peer()) as server, link_to(server).stream("::1", "take_and_refuse", {}) as stream:
            with pytest.raises(OSError, match=r"Broken pipe|reset"):
                await asyncio.to_thread(_write_forever, stream.socket)
            with pytest.raises(PeerRefused, match="the pool is full"):
                await stream.finish()

    async def test_a_server_that_fails_while_sending_resets_and_never_ends_in_order(self) -> None:
        async with (
            serving(Peer()) as server,
            link_to(server).stream("::1", "give_and_stumble", {}, sending=False) as stream,
        ):
            with pytest.raises(ConnectionResetError):
                await asyncio.to_thread(_read_all, stream.socket)

    async def test_a_receiver_learns_that_the_sender_broke_off(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            with contextlib.suppress(ZeroDivisionError):
                async with link_to(server).stream("::1", "take_until_the_end", {}) as stream:
                    stream.socket.sendall(b"half")
                    raise ZeroDivisionError
            assert await peer.ended == "ECONNRESET"

    async def test_a_sender_learns_that_the_receiver_is_gone(self) -> None:
        peer = Peer()
        async with serving(peer) as server:
            async with link_to(server).stream("::1", "give_until_gone", {}, sending=False):
                pass
            assert await peer.ended == "gone"

    async def test_a_blocked_worker_is_freed_by_leaving_the_block_and_sees_no_orderly_end(self) -> None:
        async with serving(Peer()) as server:
            with contextlib.suppress(ZeroDivisionError):
                async with link_to(server).stream("::1", "hang_open", {}, sending=False) as stream:
                    worker = await asyncio.create_subprocess_exec(
                        sys.executable, "-c", STUCK, stdin=stream.socket, stdout=subprocess.PIPE
                    )
                    assert worker.stdout is not None
                    assert await worker.stdout.readline() == b"reading\n"
                    raise ZeroDivisionError
            out, _ = await worker.communicate()
            assert out in (b"ECONNRESET\n", b"ENOTCONN\n", b"EPIPE\n")

    async def test_no_last_answer_in_time_is_a_timeout(self) -> None:
        async with serving(Peer()) as server:
            with pytest.raises(LinkTimeout):
                async with link_to(server).stream("::1", "take", {}) as stream:
                    await stream.finish(timeout=0.05)

    async def test_a_sender_waits_longer_for_a_full_peer_than_anyone_for_a_dead_one(self) -> None:
        async with serving(Peer()) as server, link_to(server).stream("::1", "take", {}) as stream:
            option = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert option == STALL * 1000
            stream.socket.shutdown(socket.SHUT_WR)
            await stream.finish()


def _write_forever(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * MEGABYTE)
