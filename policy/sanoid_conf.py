"""sanoid.conf as the second front end of `policy.rules`: read as sanoid 2.3.0 reads it, and what every dataset gets.

The order of the sections matters, because sanoid unfolds them one after the other: a recursive section writes all its
values over what its descendants have by then, and a section of a descendant that comes later changes only what it sets.
A list of where we differ on purpose is in docs/sanoid.md.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from policy.rules import Chosen, Policy, PoolLimits, Resolution, holds_replicas, taken_along
from policy.sanoid_ini import ConfProblem, Section, Value, read_ini
from policy.sanoid_keys import (
    FALSE,
    KEYS,
    TRUE,
    Guess,
    is_yes,
    number,
    policy_of,
    pool_limits_of,
    reaches_by_zfs,
)
from zfs.names import parent_of, pool_of

_OF_ITS_SECTION = frozenset({"recursive", "use_template"})
"""What never comes from a template."""

_NOT_HANDED_DOWN = frozenset({"recursive", "use_template", "process_children_only"})
"""What a recursive section keeps to itself."""

_WITHOUT_MEANING_IN_A_TEMPLATE = ("recursive", "use_template", "path", "skip_children")

_DEFAULTS = {key: default for key, (_, default) in KEYS.items() if key not in _NOT_HANDED_DOWN}


class SanoidConfError(Exception):
    """The configuration has mistakes, all of which are in `problems`. Nothing was changed."""

    def __init__(self, problems: Sequence[ConfProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class SanoidConf:
    """A sanoid.conf without mistakes: its sections in order, and what a person should know of it."""

    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()

    def resolve(
        self, datasets: Iterable[str], replica_roots: Collection[str] = (), timezone: str = "UTC"
    ) -> Resolution:
        """What every dataset gets. Nothing at or below a replica root gets a policy.

        *timezone* is that of the times of day: UTC with sanoid's own units, else what sanoid's process had.
        """
        existing = list(datasets)
        unfolded = _unfold(self.sections, _below(existing))
        return _Choice(existing, replica_roots, timezone, [*self.notes, *unfolded.notes]).of(unfolded)


def read(texts: Sequence[tuple[str, str]]) -> SanoidConf:
    """The configuration that (file name, text) pairs make: sanoid.conf, then the fragments of sanoid.d by name.

    They are read as one. Raises SanoidConfError.
    """
    ini = read_ini(texts)
    problems, notes = list(ini.problems), list(ini.notes)
    guess = Guess()
    names = frozenset(one.template for one in ini.sections.values() if one.template is not None)
    for section in ini.sections.values():
        for key, value in section.keys.items():
            problem, mistake = _judged(section, key, value, guess)
            if problem is not None and mistake:
                problems.append(problem)
            elif problem is not None:
                notes.append(str(problem))
        notes += _ignored(section, names, guess)
    if problems:
        order = {file: position for position, (file, _) in enumerate(texts)}
        raise SanoidConfError(sorted(problems, key=lambda problem: (order[problem.file], problem.line or 0)))
    return SanoidConf(tuple(ini.sections.values()), tuple(notes))


def _judged(section: Section, key: str, value: Value, guess: Guess) -> tuple[ConfProblem | None, bool]:
    """What is to be said of one setting, and whether it is a mistake."""
    if key not in KEYS:
        problem = ConfProblem(
            value.file, value.line, section.name, key, "is no setting of sanoid", guess.like(key, KEYS)
        )
        return problem, True
    remark = KEYS[key][0](value.text)
    if remark is None:
        return None, False
    problem = ConfProblem(value.file, value.line, section.name, key, remark.text, remark.suggestion)
    return problem, remark.mistake


def _ignored(section: Section, templates: Collection[str], guess: Guess) -> Iterable[str]:
    """Notes on what is set and means nothing to sanoid either."""
    if section.template is not None:
        for key in _WITHOUT_MEANING_IN_A_TEMPLATE:
            if key in section.keys:
                yield _note(section, key, "means nothing in a template")
        return
    for name in dict.fromkeys(_templates(section)):
        if name not in templates:
            yield _note(
                section, "use_template", f'there is no template "{name}"', guess.like(name, templates)
            )


def _note(section: Section, key: str, text: str, suggestion: str = "") -> str:
    value = section.keys.get(key)
    file, line = (value.file, value.line) if value else (section.file, section.line)
    return str(ConfProblem(file, line, section.name, key, text, suggestion))


def _templates(section: Section) -> list[str]:
    return [name.strip() for name in section.get("use_template").split(",") if name.strip()]


@dataclass(slots=True)
class _Entry:
    """What sanoid has for one section or one descendant of a recursive one, while the sections are unfolded.

    `of` is the section that wrote to it last, `inherited` if that was one above; `explicit` if it has one of its own.
    `zfs` is sanoid's zfs_recursion, and `top` the dataset whose snapshots are taken of this one too.
    """

    keys: dict[str, str]
    path: str
    of: str
    explicit: bool
    inherited: bool = False
    zfs: bool = False
    top: str = ""

    @property
    def children_only(self) -> bool:
        return is_yes(self.keys.get("process_children_only", ""))


@dataclass(slots=True)
class _Unfolded:
    entries: dict[str, _Entry] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _below(existing: Iterable[str]) -> dict[str, list[str]]:
    """For every dataset there is, what is below it."""
    found: dict[str, list[str]] = {dataset: [] for dataset in existing}
    for dataset in found:
        above = parent_of(dataset)
        while above is not None:
            if above in found:
                found[above].append(dataset)
            above = parent_of(above)
    return found


def _unfold(sections: Sequence[Section], below: Mapping[str, Sequence[str]]) -> _Unfolded:
    """Sanoid's `init`; *below* has all datasets that exist."""
    by_name = {section.name: section for section in sections}
    default = _texts(by_name.get("template_default"), _OF_ITS_SECTION)
    found = _Unfolded()
    for section in sections:
        if section.template is not None:
            continue
        entry = found.entries.get(section.name)
        if entry is None:
            entry = _Entry({**_DEFAULTS, **default}, "", "", explicit=True)
            found.entries[section.name] = entry
        for name in _templates(section):
            entry.keys |= _texts(by_name.get(f"template_{name}"), _OF_ITS_SECTION)
        entry.keys |= _texts(section, _OF_ITS_SECTION | {"skip_children"})
        entry.path = section.get("path") or section.name
        entry.of, entry.explicit, entry.inherited = section.name, True, False
        if entry.zfs and _is_one(entry.keys["autosnap"]):
            text = f"has no effect: {entry.path} is part of a zfs recursion"
            found.notes.append(_note(section, "autosnap", text))
            entry.keys["autosnap"] = "0"
        _reach_down(found, section, entry, below.get(entry.path, ()))
    return found


