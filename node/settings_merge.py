"""Several TOML texts in one tree, with the place of each key. Sections merge; no key may be set twice."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from node.settings_lines import KeyPath, key_lines
from node.settings_problems import Origin, Problem, Source

_UNQUOTED = re.compile(r"\s*\[\s*(dataset|policy)\.([^\]\"']+)\]")


@dataclass(slots=True)
class Merged:
    """What the files added so far make together."""

    document: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, file: str, text: str) -> bool:
        """Merge one file; False if it is not TOML, which `problems` then says."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(_not_toml(file, text, error))
            return False
        places = {path: Origin(file, line) for path, line in key_lines(text).items()}
        shift = {key: len(value) for key, value in self.document.items() if _is_tables(value)}
        self._merge(self.document, tree, (), places)
        for path, origin in places.items():
            self.origins.setdefault(_shifted(path, shift), origin)
        return True

    def _merge(
        self, into: dict[str, Any], tree: dict[str, Any], path: KeyPath, places: Mapping[KeyPath, Origin]
    ) -> None:
        for key, value in tree.items():
            here = (*path, key)
            if key not in into:
                into[key] = value
            elif isinstance(value, dict) and isinstance(into[key], dict):
                self._merge(into[key], value, here, places)
            elif not path and _is_tables(value) and _is_tables(into[key]):
                into[key] = into[key] + value
            else:
                first = Source(self.origins).at(here)
                text = f"is set already at {first.file}:{first.line}"
                self.problems.append(Source(places).problem(here, text))


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _shifted(path: KeyPath, shift: Mapping[str, int]) -> KeyPath:
    match path:
        case (str(name), int(number), *rest) if name in shift:
            return (name, number + shift[name], *rest)
    return path


def _not_toml(file: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    at = re.search(r"at line (\d+)", str(error))
    if at is None:
        return Problem(file, None, "", f"is not TOML: {error}")
    line = int(at[1])
    # The mistake that everybody makes once: a dataset's name has a slash and must be quoted.
    unquoted = _UNQUOTED.match(text.splitlines()[line - 1]) if line <= len(text.splitlines()) else None
    suggestion = f'[{unquoted[1]}."{unquoted[2].strip()}"]' if unquoted else ""
    return Problem(file, line, "", f"is not TOML: {error}", suggestion)
