"""Changes that the command line makes to the configuration: rules of conf.d/replicate.toml and share.toml.

Comments and everything not concerned stay as they are. Each change is idempotent and says whether the file
changed. Only the given file is looked at: a rule that stands in another one is for a person to edit
(`Settings` knows where). The caller checks the whole configuration afterwards.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from node.errors import Exit, MeshkeepError
from node.files import write_atomic
from node.settings_lines import Statement, statements
from node.settings_model import Access, Squash
from replication.history import OnDivergence

_HEADER = "Written by `meshkeep {command}`; edit it as you like."
_DEFAULTS: Mapping[str, Any] = {
    "allow_plaintext": False,
    "rate_limit": None,
    "recursive": False,
    "exclude": [],
    "on_divergence": "conflict",
    "access": "ro",
    "squash": "all",
    "map_to": None,
}


def add_replicate(
    path: Path,
    from_: str,
    to: str,
    *,
    allow_plaintext: bool = False,
    rate_limit: str | None = None,
    recursive: bool = False,
    exclude: Sequence[str] = (),
    on_divergence: OnDivergence | None = None,
) -> bool:
    """Make *path* say that *from_* goes to *to* with these options. Raises MeshkeepError.

    A tree stays one: without *recursive* what is said of that is left as it is, and so with *on_divergence*.
    """
    wanted: dict[str, Any] = {"allow_plaintext": allow_plaintext, "rate_limit": rate_limit}
    if recursive:
        wanted |= {"recursive": True, "exclude": list(exclude)}
    if on_divergence is not None:
        wanted["on_divergence"] = on_divergence
    return _edit(path, "replicate add", lambda rules: _add(rules, ("from", from_), to, wanted), "replicate")


def remove_replicate(path: Path, from_: str, to: str) -> bool:
    """Make *path* not say that *from_* goes to *to*."""
    return _edit(path, "replicate add", lambda rules: _remove(rules, ("from", from_), to), "replicate")


def pause_replicate(path: Path, from_: str, to: str, *, paused: bool) -> bool:
    """Make *path* say that the rule *from_* to *to* is paused, or not. Returns whether that rule stands in it."""
    found = False

    def change(rules: _Rules) -> bool:
        nonlocal found
        found = any(rule.get("from") == from_ and to in _targets(rule) for rule in rules.rules)
        return found and _pause(rules, from_, to, paused)

    _edit(path, "replicate add", change, "replicate")
    return found


def add_share(
    path: Path,
    dataset: str,
    to: str,
    *,
    access: Access = "ro",
    squash: Squash = "all",
    map_to: int | str | None = None,
) -> bool:
    """Make *path* say that *dataset* is shared to *to* with these options."""
    wanted = {"access": access, "squash": squash, "map_to": map_to}
    return _edit(path, "share add", lambda rules: _add(rules, ("dataset", dataset), to, wanted), "share")


def remove_share(path: Path, dataset: str, to: str) -> bool:
    """Make *path* not say that *dataset* is shared to *to*."""
    return _edit(path, "share add", lambda rules: _remove(rules, ("dataset", dataset), to), "share")


def _edit(path: Path, command: str, change: Callable[["_Rules"], bool], section: str) -> bool:
    text = path.read_text(encoding="utf-8") if path.exists() else f"# {_HEADER.format(command=command)}\n"
    try:
        rules = _Rules(text, section)
    except ValueError as error:
        raise MeshkeepError(
            f"{path} cannot be changed",
            code="config_invalid",
            exit=Exit.CONFIG,
            why=str(error),
            hint=f"correct {path}",
        ) from None
    if not change(rules):
        return False
    write_atomic(path, rules.text())
    return True


class _Rules:
    """The ``[[section]]`` blocks of a text, changed by whole lines: every other line stays as it is."""

    def __init__(self, text: str, section: str) -> None:
        """Raises ValueError for a text that is not TOML or has the section in another form."""
        self._section = section
        self._lines: list[str | None] = list(text.rstrip("\n").split("\n"))
        self._added: dict[int, list[str]] = {}
        found = tomllib.loads(text).get(section, [])
        marks = [mark for mark in statements(text) if mark.path[0] == section]
        if len([mark for mark in marks if mark.is_header]) != len(found):
            raise ValueError(f"{section} is not written as [[{section}]]")
        self.rules: list[dict[str, Any]] = list(found)
        self._marks = {mark.path[1:]: mark for mark in marks}

    def text(self) -> str:
        lines: list[str] = []
        for number, line in enumerate(self._lines, 1):
            lines += [] if line is None else [line]
            lines += self._added.get(number, [])
        return "\n".join(lines).strip("\n") + "\n"

    def append(self, rule: Mapping[str, Any]) -> None:
        self._lines += ["", f"[[{self._section}]]", *(_line(key, value) for key, value in rule.items())]

    def remove(self, number: int) -> None:
        """Drop the block's own lines and one blank line behind it; comments before and after it stay."""
        for path, mark in self._marks.items():
            if path[0] == number:
                self._blank(mark)
        last = self._end(number)
        if last < len(self._lines) and self._lines[last] == "":
            self._lines[last] = None

    def set(self, number: int, key: str, value: Any) -> None:
        """None takes the key out."""
        mark = self._marks.get((number, key))
        if mark is not None:
            self._blank(mark)
        if value is None:
            return
        if mark is not None:
            self._lines[mark.first - 1] = _line(key, value)
        else:
            self._added.setdefault(self._end(number), []).append(_line(key, value))

    def _end(self, number: int) -> int:
        """The last line of the block."""
        return max(mark.last for path, mark in self._marks.items() if path[0] == number)

    def _blank(self, mark: Statement) -> None:
        self._lines[mark.first - 1 : mark.last] = [None] * (mark.last - mark.first + 1)


