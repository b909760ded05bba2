"""Reads the text of sanoid.conf as sanoid's reader (Perl's Config::IniFiles) does; knows nothing of what keys mean.

Several texts are read as one: a section that comes again goes on where it was, and of a key that comes again the first
value counts. No value has comments behind it: a line is the key, ``=``, and all that is left of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

MAX_LINE = 4096
"""Characters in a line that means something."""

MAX_SETTINGS = 20_000
"""Sections and settings in all texts together."""

MAX_PROBLEMS = 100
"""With so many mistakes, reading ends."""

_BLANK = " \t\n\r\f\v"
_NEWLINE = re.compile(r"\r\n|\n|\r")
_NO_TEXT = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not UTF-8 (PEP 383)."""


@dataclass(frozen=True, slots=True)
class ConfProblem:
    """One mistake. `section` and `key` are empty where the whole is meant, `suggestion` if there is none."""

    file: str
    line: int | None
    section: str
    key: str
    text: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = (f"[{self.section}] " if self.section else "") + (f"{self.key}: " if self.key else "")
        return f"{place}: {subject}{self.text}" + (
            f". Did you mean {self.suggestion}?" if self.suggestion else ""
        )


@dataclass(frozen=True, slots=True)
class Value:
    """The text behind a key's ``=``, trimmed, and where it stands."""

    text: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """One section, all its parts together; `file` and `line` are where it is first."""

    name: str
    file: str
    line: int
    keys: Mapping[str, Value] = field(default_factory=dict)

    @property
    def template(self) -> str | None:
        """The name by which ``use_template`` calls it, if it is a template."""
        return self.name.removeprefix("template_") if self.name.startswith("template_") else None

    def get(self, key: str) -> str:
        """The text of *key*, or nothing."""
        value = self.keys.get(key)
        return value.text if value else ""


@dataclass(slots=True)
class Ini:
    """The sections in the order in which they are first named; the order is part of what they mean."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: list[ConfProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_ini(texts: Sequence[tuple[str, str]]) -> Ini:
    """The sections of all *texts*, (file name, text) pairs. What is malformed is a problem and is left out."""
    reader = _Reader()
    for file, text in texts:
        reader.read(file, text.removeprefix("\ufeff"))
    ini = reader.ini
    if texts and not ini.sections and not ini.problems:
        ini.problems.append(ConfProblem(texts[0][0], None, "", "", "there is no section in it"))
    return ini


def _header(bare: str) -> str:
    """The name in ``[NAME]``, or nothing; *bare* has no blanks around it."""
    return bare[1:-1].strip(_BLANK) if bare.startswith("[") and bare.endswith("]") else ""


def _setting(line: str) -> tuple[str, str] | None:
    """The key and all that is behind its ``=``. Blanks at the end stay: they belong to the end of a here-document."""
    key, equals, text = line.partition("=")
    key = key.strip(_BLANK)
    return (key, text.lstrip(_BLANK)) if key and equals else None


class _Reader:
    def __init__(self) -> None:
        self.ini = Ini()
        self._keys: dict[str, dict[str, Value]] = {}
        self._file = ""
        self._line = 0
        self._section = ""
        self._settings = 0

    @property
    def full(self) -> bool:
        """Whether there is too much of it, or too much of it is wrong: the rest is not read."""
        return len(self.ini.problems) > MAX_PROBLEMS or self._settings > MAX_SETTINGS

    def read(self, file: str, text: str) -> None:
        self._file, self._section = file, ""
        lines = iter(enumerate(_NEWLINE.split(text), 1))
        for self._line, line in lines:
            if self.full:
                return
            bare = line.strip(_BLANK)
            if not bare or bare[0] in "#;":
                continue
            if len(line) > MAX_LINE:
                self._problem("", f"is longer than {MAX_LINE} characters")
            elif "\0" in line:
                self._problem("", "has a NUL in it")
            elif _NO_TEXT.search(line):
                self._problem("", "is not UTF-8 text")
            elif name := _header(bare):
                self._open(name)
            elif setting := _setting(line):
                self._set(*setting, lines)
            else:
                self._problem("", f"is neither a section nor a setting: {bare}")

    def _counted(self) -> None:
        self._settings += 1
        if self._settings > MAX_SETTINGS:
            self._problem("", f"there are more than {MAX_SETTINGS} sections and settings")

    def _open(self, name: str) -> None:
        self._section = name
        if name not in self._keys:
            self._counted()
            self._keys[name] = {}
            self.ini.sections[name] = Section(name, self._file, self._line, self._keys[name])

    def _set(self, key: str, text: str, lines: Iterator[tuple[int, str]]) -> None:
        value = Value(text.strip(_BLANK), self._file, self._line)
        if text.startswith("<<"):
            value = replace(value, text=self._here_document(key, text[2:], lines).strip(_BLANK))
        if not self._section:
            self._problem(key, "stands outside of any section")
            return
        self._counted()
        first = self._keys[self._section].setdefault(key, value)
        if first is not value:
            self._note(key, f"is set already at {first.file}:{first.line}; the first one counts")

    def _here_document(self, key: str, end: str, lines: Iterator[tuple[int, str]]) -> str:
        """The first line up to the one that says *end*; more lines are duplicates of the first."""
        found: list[str] = []
        for _, line in lines:
            if line == end:
                break
            if len(line) > MAX_LINE:
                self._problem(key, f"its text has a line longer than {MAX_LINE} characters")
                line = ""
            found.append(line)
        else:
            self._problem(key, f'there is no line "{end}" where its text would end')
        if len(found) > 1:
            self._note(key, f"of its {len(found)} lines the first one counts")
        return found[0] if found else ""

    def _problem(self, key: str, text: str) -> None:
        if len(self.ini.problems) == MAX_PROBLEMS:
            text = "there are more mistakes from here on"
        if len(self.ini.problems) <= MAX_PROBLEMS:
            self.ini.problems.append(ConfProblem(self._file, self._line, self._section, key, text))

    def _note(self, key: str, text: str) -> None:
        self.ini.notes.append(str(ConfProblem(self._file, self._line, self._section, key, text)))
