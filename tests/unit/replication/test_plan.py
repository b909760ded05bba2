"""The planner: named cases, then every pair of small histories."""

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import pytest

from replication.conflicts import Conflict
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.plan import plan
from replication.selector import Selector
from replication.steps import Abort, Full, Incremental, Plan, Resume, UpToDate
from tests.unit.replication.histories import ModelTarget, cut_short, guid_of, history, replica, shown
from zfs.model import ResumeState

TO_VAULT = Rule("cloud", "vault", raw=True)
TO_MEMBER = Rule("laptop", "member", raw=True)
PLAIN_TO_MEMBER = Rule("laptop", "member", raw=False, allow_plaintext=True)


def steps_of(source: str, target: str | None, resume: ResumeState | None = None) -> str:
    there = None if target is None else replica(target, resume)
    decided = plan(history(source), there, TO_VAULT)
    assert isinstance(decided, Plan), decided
    return shown(decided.steps)


def conflict_of(source: str, target: str, resume: ResumeState | None = None) -> Conflict:
    decided = plan(history(source), replica(target, resume), TO_VAULT)
    assert isinstance(decided, Conflict), decided
    return decided


class TestWhereNothingIsYet:
    def test_all_history_goes_the_oldest_in_full(self) -> None:
        assert steps_of("@a @b @c", None) == "full a, a->b, b->c"

    def test_bookmarks_do_not_count(self) -> None:
        assert steps_of("#a @b #c @d", None) == "full b, b->d"

    def test_no_snapshot_is_nothing_to_send(self) -> None:
        decided = plan(history("#a"), None, TO_VAULT)
        assert isinstance(decided, UpToDate)
        assert decided.base is None

    def test_the_order_of_the_listing_does_not_matter(self) -> None:
        source = history("@a @b @c")
        for shuffled in permutations(source.snapshots):
            decided = plan(SourceHistory(source.dataset, shuffled, (), True), None, TO_VAULT)
            assert isinstance(decided, Plan)
            assert shown(decided.steps) == "full a, a->b, b->c"

    def test_a_dataset_without_snapshots_is_never_overwritten(self) -> None:
        decided = plan(history("@a"), TargetState(exists=True), TO_VAULT)
        assert isinstance(decided, Conflict)
        assert decided.kind == "target_occupied"


class TestCommonBase:
    def test_goes_on_from_the_newest_common_snapshot(self) -> None:
        assert steps_of("@a @b @c @d", "@a @b") == "b->c, c->d"

    def test_what_is_older_than_the_base_does_not_matter(self) -> None:
        assert steps_of("@a @b @c @d", "@c") == "c->d"

    def test_a_bookmark_will_do(self) -> None:
        assert steps_of("@a #b @c @d", "@a @b") == "#b->c, c->d"

    def test_the_snapshot_is_preferred_to_its_bookmark(self) -> None:
        assert steps_of("#a @a @b", "@a") == "a->b"

    def test_both_newest_equal_is_up_to_date(self) -> None:
        decided = plan(history("@a @b"), replica("@a @b"), TO_VAULT)
        assert isinstance(decided, UpToDate)
        assert decided.base is not None
        assert decided.base.guid == guid_of("b")

    def test_a_target_ahead_of_what_the_source_still_has_is_up_to_date(self) -> None:
        assert isinstance(plan(history("@a #b"), replica("@a @b"), TO_VAULT), UpToDate)

    def test_equal_names_mean_nothing(self) -> None:
        there = TargetState(True, (TargetSnapshot("a", 1, 9000, 0),))
        decided = plan(history("@a @b"), there, TO_VAULT)
        assert isinstance(decided, Conflict)
        assert decided.kind == "no_common_base"

    def test_a_renamed_snapshot_is_the_same(self) -> None:
        there = TargetState(True, (TargetSnapshot("another-name", guid_of("a"), 9000, 0),))
        decided = plan(history("@a @b"), there, TO_VAULT)
        assert isinstance(decided, Plan)
        assert shown(decided.steps) == "a->b"

    def test_a_name_that_is_taken_on_the_target_gets_the_guid_behind_it(self) -> None:
        taken = (TargetSnapshot("b", 1, 8000, 0), TargetSnapshot("a", guid_of("a"), 9000, 0))
        decided = plan(history("@a @b"), TargetState(True, taken), TO_VAULT)
        assert isinstance(decided, Plan)
        (step,) = decided.steps
        assert isinstance(step, Incremental)
        assert step.target_name == f"b_{guid_of('b'):016x}"