def _line(key: str, value: Any) -> str:
    return f"{key} = {tomlkit.item(value).as_string()}"


def _add(rules: _Rules, key: tuple[str, str], to: str, wanted: Mapping[str, Any]) -> bool:
    for number, rule in enumerate(rules.rules):
        if rule.get(key[0]) != key[1] or to not in _targets(rule):
            continue
        changes = {name: value for name, value in wanted.items() if rule.get(name, _DEFAULTS[name]) != value}
        if not changes:
            return False
        if len(_targets(rule)) == 1:
            for name, value in changes.items():
                rules.set(number, name, value)
            return True
        rules.set(number, "to", _without(rule, to))
    options = {name: value for name, value in wanted.items() if value != _DEFAULTS[name]}
    rules.append({key[0]: key[1], "to": to, **options})
    return True


def _remove(rules: _Rules, key: tuple[str, str], to: str) -> bool:
    changed = False
    for number, rule in enumerate(rules.rules):
        if rule.get(key[0]) != key[1] or to not in _targets(rule):
            continue
        changed = True
        if len(_targets(rule)) > 1:
            rules.set(number, "to", _without(rule, to))
        else:
            rules.remove(number)
    return changed


def _pause(rules: _Rules, from_: str, to: str, paused: bool) -> bool:
    """A rule for several nodes is parted: this one's becomes a rule of its own with the same options."""
    changed = False
    for number, rule in enumerate(rules.rules):
        if rule.get("from") != from_ or to not in _targets(rule) or rule.get("paused", False) == paused:
            continue
        changed = True
        if len(_targets(rule)) == 1:
            rules.set(number, "paused", True if paused else None)
        else:
            rules.set(number, "to", _without(rule, to))
            options = {key: value for key, value in rule.items() if key not in ("from", "to", "paused")}
            rules.append({"from": from_, "to": to, **options, **({"paused": True} if paused else {})})
    return changed


def _targets(rule: Mapping[str, Any]) -> list[str]:
    to = rule.get("to", [])
    return [to] if isinstance(to, str) else list(to)


def _without(rule: Mapping[str, Any], to: str) -> list[str]:
    return [node for node in _targets(rule) if node != to]
