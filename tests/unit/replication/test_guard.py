"""Holds and bookmarks: the common base survives every crash between any two changes."""

from collections.abc import Iterator
from itertools import product

from replication.guard import (
    DEFAULT_PATIENCE,
    FLOOR_HOLD,
    Guard,
    Known,
    Leftover,
    Patience,
    applied,
    cursor_name,
    cursor_of,
    cursors_of,
    hold_tag,
    holder_of,
    let_go,
    orphans,
    reconcile,
)
from replication.history import SourceHistory
from tests.unit.replication.histories import DATASET, guid_of, history
from zfs.model import Bookmark

CLOUD = "abcdefgh23456789"
OTHER = "zzzzzzzz77777777"
NOW = 1_800_000_000


def cursor(letter: str, target: str = CLOUD) -> Bookmark:
    age = ord(letter) - ord("a")
    return Bookmark(DATASET, cursor_name(target, guid_of(letter)), guid_of(letter), 100 + age, 0)


def with_cursors(text: str, *cursors: Bookmark) -> SourceHistory:
    plain = history(text)
    return SourceHistory(plain.dataset, plain.snapshots, (*plain.bookmarks, *cursors), plain.encrypted)


def held(letters: str, target: str = CLOUD) -> dict[int, list[str]]:
    return {guid_of(letter): [hold_tag(target)] for letter in letters}


def apply(
    source: SourceHistory, tags: dict[int, list[str]], change: Guard
) -> Iterator[tuple[set[int], set[int]]]:
    """The guids (bookmarked, held) before, and after each single change in the order given."""
    by_name = {one.full_name: one.guid for one in (*source.snapshots, *source.bookmarks)}
    marks = {mark.guid for mark in source.bookmarks if cursor_of(mark) == CLOUD}
    holds = {guid for guid, names in tags.items() if change.tag in names}
    yield set(marks), set(holds)
    for snapshot, mark in change.create:
        marks.add(by_name[snapshot])
        assert mark == f"{DATASET}#{cursor_name(CLOUD, by_name[snapshot])}"
        yield set(marks), set(holds)
    for group, names in ((holds.add, change.hold), (holds.discard, change.release)):
        for name in names:
            group(by_name[name])
            yield set(marks), set(holds)
    for name in change.destroy:
        marks.discard(by_name[name])
        yield set(marks), set(holds)


class TestNames:
    def test_a_cursor_names_its_target_and_guid(self) -> None:
        assert cursor_name(CLOUD, 0xBEEF) == f"meshkeep_{CLOUD}_000000000000beef"
        assert cursor_of(cursor("a")) == CLOUD

    def test_a_bookmark_whose_name_lies_about_its_guid_is_not_ours(self) -> None:
        assert cursor_of(Bookmark(DATASET, cursor_name(CLOUD, 1), 2, 3, 4)) is None

    def test_foreign_bookmarks_and_holds_are_not_ours(self) -> None:
        assert cursor_of(Bookmark(DATASET, "zrepl_CURSOR_G_1_J_x", 1, 2, 3)) is None
        assert holder_of("zrepl_STEP_J_x") is None
        assert holder_of(FLOOR_HOLD) is None
        assert holder_of(hold_tag(CLOUD)) == CLOUD


class TestReconcile:
    def test_before_a_first_stream_its_snapshot_is_held_and_marked(self) -> None:
        change = reconcile(history("@a @b"), {}, CLOUD, common=None, to=[guid_of("a")])
        assert change.hold == (f"{DATASET}@a",)
        assert [snapshot for snapshot, _ in change.create] == [f"{DATASET}@a"]
        assert not change.release
        assert not change.destroy

    def test_before_a_step_both_ends_are_held_and_marked(self) -> None:
        source = with_cursors("@a @b @c", cursor("a"))
        change = reconcile(source, {}, CLOUD, common=guid_of("a"), to=[guid_of("b")])
        assert change.hold == (f"{DATASET}@a", f"{DATASET}@b")
        assert [snapshot for snapshot, _ in change.create] == [f"{DATASET}@b"]

    def test_after_a_step_only_the_cursor_of_the_new_base_stays(self) -> None:
        source = with_cursors("@a @b @c", cursor("a"), cursor("b"))
        change = reconcile(source, held("ab"), CLOUD, common=guid_of("b"))
        assert change.release == (f"{DATASET}@a", f"{DATASET}@b")
        assert change.destroy == (f"{DATASET}#{cursor_name(CLOUD, guid_of('a'))}",)

    def test_a_base_of_which_only_the_bookmark_is_left_is_kept(self) -> None:
        change = reconcile(with_cursors("@b", cursor("a")), {}, CLOUD, common=guid_of("a"), to=[guid_of("b")])
        assert change.hold == (f"{DATASET}@b",)
        assert not change.destroy

    def test_a_target_that_shows_nothing_costs_no_cursor_and_no_hold(self) -> None:
        source = with_cursors("@a @b", cursor("a"), cursor("b"))
        assert reconcile(source, held("ab"), CLOUD, common=None) == Guard(hold_tag(CLOUD))

    def test_what_other_targets_need_is_left_alone(self) -> None:
        source = with_cursors("@a @b", cursor("a", OTHER), cursor("b"))
        change = reconcile(source, held("a", OTHER), CLOUD, common=guid_of("b"))
        assert change == Guard(hold_tag(CLOUD))

    def test_doing_it_again_changes_nothing(self) -> None:
        source = with_cursors("@a @b", cursor("a"), cursor("b"))
        assert reconcile(source, held("ab"), CLOUD, common=guid_of("a"), to=[guid_of("b")]) == Guard(
            hold_tag(CLOUD)
        )


