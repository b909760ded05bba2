"""Where in a TOML text each key stands. Only for texts that tomllib has accepted; decides nothing."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Keys from the top; an int counts the tables of an array of tables."""

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_HEADER = re.compile(rf"(\[\[?)[ \t]*({_KEY.pattern})")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
# One token of a value: strings whole, so that brackets, # and line ends inside of them do not count.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]|.",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A table header or a key with its value. Lines count from 1; `last` is the line it ends on."""

    path: KeyPath
    first: int
    last: int
    is_header: bool


def statements(text: str) -> list[Statement]:
    """All headers and keys in their order, but for the keys inside of inline tables."""
    found = []
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for start, end, is_array, keys in _scan(text):
        if is_array is None:
            path = table + keys
        else:
            table = path = _table(keys, counts, is_array)
        first = text.count("\n", 0, start) + 1
        last = first + text.count("\n", start, end)
        found.append(Statement(path, first, last, is_array is not None))
    return found


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line on which each table and each key first stands."""
    lines: dict[KeyPath, int] = {}
    for statement in statements(text):
        for end in range(1, len(statement.path) + 1):
            lines.setdefault(statement.path[:end], statement.first)
    return lines


def _table(keys: KeyPath, counts: dict[KeyPath, int], is_array: bool) -> KeyPath:
    """The path of a header, with the numbers of the arrays of tables on its way."""
    path: KeyPath = ()
    for depth, key in enumerate(keys, 1):
        path += (key,)
        if is_array and depth == len(keys):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path += (counts[path] - 1,)
    return path


def _scan(text: str) -> Iterator[tuple[int, int, bool | None, KeyPath]]:
    """(start, end, None for key = value or whether a header is of an array, keys)."""
    position = 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        if blank:
            position = blank.end()
            continue
        header = _HEADER.match(text, position)
        key = None if header else _KEY.match(text, position)
        if header:
            end = _end_of_value(text, header.end())
            yield position, end, header[1] == "[[", _keys(header[2])
        elif key:
            end = _end_of_value(text, key.end())
            yield position, end, None, _keys(key[0])
        else:
            return
        position = end


def _end_of_value(text: str, position: int) -> int:
    """Where the line ends that the value (or header) ends on."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.start()
    return len(text)


def _keys(dotted: str) -> KeyPath:
    return tuple(_unquote(part) for part in re.findall(_PART, dotted))


def _unquote(part: str) -> str:
    if part[0] not in "\"'":
        return part
    return str(tomllib.loads(f"value = {part}")["value"])