def _texts(section: Section | None, but: Collection[str]) -> dict[str, str]:
    if section is None:
        return {}
    return {key: value.text for key, value in section.keys.items() if key not in but}


def _is_one(switch: str) -> bool:
    """Perl's ``== 1`` behind sanoid's reading of a switch."""
    return switch in TRUE or (switch not in FALSE and number(switch) == 1)


def _reach_down(found: _Unfolded, section: Section, entry: _Entry, below: Iterable[str]) -> None:
    by_zfs = reaches_by_zfs(section.get("recursive"))
    each, skip = section.get("recursive") in TRUE, section.get("skip_children") in TRUE
    if not (by_zfs or each or skip):
        return
    entry.zfs |= by_zfs
    if by_zfs and entry.children_only:
        text = "takes nothing with process_children_only: its snapshots are those of what is below"
        found.notes.append(_note(section, "recursive", text))
    top = entry.path  # a section with `path=` may lie below that itself, and then hands down to itself
    for dataset in below:
        if skip and not by_zfs:
            gone = found.entries.pop(dataset, None)
            if gone is not None:
                found.skipped[dataset] = f"skip_children of [{section.name}] in sanoid.conf"
            if gone is not None and gone.zfs:
                text = "what is below is snapped by the zfs recursion all the same, and nobody prunes it"
                found.notes.append(_note(section, "skip_children", text))
        else:
            _hand_down(found, entry, dataset, by_zfs, top)