class TestSelector:
    """What is not selected is not sent, and is a base all the same."""

    def steps(self, source: str, target: str | None, names: str, **more: Any) -> str:
        rule = Rule("cloud", "vault", raw=True, selector=Selector(names=names), **more)
        decided = plan(history(source), None if target is None else replica(target), rule)
        return shown(decided.steps) if isinstance(decided, Plan) else type(decided).__name__

    def test_only_the_selected_are_sent(self) -> None:
        assert self.steps("@a @b @c @d", None, "[bd]") == "full b, b->d"

    def test_an_unselected_base_is_a_base(self) -> None:
        assert self.steps("@a @b @c @d", "@a", "[bd]") == "a->b, b->d"
        assert self.steps("#a @b @c @d", "@a", "d") == "#a->d"

    def test_nothing_selected_behind_the_base_is_up_to_date(self) -> None:
        assert self.steps("@a @b @c", "@b", "[ab]") == "UpToDate"

    def test_nothing_selected_at_all_is_nothing_to_send(self) -> None:
        assert self.steps("@a @b", None, "z") == "UpToDate"

    def test_a_stream_of_one_that_is_no_longer_selected_is_still_finished(self) -> None:
        rule = Rule("cloud", "vault", raw=True, selector=Selector(names="[ac]"))
        decided = plan(history("@a @b @c"), replica("@a", cut_short("b", "a")), rule)
        assert isinstance(decided, Plan)
        assert shown(decided.steps) == "resume a->b, b->c"

    def test_of_the_newest_only_what_is_selected_counts(self) -> None:
        assert self.steps("@a @b @c", None, "[ab]", initial="newest") == "full b"


class TestNewestFirst:
    RULE = Rule("cloud", "vault", raw=True, initial="newest")

    def steps(self, source: str, there: TargetState | None) -> str:
        decided = plan(history(source), there, self.RULE)
        assert isinstance(decided, Plan)
        return shown(decided.steps)

    def test_a_first_copy_begins_with_the_newest(self) -> None:
        assert self.steps("@a @b @c", None) == "full c"

    def test_afterwards_every_step_goes(self) -> None:
        assert self.steps("@a @b @c @d", replica("@b")) == "b->c, c->d"

    def test_what_was_begun_is_finished(self) -> None:
        assert self.steps("@a @b @c", replica("", cut_short("b"))) == "resume ->b, b->c"

    def test_a_vanished_beginning_is_dropped_for_the_newest(self) -> None:
        assert self.steps("@b @c", replica("", cut_short("a"))) == "abort a, full c"


