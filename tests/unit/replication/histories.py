"""Histories as one line of text, and a model of what ZFS does with a plan."""

from collections.abc import Iterable

from replication.history import Base, SourceHistory, TargetSnapshot, TargetState
from replication.steps import Abort, Full, Incremental, Plan, Resume
from zfs.model import Bookmark, ResumeState, Snapshot

DATASET = "tank/home"
BEGAN = 1_700_000_000


def guid_of(letter: str) -> int:
    """The guid of the version called *letter*; its place in the alphabet is also its place in time."""
    return 0xA000_0000_0000_0000 + ord(letter)


def history(text: str, *, encrypted: bool = True) -> SourceHistory:
    """``"@a #b @c"``: snapshot a, what is left of b, snapshot c. Order of letters is order in time."""
    snapshots, bookmarks = [], []
    for word in text.split():
        kind, letter = word[0], word[1]
        age = ord(letter) - ord("a")
        fields = (DATASET, letter, guid_of(letter), 100 + age, BEGAN + 3600 * age)
        if kind == "@":
            snapshots.append(Snapshot(*fields))
        else:
            bookmarks.append(Bookmark(DATASET, f"mark-{letter}", *fields[2:]))
    return SourceHistory(DATASET, tuple(snapshots), tuple(bookmarks), encrypted)


def replica(text: str, resume: ResumeState | None = None) -> TargetState:
    """``"@a @c"`` as the target has it, in that order."""
    letters = [word[1] for word in text.split()]
    received = tuple(
        TargetSnapshot(letter, guid_of(letter), 9000 + place, BEGAN + 3600 * (ord(letter) - ord("a")))
        for place, letter in enumerate(letters)
    )
    return TargetState(exists=bool(letters) or resume is not None, snapshots=received, resume=resume)


def cut_short(to: str, base: str | None = None, *, raw: bool = True) -> ResumeState:
    """What is left of a stream *base* -> *to* that broke."""
    return ResumeState(guid_of(to), guid_of(base) if base else None, to, 7, 4096, 1 << 20, raw)


class Broken(AssertionError):
    """The plan asked for something that ZFS refuses, or that would overwrite."""


class ModelTarget:
    """Receives as ZFS does without force: only onto the newest snapshot, only what fits."""

    def __init__(self, state: TargetState) -> None:
        self.snapshots = list(state.oldest_first())
        self.exists = state.exists
        self.resume = state.resume

    def execute(self, plan: Plan, source: SourceHistory) -> None:
        for step in plan.steps:
            if isinstance(step, Abort):
                self._abort(step)
            else:
                self._receive(step, source)

    def state(self) -> TargetState:
        return TargetState(self.exists, tuple(self.snapshots), self.resume)

    def _abort(self, step: Abort) -> None:
        if self.resume is None or self.resume.to_guid != step.to_guid:
            raise Broken("nothing to abort")
        self.resume = None
        self.exists = bool(self.snapshots)

    def _receive(self, step: Full | Incremental | Resume, source: SourceHistory) -> None:
        base = None if isinstance(step, Full) else step.base
        self._check_source(base, step, source)
        newest = self.snapshots[-1].guid if self.snapshots else None
        if newest != (base.guid if base else None):
            raise Broken("does not begin at the target's newest snapshot")
        if isinstance(step, Resume):
            if self.resume is None or self.resume.to_guid != step.to.guid:
                raise Broken("nothing to resume")
            if (self.resume.object, self.resume.offset) != (step.object, step.offset):
                raise Broken("resumes somewhere else")
        elif self.resume is not None:
            raise Broken("a partly received stream is in the way")
        elif base is None and self.exists:
            raise Broken("would overwrite")
        if step.target_name in {one.name for one in self.snapshots}:
            raise Broken("the name is taken")
        txg = 9000 + len(self.snapshots)
        self.snapshots.append(TargetSnapshot(step.target_name, step.to.guid, txg, step.to.creation))
        self.exists, self.resume = True, None

    @staticmethod
    def _check_source(base: Base | None, step: Full | Incremental | Resume, source: SourceHistory) -> None:
        if step.to not in source.snapshots:
            raise Broken("the source has no such snapshot")
        if base is not None and base not in (*source.snapshots, *source.bookmarks):
            raise Broken("the source has no such base")
        if base is not None and base.createtxg >= step.to.createtxg:
            raise Broken("the base is not older")


def shown(steps: Iterable[object]) -> str:
    """``"full a, a->b, resume b->c, abort d"``."""
    words = []
    for step in steps:
        match step:
            case Full(to=to):
                words.append(f"full {to.name}")
            case Incremental(base=base, to=to):
                words.append(f"{_mark(base)}->{to.name}")
            case Resume(base=base, to=to):
                words.append(f"resume {_mark(base) if base else ''}->{to.name}")
            case Abort(to_guid=guid):
                words.append(f"abort {chr(guid & 0xFF)}")
    return ", ".join(words)


def _mark(base: Base) -> str:
    return f"#{base.name[-1]}" if isinstance(base, Bookmark) else base.name