def _hand_down(found: _Unfolded, parent: _Entry, dataset: str, by_zfs: bool, top: str) -> None:
    child = found.entries.setdefault(dataset, _Entry({}, dataset, parent.of, explicit=False))
    if child.explicit and child.of != parent.of:
        found.notes.append(
            f"[{parent.of}] writes over all that [{child.of}] sets, because it comes later in sanoid.conf"
        )
    handed = {key: text for key, text in parent.keys.items() if key not in _NOT_HANDED_DOWN}
    if by_zfs:
        handed["autosnap"] = "0"
    if parent.zfs:
        takes = is_yes(parent.keys["autosnap"]) and not parent.children_only
        child.zfs, child.top = True, top if takes else parent.top
    child.keys |= handed
    child.path, child.of, child.inherited = dataset, parent.of, True
    found.skipped.pop(dataset, None)


class _Choice:
    """One policy for every dataset out of the entries that name it."""

    def __init__(
        self, existing: Sequence[str], replica_roots: Collection[str], timezone: str, notes: list[str]
    ) -> None:
        self._existing = existing
        self._names = frozenset(existing)
        self._replica_roots = replica_roots
        self._timezone = timezone
        self._notes = notes
        self._policies: dict[tuple[str, ...], Policy] = {}
        self._chosen: dict[str, Chosen] = {}
        self._excluded: dict[str, str] = {}

    def of(self, unfolded: _Unfolded) -> Resolution:
        self._excluded |= unfolded.skipped
        # What a section names comes before what is only below one: sanoid would obey both.
        ordered = sorted(unfolded.entries.items(), key=lambda item: not item[1].explicit)
        for name, entry in ordered:
            if entry.path in self._names:
                self._choose(name, entry)
        unmatched = [entry.path for entry in unfolded.entries.values() if entry.path not in self._names]
        for dataset in self._chosen:
            self._excluded.pop(dataset, None)
        return Resolution(
            {dataset: self._chosen[dataset] for dataset in self._existing if dataset in self._chosen},
            self._excluded,
            tuple(dict.fromkeys(unmatched)),
            _pools(unfolded.entries),
            tuple(dict.fromkeys(self._notes)),
        )

    def _choose(self, name: str, entry: _Entry) -> None:
        replicas = holds_replicas(entry.path, self._replica_roots)
        if replicas or entry.children_only:
            self._excluded[entry.path] = replicas or "process_children_only: only what is below it"
        elif entry.path in self._chosen:
            first = self._chosen[entry.path].policy.name
            self._notes.append(f"[{name}] is for {entry.path}, as [{first}] is; only [{first}] counts")
        else:
            self._chosen[entry.path] = self._with_reason(entry)

    def _with_reason(self, entry: _Entry) -> Chosen:
        policy = self._policy(entry)
        reason = f"[{entry.of}] in sanoid.conf" + (", recursive" if entry.inherited else "")
        if entry.top and not policy.autosnap:
            reason += f"; its snapshots are taken with those of {entry.top}"
        if not (entry.zfs and policy.autosnap):
            return Chosen(policy, reason)
        return Chosen(policy, reason, True, taken_along(entry.path, self._existing, self._replica_roots))

    def _policy(self, entry: _Entry) -> Policy:
        key = (entry.of, *(entry.keys[name] for name in _DEFAULTS))
        if key not in self._policies:
            self._policies[key] = policy_of(entry.of, entry.keys, self._timezone)
        return self._policies[key]


def _pools(entries: Mapping[str, _Entry]) -> dict[str, PoolLimits]:
    """The limits of each pool: those of its own section, else of the first section of one of its datasets."""
    found: dict[str, PoolLimits] = {}
    for entry in entries.values():
        pool = pool_of(entry.path)
        if pool not in found or entry.path == pool:
            found[pool] = pool_limits_of(entry.keys)
    return found