def test_in_every_state_and_between_all_changes_each_end_that_matters_has_a_mark() -> None:
    letters = "abc"
    for kinds in product(("", "@", "m", "h@", "m@", "mh@"), repeat=3):
        for common, to in ((None, "a"), ("a", None), ("a", "b"), ("b", "c"), ("b", None), ("c", None)):
            world = dict(zip(letters, kinds, strict=True))
            source = with_cursors(
                " ".join(f"@{letter}" for letter in letters if "@" in world[letter]),
                *(cursor(letter) for letter in letters if "m" in world[letter]),
            )
            tags = held("".join(letter for letter in letters if "h" in world[letter]))
            needed = {guid_of(letter) for letter in (common, to) if letter and world[letter]}
            change = reconcile(
                source,
                tags,
                CLOUD,
                common=guid_of(common) if common else None,
                to=[guid_of(to)] if to else [],
            )
            before, *states = apply(source, tags, change)
            for marks, _ in states:
                assert needed & before[0] <= marks, "a mark that is needed went away in between"
            marks, holds = states[-1] if states else before
            assert needed <= marks
            if common:
                assert marks == needed
                assert to or not holds


def test_what_belongs_to_targets_without_a_rule_is_found() -> None:
    source = with_cursors("@a @b", cursor("a", OTHER), cursor("b"))
    tags = {guid_of("a"): [hold_tag(OTHER), "keep-me"], guid_of("b"): [hold_tag(CLOUD), FLOOR_HOLD]}
    (found,) = orphans(source, tags, Known([CLOUD], {}, {OTHER: "old"}), now=NOW)
    assert found.destroy == (f"{DATASET}#{cursor_name(OTHER, guid_of('a'))}",)
    assert found.release == (f"{DATASET}@a",)
    assert (found.certain, found.kept, found.why) == (True, (), "old is out of the mesh")


class TestLeftovers:
    SOURCE = with_cursors("@a @b", cursor("a", OTHER))

    def found(self, known: Known, now: int = NOW) -> Leftover:
        (one,) = orphans(self.SOURCE, held("a", OTHER), known, now=now)
        return one

    def test_a_named_target_is_left_alone_even_if_it_is_out(self) -> None:
        assert orphans(self.SOURCE, held("a", OTHER), Known([OTHER], {}, {OTHER: "x"}), now=NOW) == ()

    def test_without_a_rule_the_hold_goes_and_the_young_cursor_stays(self) -> None:
        known = Known([], {OTHER: "nas"}, {})
        one = self.found(known, now=DEFAULT_PATIENCE.age)
        assert (one.release, one.destroy) == ((f"{DATASET}@a",), ())
        assert one.kept == (f"{DATASET}#{cursor_name(OTHER, guid_of('a'))}",)
        assert "nas" in one.why

    def test_an_old_cursor_goes_too(self) -> None:
        one = self.found(Known([], {OTHER: "nas"}, {}), now=DEFAULT_PATIENCE.age + 1)
        assert (one.kept, one.destroy) == ((), (f"{DATASET}#{cursor_name(OTHER, guid_of('a'))}",))

    def test_a_node_that_the_mesh_never_had_is_not_for_us_to_judge(self) -> None:
        one = self.found(Known([], {}, {}))
        assert not one.certain
        assert OTHER in one.why


class TestPatience:
    def test_it_ends_by_age_or_by_size(self) -> None:
        patience = Patience(age=10, size=100)
        assert not patience.ends(away=10, pinned=100)
        assert patience.ends(away=11, pinned=0)
        assert patience.ends(away=0, pinned=101)
        assert not Patience(age=10).ends(away=0, pinned=1 << 60)

    def test_every_hold_becomes_a_bookmark_before_it_goes(self) -> None:
        source = with_cursors("@a @b @c", cursor("a"))
        change = let_go(source, held("ab"), CLOUD)
        assert change.release == (f"{DATASET}@a", f"{DATASET}@b")
        assert change.create == ((f"{DATASET}@b", f"{DATASET}#{cursor_name(CLOUD, guid_of('b'))}"),)
        assert not change.destroy
        *_, (marks, holds) = apply(source, held("ab"), change)
        assert (marks, holds) == ({guid_of("a"), guid_of("b")}, set())

    def test_what_is_held_for_others_stays(self) -> None:
        assert let_go(history("@a"), held("a", OTHER), CLOUD) == Guard(hold_tag(CLOUD))

    def test_cursors_are_found_oldest_first(self) -> None:
        source = with_cursors("@b", cursor("b"), cursor("a"), cursor("c", OTHER))
        assert [mark.guid for mark in cursors_of(source, CLOUD)] == [guid_of("a"), guid_of("b")]


