"""The planner against the model of ZFS: every small pair of histories, every stream cut short, every selection.

What a plan says, ZFS does, and then the target is up to date; a conflict is one only if nothing at all leads there
without force. The largest spaces are for `make soak`.
"""

from collections.abc import Iterator
from itertools import chain, combinations, product

import pytest

from replication.conflicts import Conflict
from replication.history import Initial, OnDivergence, Rule, SourceHistory, TargetState
from replication.plan import plan
from replication.selector import Selector
from replication.steps import Abort, Full, Plan, Resume, Rotate, UpToDate
from tests.unit.replication import model
from tests.unit.replication.histories import cut_short, history, replica
from zfs.model import Bookmark


def letter(guid: int) -> str:
    return chr(guid & 0xFF)


def subsets(letters: str) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(letters, count) for count in range(len(letters) + 1))


def sources(letters: str) -> Iterator[tuple[model.Source, SourceHistory]]:
    for chosen in product(KINDS, repeat=len(letters)):
        marks = [(kind, one) for one, word in zip(letters, chosen, strict=True) for kind in word]
        text = " ".join(kind + one for kind, one in marks)
        snapshots, bookmarks = (frozenset(one for kind, one in marks if kind == mark) for mark in "@#")
        yield model.Source(snapshots, bookmarks), history(text)


def partials(letters: str) -> Iterator[tuple[str | None, str] | None]:
    yield None
    for to in letters:
        yield from ((base, to) for base in (None, *(one for one in letters if one < to)))


def targets(letters: str, *, cut: bool) -> list[tuple[model.Target, TargetState]]:
    found = []
    for chosen in subsets(letters):
        text = " ".join(f"@{one}" for one in chosen)
        for partial in partials(letters) if cut else [None]:
            resume = None if partial is None else cut_short(partial[1], partial[0])
            found.append((model.Target(chosen, partial), replica(text, resume)))
    if not cut:
        found.append((model.Target(empty=True), TargetState(exists=True)))
    return found


class Judge:
    """Holds a decision against the model. Reachability is asked once for all targets that have the same future."""

    def __init__(
        self, wanted: str, initial: Initial = "all", on_divergence: OnDivergence = "conflict"
    ) -> None:
        self.wanted, self.initial = frozenset(wanted), initial
        self.rule = Rule(
            "cloud",
            "vault",
            raw=True,
            initial=initial,
            on_divergence=on_divergence,
            selector=Selector(names=f"[{wanted}]" if wanted else "-"),
        )
        self.checked = self.rotated = 0

    def judge(
        self, source: model.Source, ours: SourceHistory, target: model.Target, there: TargetState
    ) -> None:
        self.checked += 1
        decided = plan(ours, there, self.rule)
        if isinstance(decided, Conflict):
            assert not model.can_come_up_to_date(source, target, self.wanted), "there was a way"
            replaceable = target.snapshots and source.snapshots & self.wanted
            assert not replaceable or self.rule.on_divergence == "conflict", "it could be kept aside"
            return
        if isinstance(decided, Plan) and any(isinstance(step, Rotate) for step in decided.steps):
            self._rotates(source, target, decided)
            return
        self._base(source, target, decided)
        after = self._applied(source, target, decided) if isinstance(decided, Plan) else target
        assert after.snapshots[: len(target.snapshots)] == target.snapshots, (
            "a snapshot of the target is gone"
        )
        assert model.is_up_to_date(source, after, self.wanted)

    def _rotates(self, source: model.Source, target: model.Target, decided: Plan) -> None:
        """Only where nothing else leads there, and all that the target had is there still, under another name."""
        assert self.rule.on_divergence == "rotate", "nobody said so"
        assert not model.can_come_up_to_date(source, target, self.wanted), "there was a way without"
        self.rotated += 1
        after = self._applied(source, target, decided)
        assert after.aside == (*target.aside, target.snapshots)
        assert after.snapshots, "the target is left without a replica"
        assert model.is_up_to_date(source, after, self.wanted)
        assert decided.base is None

    def _base(self, source: model.Source, target: model.Target, decided: Plan | UpToDate) -> None:
        common = model.newest_common(source, target)
        assert (None if decided.base is None else letter(decided.base.guid)) == common
        if common is not None and common in source.snapshots:
            assert not isinstance(decided.base, Bookmark), "a snapshot is a better base than its bookmark"

    def _applied(self, source: model.Source, target: model.Target, decided: Plan) -> model.Target:
        for step in decided.steps:
            if isinstance(step, Abort):
                target = model.abort(target)
                continue
            if isinstance(step, Rotate):
                assert letter(step.newest_guid) == target.newest
                target = model.rename(target)
                continue
            base = None if isinstance(step, Full) else step.base
            to = letter(step.to.guid)
            rest = isinstance(step, Resume)
            assert rest or to in self.wanted, "what is not selected is sent"
            if isinstance(step, Full):
                first = min if self.initial == "all" else max
                assert to == first(source.snapshots & self.wanted)
            target = model.receive(source, target, letter(base.guid) if base else None, to, rest=rest)
        return target


