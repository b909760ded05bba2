"""What is wrong with a configuration, in words: where, which key, what, and what was probably meant."""

import difflib
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from node.settings_lines import KeyPath
from node.settings_model import Document


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something is set. Line 0: nowhere in particular."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `key` is its dotted path, empty where the file is meant; `suggestion` a replacement."""

    file: str
    line: int | None
    key: str
    text: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.key}: {self.text}" if self.key else self.text
        return f"{place}: {subject}" + (f'. Did you mean "{self.suggestion}"?' if self.suggestion else "")


class Source:
    """Looks up where a key stands; a key without a line of its own stands where its parent does."""

    def __init__(self, origins: Mapping[KeyPath, Origin]) -> None:
        self.origins = origins

    def at(self, path: KeyPath) -> Origin:
        """The origin of *path* or its nearest parent."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return Origin("", 0)

    def problem(self, path: KeyPath, text: str, suggestion: str = "") -> Problem:
        """A problem at *path*."""
        origin = self.at(path)
        return Problem(origin.file, origin.line or None, dotted(path), text, suggestion)


def dotted(path: KeyPath) -> str:
    """``policy.production.hourly``, ``dataset."tank/home".policy``, ``replicate[0].to``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
        text += f".{bare}" if text else bare
    return text


def explain(error: ValidationError, source: Source) -> list[Problem]:
    """One problem for each error that pydantic found."""
    return [_explain(details, source) for details in error.errors(include_url=False)]


def _explain(details: ErrorDetails, source: Source) -> Problem:
    # The "[key]" that pydantic adds for a bad key of a table is no part of the path.
    path = tuple(part for part in details["loc"] if part != "[key]")
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1])
        return source.problem(path, "unknown key" if path[1:] else "unknown section", _close(path[-1], known))
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        text = f"must be {' or '.join(_show(choice) for choice in allowed)}, not {_show(given)}"
        return source.problem(path, text, _close(given, allowed))
    return source.problem(path, _text(kind, given, context))


def _text(kind: str, given: Any, context: Mapping[str, Any]) -> str:
    match kind:
        case "missing":
            return "is missing"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {given}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {given}"
        case "too_short":
            return "must not be empty"
    wanted = _WANTED.get(kind)
    return f"must be {wanted}, not {_show(given)}" if wanted else f"is not valid: {_show(given)}"


_WANTED = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "list_type": "a list",
    "dict_type": "a section",
    "model_type": "a section",
    "model_attributes_type": "a section",
}


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _close(given: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(given), known, 1)
    return close[0] if close else ""


def _known_keys(path: KeyPath) -> list[str]:
    """The keys of the section at *path*."""
    at: Any = Document
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            by_key = {info.alias or name: info.annotation for name, info in at.model_fields.items()}
            at = by_key.get(str(part))
        else:
            arguments = typing.get_args(at)
            at = arguments[-1] if arguments and not isinstance(at, UnionType) else None
    if isinstance(at, type) and issubclass(at, BaseModel):
        return [info.alias or name for name, info in at.model_fields.items()]
    return []