class TestConflicts:
    def test_a_placeholder_says_what_it_was_made_for_and_what_to_do(self) -> None:
        rule = Rule("cloud", "vault", raw=True, nested=("tank/home/docs",))
        decided = plan(history("@a"), TargetState(exists=True), rule)
        assert isinstance(decided, Conflict)
        assert decided.kind == "target_occupied"
        assert "tank/home/docs" in decided.evidence[1]
        assert "zfs rename" in decided.text

    def test_a_target_that_went_on_by_itself_has_diverged(self) -> None:
        conflict = conflict_of("@a @c", "@a @b")
        assert conflict.kind == "diverged"
        assert conflict.evidence == (f"b (guid {guid_of('b')}) on cloud only",)
        assert "@b" in conflict.text

    def test_nothing_in_common(self) -> None:
        conflict = conflict_of("@c @d", "@a @b")
        assert conflict.kind == "no_common_base"
        assert len(conflict.evidence) == 2

    def test_a_source_without_any_version_has_no_base(self) -> None:
        assert conflict_of("", "@a").kind == "no_common_base"

    def test_plaintext_never_goes_to_a_vault(self) -> None:
        for rule in (
            Rule("cloud", "vault", raw=False, allow_plaintext=True),
            Rule("cloud", "vault", raw=False),
        ):
            decided = plan(history("@a", encrypted=False), None, rule)
            assert isinstance(decided, Conflict)
            assert decided.kind == "plaintext_to_vault"
            assert "choose a member" in decided.text
            assert decided.hint.startswith("zfs create -o encryption=on")

    def test_plaintext_goes_to_a_member_only_if_the_rule_says_so(self) -> None:
        refused = plan(history("@a", encrypted=False), None, Rule("laptop", "member", raw=False))
        assert isinstance(refused, Conflict)
        assert refused.kind == "plaintext_to_member"
        allowed = plan(history("@a", encrypted=False), None, PLAIN_TO_MEMBER)
        assert isinstance(allowed, Plan)
        assert not allowed.raw

    def test_encrypted_is_raw_to_a_member_too(self) -> None:
        for rule in (TO_MEMBER, PLAIN_TO_MEMBER):
            decided = plan(history("@a"), None, rule)
            assert isinstance(decided, Plan)
            assert decided.raw

    @pytest.mark.parametrize(("encrypted", "rule"), [(True, PLAIN_TO_MEMBER), (False, TO_MEMBER)])
    def test_the_mode_of_a_replica_never_changes(self, encrypted: bool, rule: Rule) -> None:
        rule = Rule(rule.target, rule.target_role, rule.raw, allow_plaintext=True)
        decided = plan(history("@a @b", encrypted=encrypted), replica("@a"), rule)
        assert isinstance(decided, Conflict)
        assert decided.kind == "mode_changed"


class TestResume:
    def test_a_first_stream_goes_on_and_the_rest_follows(self) -> None:
        assert steps_of("@a @b @c", "", cut_short("a")) == "resume ->a, a->b, b->c"

    def test_an_increment_goes_on_and_the_rest_follows(self) -> None:
        assert steps_of("@a @b @c", "@a", cut_short("b", "a")) == "resume a->b, b->c"

    def test_from_a_bookmark(self) -> None:
        assert steps_of("#a @b @c", "@a", cut_short("b", "a")) == "resume #a->b, b->c"

    def test_a_vanished_snapshot_is_given_up_for_the_next(self) -> None:
        assert steps_of("@a @c", "@a", cut_short("b", "a")) == "abort b, a->c"

    def test_a_first_stream_of_a_vanished_snapshot_starts_anew(self) -> None:
        assert steps_of("@b @c", "", cut_short("a")) == "abort a, full b, b->c"

    def test_only_a_bookmark_of_the_snapshot_is_left(self) -> None:
        assert steps_of("@a #b @c", "@a", cut_short("b", "a")) == "abort b, a->c"

    def test_a_stream_from_another_base_is_given_up(self) -> None:
        assert steps_of("@a @b @c", "@b", cut_short("c", "a")) == "abort c, b->c"

    def test_a_full_stream_where_there_are_snapshots_is_given_up(self) -> None:
        assert steps_of("@a @b", "@a", cut_short("b")) == "abort b, a->b"

    def test_a_stream_of_the_other_mode_is_given_up(self) -> None:
        assert steps_of("@a @b", "@a", cut_short("b", "a", raw=False)) == "abort b, a->b"

    def test_a_leftover_on_a_target_that_is_up_to_date_is_only_dropped(self) -> None:
        assert steps_of("@a", "@a", cut_short("b", "a")) == "abort b"

    def test_a_conflict_comes_before_any_abort(self) -> None:
        assert conflict_of("@a @c", "@a @b", cut_short("d", "b")).kind == "diverged"


