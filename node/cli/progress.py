"""How a long job shows itself on stderr: a bar at a terminal, otherwise a line per tenth or per minute."""

import sys
import time
from typing import Any, TextIO

from node.cli.output import size, span

__all__ = ["Progress", "watch"]

WIDTH = 38
MINUTE = 60.0


class Progress:
    """Turns the agent's progress events into text. `now` is in seconds of a steady clock; prints nothing."""

    def __init__(self, label: str, *, bar: bool) -> None:
        self.label = label
        self.bar = bar
        self._tenth = -1
        self._said: float | None = None
        self._note = ""

    def feed(self, event: dict[str, Any], now: float) -> str | None:
        """The text to show now, or None. A bar begins with a carriage return, a line ends with a newline."""
        if "bytes_done" not in event:
            words = (event.get("text"), event.get("state"), event.get("address"))
            return self._noted(f"{self.label}: {' '.join(str(word) for word in words if word)}")
        text = self._line(event)
        if self.bar:
            return f"\r\x1b[K{text}"
        tenth = int(_share(event) * 10)
        if self._said is not None and tenth <= self._tenth and now - self._said < MINUTE:
            return None
        self._tenth, self._said = max(tenth, self._tenth), now
        return f"{text}\n"

    def _noted(self, note: str) -> str | None:
        if note == self._note:
            return None
        self._note = note
        return f"\r\x1b[K{note}\n" if self.bar else f"{note}\n"

    def _line(self, event: dict[str, Any]) -> str:
        done, total = _count(event, "bytes_done"), _count(event, "bytes_total")
        rate, share = _count(event, "rate"), _share(event)
        parts = [self.label]
        if event.get("steps"):
            parts.append(f"step {event.get('step', '?')}/{event['steps']}")
        if self.bar:
            parts.append(_drawn(share))
        parts.append(f"{share * 100:.0f}%")
        parts.append(f"{size(done)} / {size(total)}" if total else size(done))
        if rate:
            parts.append(f"{rate / (1 << 20):.1f} MiB/s")
            if total > done:
                parts.append(f"ETA {span((total - done) / rate)}")
        if event.get("snapshot") and not self.bar:
            parts.append(f"@{str(event['snapshot']).rpartition('@')[2]}")
        return "  ".join(parts)


class _Screen:
    """Shows a Progress on a stream; leaves the cursor on a fresh line."""

    def __init__(self, label: str, out: TextIO) -> None:
        self._progress = Progress(label, bar=out.isatty())
        self._out = out
        self._open = False

    def __call__(self, event: dict[str, Any]) -> None:
        text = self._progress.feed(event, time.monotonic())
        if text is not None:
            self._out.write(text)
            self._out.flush()
            self._open = not text.endswith("\n")

    def close(self) -> None:
        if self._open:
            self._out.write("\n")
            self._out.flush()


def watch(verb: str, args: dict[str, Any], label: str, *, silent: bool) -> dict[str, Any]:
    """Call a streaming verb and show its progress on stderr unless `silent`. Raises `MeshkeepError`."""
    from node import client

    if silent:
        return client.call(verb, args, on_progress=lambda _event: None)
    screen = _Screen(label, sys.stderr)
    try:
        return client.call(verb, args, on_progress=screen)
    finally:
        screen.close()


def _count(event: dict[str, Any], key: str) -> float:
    value = event.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _share(event: dict[str, Any]) -> float:
    total = _count(event, "bytes_total")
    return min(1.0, _count(event, "bytes_done") / total) if total else 0.0


def _drawn(share: float) -> str:
    full = int(share * WIDTH)
    return f"[{'=' * full}{'>' if full < WIDTH else ''}{'-' * (WIDTH - full - 1)}]"
