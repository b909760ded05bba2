"""What people and scripts read: results on stdout, the rest on stderr, one JSON object under --json."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from node.errors import MeshkeepError
from zfs.sizes import size

__all__ = ["ago", "clock", "emit", "say", "show_error", "size", "span", "table"]


def emit(result: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print the result: as one JSON object, or as the lines made of it."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for line in lines:
        print(line)


def say(text: str) -> None:
    """A word to the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def show_error(error: MeshkeepError, *, as_json: bool) -> None:
    """What, why and what to try; or the same as a JSON object. Always on stderr."""
    if as_json:
        say(json.dumps({"type": "error", **error.as_json()}, ensure_ascii=False))
        return
    say(f"error: {error.what}")
    for label, text in (("why:", error.why), ("try:", error.hint)):
        for number, line in enumerate(text.splitlines()):
            say(f"  {label if number == 0 else '':4}  {line}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Left-aligned columns two spaces apart; nothing is cut off."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def span(seconds: float) -> str:
    """A length of time in its biggest unit, rounded down: ``12m``, ``3d``. Hours go on to 48: ``26h``."""
    whole = max(0, int(seconds))
    if whole >= 2 * 86400:
        return f"{whole // 86400}d"
    if whole >= 3600:
        return f"{whole // 3600}h"
    return f"{whole // 60}m" if whole >= 60 else f"{whole}s"


def clock(when: float) -> str:
    """Local date and time; of a time beyond the calendar (anybody may set that of a file) ``@SECONDS``."""
    try:
        return f"{datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"@{when:.0f}"


def ago(then: float | None, now: float) -> str:
    """``12m`` since *then*; ``-`` for never."""
    return "-" if then is None else span(now - then)