class TestChains:
    """Several steps over one connection: whatever part of them arrives, the source has what the next one needs."""

    LETTERS = "abcde"

    def at_every_crash(
        self, source: SourceHistory, tags: dict[int, list[str]], change: Guard
    ) -> Iterator[tuple[SourceHistory, dict[int, list[str]]]]:
        """The history and the tags as a crash between any two changes leaves them; the last is whole."""
        changes = [
            *(Guard(change.tag, create=(one,)) for one in change.create),
            *(Guard(change.tag, hold=(one,)) for one in change.hold),
            *(Guard(change.tag, release=(one,)) for one in change.release),
            *(Guard(change.tag, destroy=(one,)) for one in change.destroy),
        ]
        yield source, tags
        for one in changes:
            source, tags = applied(source, tags, one)
            yield source, tags

    def kept(self, source: SourceHistory, tags: dict[int, list[str]]) -> tuple[set[int], set[int]]:
        marks = {mark.guid for mark in cursors_of(source, CLOUD)}
        return marks, {guid for guid, names in tags.items() if hold_tag(CLOUD) in names}

    def test_every_prefix_and_every_crash_leaves_a_base_and_the_next_run_tidies_it(self) -> None:
        looked_at = 0
        for base in (None, "a", "b"):
            chain = [letter for letter in self.LETTERS if base is None or letter > base]
            source = with_cursors("@a @b @c @d @e", *([cursor(base)] if base else []))
            common = guid_of(base) if base else None
            before = reconcile(source, {}, CLOUD, common=common, to=[guid_of(one) for one in chain])
            *_, (ready, tags) = self.at_every_crash(source, {}, before)
            marks, holds = self.kept(ready, tags)
            assert marks == holds == {guid_of(one) for one in (*chain, *([base] if base else []))}
            for arrived, cut in product(range(len(chain) + 1), (False, True)):
                newest = guid_of(chain[arrived - 1]) if arrived else common
                partial = [guid_of(chain[arrived])] if cut and arrived < len(chain) else []
                after = reconcile(ready, tags, CLOUD, common=newest, to=partial)
                for left, left_tags in self.at_every_crash(ready, tags, after):
                    looked_at += 1
                    assert newest is None or newest in self.kept(left, left_tags)[0]
                    again = reconcile(left, left_tags, CLOUD, common=newest, to=partial)
                    *_, (tidy, tidy_tags) = self.at_every_crash(left, left_tags, again)
                    if newest is not None:
                        needed = {newest, *partial}
                        assert self.kept(tidy, tidy_tags) == (needed, needed if partial else set())
                    done = reconcile(tidy, tidy_tags, CLOUD, common=newest, to=partial)
                    assert done == Guard(hold_tag(CLOUD))
        assert looked_at > 150

    def test_what_crashed_before_the_chain_began_has_lost_nothing(self) -> None:
        source = with_cursors("@a @b @c @d @e", cursor("a"))
        change = reconcile(source, {}, CLOUD, common=guid_of("a"), to=[guid_of(one) for one in "bcde"])
        for left, tags in self.at_every_crash(source, {}, change):
            assert guid_of("a") in self.kept(left, tags)[0]

    def test_the_next_chunk_takes_over_from_the_one_before(self) -> None:
        source = with_cursors("@a @b @c @d @e", *(cursor(one) for one in "abc"))
        change = reconcile(source, held("abc"), CLOUD, common=guid_of("c"), to=[guid_of("d"), guid_of("e")])
        assert change.hold == (f"{DATASET}@d", f"{DATASET}@e")
        assert change.release == (f"{DATASET}@a", f"{DATASET}@b")
        assert [name.rpartition("_")[2] for name in change.destroy] == [
            f"{guid_of(one):016x}" for one in "ab"
        ]

    def test_applying_a_change_is_what_listing_anew_would_show(self) -> None:
        source = with_cursors("@a @b", cursor("a"))
        change = reconcile(source, held("a"), CLOUD, common=guid_of("b"))
        after, tags = applied(source, held("a"), change)
        assert after == with_cursors(
            "@a @b", Bookmark(DATASET, cursor("b").name, guid_of("b"), 101, after.bookmarks[-1].creation)
        )
        assert tags == {}
