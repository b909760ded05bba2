"""Frames: a 32-bit big-endian length and that many bytes of UTF-8 JSON. No verbs and no timeouts here."""

import json
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from typing import Any

DEFAULT_LIMIT = 4 * 1024 * 1024
_HEADER = 4


class FrameError(Exception):
    """The conversation cannot go on: close the connection. Nothing was handed to the caller."""


class FrameTooLarge(FrameError):
    """A frame is longer than the limit. Its bytes were not read (or not sent)."""


class BadFrame(FrameError):
    """A frame of the announced length arrived that is no UTF-8 JSON object, or such was to be sent."""


class ConnectionClosed(FrameError):
    """The other side went away. `mid_frame` tells a broken frame from an orderly end between two frames."""

    def __init__(self, mid_frame: bool) -> None:
        super().__init__("connection closed inside a frame" if mid_frame else "connection closed")
        self.mid_frame = mid_frame


def encode_frame(obj: dict[str, Any], limit: int = DEFAULT_LIMIT) -> bytes:
    """The bytes of one frame. Raises BadFrame for what JSON cannot say, FrameTooLarge beyond `limit`."""
    try:
        text = json.dumps(obj, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"not sayable in JSON: {error}") from error
    if len(body) > limit:
        raise FrameTooLarge(f"{len(body)} bytes to send, at most {limit}")
    return len(body).to_bytes(_HEADER, "big") + body


def decode_body(body: bytes) -> dict[str, Any]:
    """The object of a frame's body. Raises BadFrame unless it is one UTF-8 JSON object with each key once."""
    try:
        obj = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not a JSON frame: {error}") from error
    if not isinstance(obj, dict):
        raise BadFrame("the frame holds no JSON object")
    return obj


async def read_frame(reader: StreamReader, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
    """The next frame. Raises FrameTooLarge before reading a body longer than `limit` bytes, BadFrame,
    and ConnectionClosed at the end of the stream or when the connection broke."""
    header = await _exactly(reader, _HEADER, started=False)
    length = int.from_bytes(header, "big")
    if length > limit:
        raise FrameTooLarge(f"{length} bytes announced, at most {limit}")
    return decode_body(await _exactly(reader, length, started=True))


async def write_frame(writer: StreamWriter, obj: dict[str, Any], limit: int = DEFAULT_LIMIT) -> None:
    """Sends one frame and waits until the peer takes it. Raises as `encode_frame`, and ConnectionClosed."""
    data = encode_frame(obj, limit)
    try:
        writer.write(data)
        await writer.drain()
    except OSError as error:
        raise ConnectionClosed(mid_frame=True) from error


async def _exactly(reader: StreamReader, count: int, *, started: bool) -> bytes:
    try:
        return await reader.readexactly(count)
    except IncompleteReadError as error:
        raise ConnectionClosed(mid_frame=started or bool(error.partial)) from error
    except OSError as error:
        raise ConnectionClosed(mid_frame=True) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        raise ValueError("a key stands twice")
    return obj
