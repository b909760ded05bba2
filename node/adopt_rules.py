"""Whether a copy that another program made may become a replica here, and what of it has to change. Pure."""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from node.errors import Exit, MeshkeepError
from node.replica_places import ROOT_PROPERTIES
from replication.guard import FLOOR_HOLD
from zfs.model import Look, Snapshot
from zfs.names import is_below

NOTE = "meshkeep:adopted"
"""On an adopted dataset: where it was, since when it is here, and what was set on it. JSON."""

MAX_NOTE = 8191
"""Bytes that a user property holds."""

# What would mount, share, open or limit a replica; and user properties, by which other programs know what is theirs.
_INHERITED = frozenset({*ROOT_PROPERTIES, "sharenfs", "sharesmb", "overlay", "volmode", "snapdev"}) - {
    "canmount"
}
_LIMITS = frozenset(
    {"quota", "refquota", "reservation", "refreservation", "filesystem_limit", "snapshot_limit"}
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the owner, or a list on paper, says: which guids are its own. `encrypted` is None on paper."""

    guids: frozenset[int]
    encrypted: bool | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of a copy. `own` is what is set on it, `clones` what was cloned from it; `known` None for foreign."""

    name: str
    to: str
    source: str
    look: Look
    own: Mapping[str, str] = field(default_factory=dict)
    clones: Mapping[str, Sequence[str]] = field(default_factory=dict)
    known: Known | None = None

    @property
    def base(self) -> Snapshot | None:
        """The newest snapshot that the owner has too."""
        mine = [one for one in self.look.snapshots if self.known and one.guid in self.known.guids]
        return mine[-1] if mine else None

    @property
    def foreign(self) -> bool:
        """Whether nothing of it is the owner's."""
        return self.base is None

    @property
    def clears(self) -> dict[str, str]:
        """What is set on it and may not stay."""
        changed = _INHERITED | _LIMITS | {"canmount"}
        return {name: value for name, value in sorted(self.own.items()) if name in changed or _users(name)}

    @property
    def inherits(self) -> list[str]:
        """Which of those it is to have from the owner's root."""
        return [name for name in self.clears if name in _INHERITED or _users(name)]

    @property
    def sets(self) -> dict[str, str]:
        """What cannot be inherited, and is set."""
        return {name: "none" for name in self.clears if name in _LIMITS} | {"canmount": "noauto"}


def _users(name: str) -> bool:
    return ":" in name and name != NOTE


def judge(
    parts: Sequence[Part], *, owner: str, only_raw: bool, named: Collection[str], unmount: bool
) -> None:
    """Raises MeshkeepError with the first reason why not. *parts*: the dataset itself first; `named` by the person."""
    top = parts[0]
    if top.foreign:
        raise _refused(
            f"{top.name} is no copy of {owner}:{top.source}",
            "no_common_guid",
            "they have no snapshot in common, by guid"
            if top.look.snapshots
            else f"{top.name} has no snapshot",
            f"on {owner}: zfs list -t snapshot -o name,guid {top.source}",
        )
    for part in parts:
        if part.foreign and part.name not in named:
            raise _refused(
                f"{part.name} would come along, and is no copy of {owner}:{part.source}",
                "foreign_child",
                f"what lies below {owner}'s root, {owner} may list and read",
                f"zfs rename it to another place, or name it: --with {part.name}",
            )
        _judge_use(part, named, unmount)
        _judge_keys(part, top)
        if not part.foreign:
            _judge_copy(part, owner, only_raw)


def _judge_use(part: Part, named: Collection[str], unmount: bool) -> None:
    cloned = sorted({clone for made in part.clones.values() for clone in made} - set(named))
    if cloned:
        raise _refused(
            f"{cloned[0]} was cloned from {part.name}",
            "has_clones",
            "as long as it is there, the snapshot that it was made from can never go",
            f"zfs promote it, or name it: --with {cloned[0]}",
        )
    if part.look.dataset.mounted and not unmount:
        raise _refused(
            f"{part.name} is mounted",
            "mounted",
            "a replica is mounted nowhere, and whoever uses it now would lose it",
            "if nobody does: --unmount",
        )


def _judge_keys(part: Part, top: Part) -> None:
    root = part.look.dataset.encryption_root
    if root is not None and root != top.name and not is_below(root, top.name):
        raise _refused(
            f"{part.name} has its key from {root}",
            "key_of_another",
            "it was encrypted here, not received raw: no raw stream can ever be added to it, and it cannot leave its "
            "encryption root",
            "make a new copy: meshkeep replicate add, on the owner",
        )


def _judge_copy(part: Part, owner: str, only_raw: bool) -> None:
    dataset, label = part.look.dataset, f"{owner}:{part.source}"
    if only_raw and not dataset.encrypted:
        raise _refused(
            f"{part.name} is in plaintext, and this is a vault",
            "plaintext_to_vault",
            "a vault keeps raw encrypted copies only",
            f"on {owner}: meshkeep encrypt {part.source}, then a new copy; and destroy this one",
        )
    encrypted = part.known.encrypted if part.known else None
    if encrypted is not None and encrypted != dataset.encrypted:
        raise _refused(
            f"{part.name} is {_form(dataset.encrypted)}, and {label} is {_form(encrypted)}",
            "mixed_modes",
            "raw and plain streams of one dataset are never mixed",
            "make a new copy: meshkeep replicate add, on the owner",
        )
    newest, base = part.look.snapshots[-1], part.base
    if base is not None and newest.guid != base.guid:
        later = [one for one in part.look.snapshots if one.createtxg > base.createtxg]
        raise _refused(
            f"{part.name} has {len(later)} snapshots after the last that {label} has too",
            "diverged",
            f"the last in common is @{base.name}; what is added must begin at the newest here",
            f"look at them, and if they are not wanted: zfs destroy {part.name}@{later[0].name}%{newest.name}",
        )
    if dataset.written and dataset.kind == "filesystem":
        raise _refused(
            f"{part.name} was changed since its newest snapshot ({dataset.written} bytes written)",
            "changed_here",
            "ZFS adds nothing to a copy that was changed; it is enough that it was mounted without readonly=on",
            f"if the changes are not wanted: zfs rollback {newest.full_name}",
        )


def note(part: Part, at: int, before: str | None) -> str:
    """The value of NOTE; what an earlier attempt noted stays true. Raises MeshkeepError if it is too long."""
    known = _read(before)
    earlier = known.get("set")
    was = dict(earlier) if isinstance(earlier, dict) else {}
    for name, value in part.clears.items():
        if not name.startswith("meshkeep:") and part.sets.get(name) != value:
            was.setdefault(name, value)
    text = json.dumps({"from": known.get("from", part.name), "at": at, "set": was}, sort_keys=True)
    if len(text.encode()) > MAX_NOTE:
        raise _refused(
            f"more is set on {part.name} than can be noted beside it",
            "too_many_properties",
            f"{len(part.clears)} properties would be cleared, and nothing would say how they were",
            f"zfs get -s local,received all {part.name}",
        )
    return text


def _read(text: str | None) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("set", {}), dict) else {}


def undo(parts: Sequence[Part], named: str) -> list[str]:
    """Commands that put it back as it was, for the one dataset *named*."""
    top = parts[0]
    lines = [f"zfs rename {shlex.quote(top.to)} {shlex.quote(named)}"]
    for part in parts:
        words = [f"{name}={value}" for name, value in part.clears.items()]
        if words and all(word.isprintable() for word in words):
            lines.append(shlex.join(["zfs", "set", "-u", *words, part.name]))
        if not part.foreign:
            lines.append(
                f"zfs release {FLOOR_HOLD} {shlex.quote(part.name)}@SNAPSHOT, for each that is to go"
            )
    return lines


def _form(encrypted: bool) -> str:
    return "encrypted" if encrypted else "in plaintext"


def _refused(what: str, code: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code=code, exit=Exit.REFUSED, why=why, hint=hint)
