"""What targets were seen to hold is listed on disk, by facts that are the source's own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.errors import MeshkeepError
from node.sent import COMPACT_AT, MOST, Sent
from replication.ledger import Entry, begin
from tests.fakes.pair import CLOUD, HOME, ROOT, Pair, served
from tests.fakes.zfs import FakeZfs
from zfs.errors import PoolUnavailable
from zfs.model import Snapshot
from zfs.stream import KeyMaterial


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        await two.snap("a", "b", "c")
        yield two


def again(pair: Pair) -> Sent:
    """As the agent finds it after a restart."""
    return Sent(pair.home, pair.archive / "sent", pair.clock)


def listed(sent: Sent, dataset: str = "tank/home") -> list[Entry]:
    ledger = sent.ledger(dataset)
    return [] if ledger is None else list(ledger.entries)


def wrap(pair: Pair) -> KeyMaterial:
    found = pair.home.state.nodes["tank/home"].wrap
    assert found is not None
    return found


class TestEntering:
    async def test_every_snapshot_that_is_stored_with_what_names_it(self, pair: Pair) -> None:
        await pair.replicate()
        here = pair.home.state.nodes["tank/home"].snapshots
        assert [(one.guid, one.name, one.creation, one.ivset) for one in listed(again(pair))] == [
            (snap.guid, name, snap.creation, snap.ivset) for name, snap in here.items()
        ]
        assert {one.key for one in listed(again(pair))} == {wrap(pair).fingerprint()}
        assert {one.target for one in listed(again(pair))} == {CLOUD}
        assert all(one.bytes is None or one.bytes > 0 for one in listed(again(pair)))

    async def test_once(self, pair: Pair) -> None:
        await pair.replicate()
        before = listed(pair.sent)
        await pair.replicate()
        await pair.another_replicator().run_once(pair.replicator.job("tank/home", "cloud"))
        assert listed(pair.sent) == before

    async def test_the_bytes_of_a_stream_that_went_alone(self, pair: Pair) -> None:
        await pair.replicate()
        await pair.snap("d")
        report = await pair.replicate()
        assert listed(pair.sent)[-1].bytes == report.bytes

    async def test_nothing_before_the_target_shows_it(self, pair: Pair) -> None:
        pair.sending.cut(100)
        with pytest.raises(MeshkeepError):
            await pair.replicate()
        assert listed(again(pair)) == []

    async def test_a_target_that_claims_more_or_other_names_enters_nothing(self, pair: Pair) -> None:
        here = await pair.home.snapshots("tank/home")
        await pair.sent.shown(
            "tank/home", CLOUD, here, [(4711, "ghost"), (here[0].guid, "c")], encrypted=True, claimed=True
        )
        assert listed(pair.sent) == []

    async def test_a_target_that_claims_another_form_enters_nothing_that_was_not_seen_to_go_out(
        self, pair: Pair
    ) -> None:
        here = await pair.home.snapshots("tank/home")
        shown = [(one.guid, one.name) for one in here]
        await pair.sent.shown("tank/home", CLOUD, here, shown, encrypted=True, claimed=False)
        assert listed(pair.sent) == []

    async def test_two_targets_at_once_lose_nothing_of_each_other(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, gate = pair.home.ivset_guids, asyncio.Event()

        async def slow(dataset: str) -> dict[str, int]:
            await gate.wait()
            return await real(dataset)

        monkeypatch.setattr(pair.home, "ivset_guids", slow)
        here = await pair.home.snapshots("tank/home")
        shown = [(one.guid, one.name) for one in here]
        looks = [
            pair.sent.shown("tank/home", node, here, some, encrypted=True, claimed=True)
            for node, some in (("one", shown[:2]), ("two", shown), ("three", shown[2:]))
        ]
        running = asyncio.gather(*looks)
        await asyncio.sleep(0)
        gate.set()
        await running
        assert sorted(one.name for one in listed(pair.sent)) == ["a", "b", "c"]
        assert listed(again(pair)) == listed(pair.sent)

    async def test_a_disk_that_was_full_is_written_anew(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await pair.replicate()
        (path,) = (pair.archive / "sent").glob("*.jsonl")

        def full(_: int) -> None:
            with path.open("ab") as file:
                file.write(b'{"half')
            raise OSError(28, "No space left on device")

        await pair.snap("d")
        with monkeypatch.context() as patched:
            patched.setattr("node.sent.os.fsync", full)
            here = await pair.home.snapshots("tank/home")
            shown = [(one.guid, one.name) for one in here]
            await pair.sent.shown("tank/home", CLOUD, here, shown, encrypted=True, claimed=True)
        assert [one.code for one in pair.sent.problems()] == ["sent_not_listed"]
        await pair.replicate()
        assert [one.name for one in listed(again(pair))] == ["a", "b", "c", "d"]

    async def test_what_was_stored_before_there_was_a_list_is_entered_from_here(self, pair: Pair) -> None:
        pair.replicator._runs._sent = None
        pair.replicator._runs._chain._sent = None
        await pair.replicate()
        assert listed(again(pair)) == []
        pair.replicator = pair.another_replicator()
        await pair.replicate()
        assert [one.name for one in listed(again(pair))] == ["a", "b", "c"]
        assert {one.key for one in listed(again(pair))} == {None}

    async def test_plaintext_has_neither_ivset_nor_key(self, tmp_path: Path) -> None:
        async with served(Pair(tmp_path)) as two:
            two.role = "member"
            await two.home.create("tank/home", {})
            await two.snap("a")
            await two.replicate(allow_plaintext=True)
            assert [(one.ivset, one.key) for one in listed(two.sent)] == [(None, None)]

    async def test_trouble_never_holds_replication_up_and_is_told(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(dataset: str) -> dict[str, int]:
            raise PoolUnavailable(dataset)

        monkeypatch.setattr(pair.home, "ivset_guids", fail)
        await pair.replicate()
        assert pair.stored() == ["a", "b", "c"]
        assert [one.code for one in pair.sent.problems()] == ["sent_not_listed"]
        monkeypatch.undo()
        await pair.replicate()
        assert len(listed(pair.sent)) == 3
        assert pair.sent.problems() == []

    async def test_a_key_that_was_changed_at_home_and_sent_with_no_new_snapshot(self, pair: Pair) -> None:
        await pair.replicate()
        first = wrap(pair).fingerprint()
        await pair.home.change_key("tank/home", b"another horse")
        await pair.cloud.rename(f"{ROOT}/{HOME}/tank/home", "vault/elsewhere")
        await pair.replicate()
        ledger = again(pair).ledger("tank/home")
        assert ledger is not None
        assert ledger.keys == {first, wrap(pair).fingerprint()}
        assert len(ledger.entries) == 4
        assert (await pair.restore())["vouched"]["list"] == "listed"

    async def test_how_it_went_out_outlives_the_agent(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def died(*_: object, **__: object) -> None:
            return None

        monkeypatch.setattr(pair.sent, "shown", died)
        await pair.replicate()
        assert listed(again(pair)) == []
        pair.sent = again(pair)
        here = await pair.home.snapshots("tank/home")
        shown = [(one.guid, one.name) for one in here]
        await pair.sent.shown("tank/home", CLOUD, here, shown, encrypted=True, claimed=True)
        assert {one.key for one in listed(pair.sent)} == {wrap(pair).fingerprint()}
        assert list((pair.archive / "sent").glob("*.out")) == []

    async def test_what_was_encrypted_since_is_entered_in_its_new_form(self, pair: Pair) -> None:
        here = await pair.home.snapshots("tank/home")
        plain = [Entry(one.guid, one.name, one.creation, None, None, None, CLOUD, 1) for one in here]
        pair.sent._lists["tank/home"] = begin("tank/home").added(plain)
        await pair.replicate()
        assert [(one.name, one.raw) for one in listed(pair.sent)] == [
            *((name, False) for name in "abc"),
            *((name, True) for name in "abc"),
        ]
        await pair.replicate()
        assert len(listed(pair.sent)) == 6
        assert (await pair.restore())["snapshots"] == 3

    async def test_tells_when_a_list_has_grown(self, pair: Pair) -> None:
        told: list[int] = []
        pair.sent.changed = lambda: told.append(1)
        await pair.replicate()
        grown = len(told)
        await pair.replicate()
        assert grown > 0
        assert len(told) == grown


class TestOnDisk:
    async def test_what_a_power_cut_left_half_is_cut_off(self, pair: Pair) -> None:
        await pair.replicate()
        whole = listed(pair.sent)
        (path,) = (pair.archive / "sent").glob("*.jsonl")
        path.write_bytes(path.read_bytes() + b'{"guid":1,"na')
        assert listed(again(pair)) == whole
        assert path.read_bytes().endswith(b"}\n")
        await pair.snap("d")
        pair.sent = again(pair)
        pair.replicator = pair.another_replicator()
        await pair.replicate()
        assert [one.name for one in listed(again(pair))] == ["a", "b", "c", "d"]

    async def test_a_damaged_one_is_put_aside_told_and_begun_anew(self, pair: Pair) -> None:
        await pair.replicate()
        (path,) = (pair.archive / "sent").glob("*.jsonl")
        path.write_bytes(b"rubbish\n" + path.read_bytes())
        pair.sent = again(pair)
        assert listed(pair.sent) == []
        assert [one.code for one in pair.sent.problems()] == ["sent_damaged"]
        assert path.with_suffix(".damaged").read_bytes().startswith(b"rubbish")
        pair.replicator = pair.another_replicator()
        await pair.replicate()
        assert len(listed(again(pair))) == 3

    async def test_all_lists_and_heads_are_found_by_a_new_agent(self, pair: Pair) -> None:
        await pair.encrypted("tank/home/deep")
        await pair.snap("x", dataset="tank/home/deep")
        await pair.replicate()
        await pair.replicate("tank/home/deep")
        sent = again(pair)
        assert sorted(sent.ledgers()) == ["tank/home", "tank/home/deep"]
        assert sent.heads() == pair.sent.heads()
        assert sent.heads()["tank/home"].count == 3

    async def test_every_line_is_json_and_the_head_of_what_was_dropped_is_first(self, pair: Pair) -> None:
        await pair.replicate()
        (path,) = (pair.archive / "sent").glob("*.jsonl")
        first, *rest = [json.loads(line) for line in path.read_text().splitlines()]
        assert (first["dataset"], first["count"]) == ("tank/home", 0)
        assert len(rest) == 3


class TestBounds:
    def fill(self, sent: Sent, path: Path, count: int) -> None:
        entries = [Entry(n + 1, f"s{n}", n, n + 1, None, None, "cloud", n) for n in range(count)]
        sent._lists["tank/big"] = begin("tank/big").added(entries)

    def snapshots(self, zfs: FakeZfs, *guids: int) -> list[Snapshot]:
        zfs.state.add("tank/big")
        return [Snapshot("tank/big", f"new{guid}", guid, guid, guid) for guid in guids]

    @pytest.mark.parametrize(
        ("held", "left"),
        [([], COMPACT_AT // 2), ([COMPACT_AT - 1, COMPACT_AT], COMPACT_AT // 2), ([3], COMPACT_AT - 1)],
    )
    async def test_what_no_target_holds_any_more_goes_from_the_front(
        self, tmp_path: Path, held: list[int], left: int
    ) -> None:
        zfs = FakeZfs(clock=lambda: 0.0, pools={"tank": 1 << 30})
        sent = Sent(zfs, tmp_path, lambda: 0.0)
        self.fill(sent, tmp_path, COMPACT_AT)
        new = self.snapshots(zfs, 99_999)
        shown = [*((guid, f"s{guid - 1}") for guid in held), (99_999, "new99999")]
        whole = sent._lists["tank/big"]
        await sent.shown("tank/big", "cloud", new, shown, encrypted=False, claimed=False)
        kept = sent._lists["tank/big"]
        assert len(kept.entries) == left
        assert kept.head.count == COMPACT_AT + 1
        assert kept.after(COMPACT_AT) == whole.head
        assert listed(Sent(zfs, tmp_path, lambda: 0.0), "tank/big") == list(kept.entries)

    async def test_a_target_that_was_not_seen_yet_may_hold_all_of_it(self, tmp_path: Path) -> None:
        zfs = FakeZfs(clock=lambda: 0.0, pools={"tank": 1 << 30})
        sent = Sent(zfs, tmp_path, lambda: 0.0)
        self.fill(sent, tmp_path, COMPACT_AT)
        await sent.shown(
            "tank/big",
            "nas",
            self.snapshots(zfs, 99_999),
            [(99_999, "new99999")],
            encrypted=False,
            claimed=False,
        )
        assert len(sent._lists["tank/big"].entries) == COMPACT_AT + 1

    async def test_there_is_an_end_to_it_all_the_same(self, tmp_path: Path) -> None:
        zfs = FakeZfs(clock=lambda: 0.0, pools={"tank": 1 << 30})
        sent = Sent(zfs, tmp_path, lambda: 0.0)
        self.fill(sent, tmp_path, MOST)
        await sent.shown(
            "tank/big",
            "nas",
            self.snapshots(zfs, 99_999),
            [(99_999, "new99999")],
            encrypted=False,
            claimed=False,
        )
        assert len(sent._lists["tank/big"].entries) == MOST