KINDS = ("", "@", "#", "#@")


@pytest.mark.parametrize(
    ("letters", "cut", "count"),
    [
        ("abcdef", False, 4**6 * (2**6 + 1)),
        ("abcd", True, 4**4 * 2**4 * 11),
        pytest.param("abcdef", True, 4**6 * 2**6 * 22, marks=pytest.mark.soak),
    ],
)
def test_every_pair_of_histories(letters: str, cut: bool, count: int) -> None:
    judge = Judge(letters)
    there = targets(letters, cut=cut)
    for source, ours in sources(letters):
        for target, state in there:
            judge.judge(source, ours, target, state)
    assert judge.checked == count


@pytest.mark.parametrize(
    ("letters", "cut", "rotated"),
    [
        ("abcd", True, (4**3 - 2**3) * (2**4 - 1) * 11),
        pytest.param("abcdef", False, (4**5 - 2**5) * (2**6 - 1), marks=pytest.mark.soak),
        pytest.param("abcdef", True, (4**5 - 2**5) * (2**6 - 1) * 22, marks=pytest.mark.soak),
    ],
)
def test_every_pair_of_histories_where_the_rule_is_to_keep_the_old_aside(
    letters: str, cut: bool, rotated: int
) -> None:
    """That is: the source has something to send, and no version of what the target ends with."""
    judge = Judge(letters, on_divergence="rotate")
    there = targets(letters, cut=cut)
    for source, ours in sources(letters):
        for target, state in there:
            judge.judge(source, ours, target, state)
    assert judge.rotated == rotated


@pytest.mark.parametrize("letters", ["abc", pytest.param("abcd", marks=pytest.mark.soak)])
@pytest.mark.parametrize("initial", ["all", "newest"])
def test_every_selection(letters: str, initial: Initial) -> None:
    for wanted in subsets(letters):
        judge = Judge("".join(wanted), initial)
        for cut in (False, True):
            there = targets(letters, cut=cut)
            for source, ours in sources(letters):
                for target, state in there:
                    judge.judge(source, ours, target, state)


class TestTheModel:
    """It can say no."""

    SOURCE = model.Source(frozenset("bc"), frozenset("a"))

    @pytest.mark.parametrize(
        ("target", "base", "to"),
        [
            (model.Target(), None, "a"),
            (model.Target(), "a", "b"),
            (model.Target(("a",)), None, "b"),
            (model.Target(("a", "x")), "a", "b"),
            (model.Target(("a",), partial=("a", "b")), "a", "b"),
            (model.Target(empty=True), None, "b"),
            (model.Target(("c",)), "c", "b"),
        ],
    )
    def test_what_zfs_refuses(self, target: model.Target, base: str | None, to: str) -> None:
        with pytest.raises(model.Refused):
            model.receive(self.SOURCE, target, base, to)

    def test_what_it_takes(self) -> None:
        assert model.receive(self.SOURCE, model.Target(("a",)), "a", "c") == model.Target(("a", "c"))
        cut = model.Target(("a",), partial=("a", "b"))
        assert model.receive(self.SOURCE, cut, "a", "b", rest=True) == model.Target(("a", "b"))

    def test_no_way_is_no_way(self) -> None:
        assert not model.can_come_up_to_date(self.SOURCE, model.Target(("x",)), frozenset("bc"))
        assert model.can_come_up_to_date(self.SOURCE, model.Target(("a",), ("x", "y")), frozenset("bc"))