LETTERS = "abcde"


def sources(letters: str) -> Iterator[str]:
    """Each version: absent, snapshot, bookmark, or both."""
    for kinds in product(("", "@", "#", "#@"), repeat=len(letters)):
        yield " ".join(
            f"{mark}{letter}" for letter, kind in zip(letters, kinds, strict=True) for mark in kind
        )


def targets(letters: str = LETTERS) -> Iterator[str]:
    for kinds in product((False, True), repeat=len(letters)):
        yield " ".join(f"@{letter}" for letter, there in zip(letters, kinds, strict=True) if there)


def resumes(letters: str) -> Iterator[ResumeState | None]:
    yield None
    for to in letters:
        yield cut_short(to)
        for base in letters:
            if base < to:
                yield cut_short(to, base)
    yield cut_short("c", "b", raw=False)


def check(source: SourceHistory, there: TargetState) -> None:
    """What holds for every decision."""
    decided = plan(source, there, TO_VAULT)
    known = {version.guid for version in (*source.snapshots, *source.bookmarks)}
    newest_there = there.oldest_first()[-1] if there.snapshots else None
    if isinstance(decided, Conflict):
        assert decided.evidence
        assert decided.text
        assert there.exists
        assert newest_there is None or newest_there.guid not in known
        return
    assert decided.reasons
    assert newest_there is None or (decided.base is not None and decided.base.guid == newest_there.guid)
    target = ModelTarget(there)
    if isinstance(decided, Plan):
        check_steps(decided, there)
        target.execute(decided, source)
    assert target.resume is None
    assert target.snapshots[: len(there.snapshots)] == there.oldest_first(), "something was lost"
    newest_source = max(source.snapshots, key=lambda one: one.createtxg, default=None)
    if newest_source and (decided.base is None or newest_source.createtxg > decided.base.createtxg):
        assert target.snapshots[-1].guid == newest_source.guid
    assert isinstance(plan(source, target.state(), TO_VAULT), UpToDate), "not idempotent"


def check_steps(decided: Plan, there: TargetState) -> None:
    assert decided.raw
    assert not any(isinstance(step, Full) for step in decided.steps) or not there.snapshots
    for place, step in enumerate(decided.steps):
        if isinstance(step, Resume | Abort):
            assert place == 0
            assert there.resume is not None
            assert step.to.guid == there.resume.to_guid if isinstance(step, Resume) else step.reason


@pytest.mark.parametrize("letters", [LETTERS, pytest.param("abcdef", marks=pytest.mark.soak)])
def test_every_pair_of_histories(letters: str) -> None:
    sides = [replica(text) for text in targets(letters)]
    for text in sources(letters):
        source = history(text)
        for there in sides:
            check(source, there)


@pytest.mark.parametrize("letters", ["abcd", pytest.param(LETTERS, marks=pytest.mark.soak)])
def test_every_pair_of_histories_with_every_stream_cut_short(letters: str) -> None:
    sides = [replica(text, resume) for text in targets(letters) for resume in resumes(letters)]
    for kinds in product(("", "@", "#"), repeat=len(letters)):
        source = history(
            " ".join(f"{kind}{letter}" for letter, kind in zip(letters, kinds, strict=True) if kind)
        )
        for there in sides:
            check(source, there)


def test_a_target_that_reports_its_snapshots_in_any_order_is_never_overwritten() -> None:
    for count in range(1, 5):
        for order in permutations("abcd", count):
            there = replica(" ".join(f"@{letter}" for letter in order))
            decided = plan(history("@a @b @c @d"), there, TO_VAULT)
            if isinstance(decided, Plan):
                ModelTarget(there).execute(decided, history("@a @b @c @d"))
