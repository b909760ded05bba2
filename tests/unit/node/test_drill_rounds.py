"""Drills that run by themselves, on the fakes: which key opens, what is noted, and what is said of what went wrong."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.drill import Drill
from node.drill_reading import Seen
from node.drill_rounds import DrillRounds, read_key
from node.drill_schedule import DAY, RETRY
from node.errors import MeshkeepError
from node.job import Job
from node.metric_facts import DrillFacts
from node.replication_check import replication
from node.replicator import RuleSpec
from node.scratch import Scratches
from policy.checks import Level
from replication.window import Window
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import PASSPHRASE

ALWAYS = Window(0, 24 * 60 - 1)
MONTH = 30 * DAY


class Night:
    """tank/home is on cloud, by a rule that has it drilled every month."""

    def __init__(self, path: Path) -> None:
        self.mesh = Keepers(path, cloud="vault")
        self.key = path / "key"
        self.key.write_bytes(PASSPHRASE + b"\n")
        self.key.chmod(0o600)
        self.seen = Seen(files=3, bytes=300, of=3, compared=2)
        self.reads = 0
        scratches = Scratches(self.mesh.home, self.mesh.restorer, self.mesh.local, path / "mounts")
        self.scratches = scratches
        self.drill = Drill(
            self.mesh.home,
            self.mesh.restorer,
            self.mesh.local,
            scratches,
            now=self.mesh.clock,
            read=self.read,
            mounted=lambda _dataset: None,
        )
        self.rounds = self.another()

    def another(self) -> DrillRounds:
        """As after a restart of the agent."""
        return DrillRounds(
            self.mesh.home,
            self.drill,
            self.mesh.local,
            jobs=lambda: self.mesh.replicator.jobs,
            now=self.mesh.clock,
        )

    def read(self, *_: object) -> Seen:
        self.reads += 1
        return self.seen

    def rule(self, **more: Any) -> None:
        wanted = {"drill": MONTH, "drill_key_file": str(self.key), "quiet": ALWAYS} | more
        self.mesh.replicator.configure([RuleSpec("tank/home", "cloud", **wanted)])

    @property
    def job(self) -> Job:
        return self.mesh.replicator.job("tank/home", "cloud")

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.rounds.problems()]

    def level(self) -> Level:
        """Of ``check replication``, were the copy as fresh as can be."""
        self.job.as_of = int(self.mesh.clock.now)
        return replication([self.rounds.judged(self.job)], int(self.mesh.clock.now)).level

    @property
    def proven(self) -> int | None:
        return self.mesh.local.proven("tank/home", "cloud")


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    one = Night(tmp_path)
    async with listening(one.mesh):
        await one.mesh.encrypted("tank/home")
        await one.mesh.snap("tank/home", "a", data=b"x" * 10_240)
        await one.mesh.replicate("tank/home", "cloud")
        one.rule()
        yield one


class TestByItself:
    async def test_it_is_opened_with_the_key_file_read_and_noted(self, night: Night) -> None:
        await night.rounds.tick()
        assert night.proven == int(night.mesh.clock.now)
        facts = night.mesh.local.proven_facts("tank/home", "cloud")
        assert (facts["bytes_read"], facts["files"], facts["compared"]) == (300, 3, 2)
        assert isinstance(facts["seed"], int)
        assert night.rounds.problems() == []
        assert not [name for name in night.mesh.here() if "drill" in name]

    async def test_then_not_again_until_a_month_has_passed(self, night: Night) -> None:
        for _ in range(3):
            await night.rounds.tick()
        assert night.reads == 1
        night.mesh.clock.now += MONTH - 1
        await night.another().tick()
        assert night.reads == 1
        night.mesh.clock.now += 1
        await night.another().tick()
        assert night.reads == 2

    async def test_at_the_rate_of_the_rule(self, night: Night) -> None:
        night.rule(rate_limit=1 << 20)
        await night.rounds.tick()
        assert [one.limit for one in night.mesh.workers.receives] == [1 << 20]

    @pytest.mark.parametrize("more", [{"drill": None}, {"paused": True}])
    async def test_only_where_the_rule_says_so(self, night: Night, more: dict[str, Any]) -> None:
        night.rule(**more)
        await night.rounds.tick()
        assert night.reads == 0
        night.mesh.clock.now += 90 * DAY
        assert (night.rounds.problems(), night.rounds.listing()) == ([], [])

    async def test_what_is_not_stored_yet_is_not_drilled(self, night: Night) -> None:
        night.job.as_of = None
        await night.rounds.tick()
        assert (night.reads, night.rounds.listing()) == (0, [])

    async def test_one_at_a_time(self, night: Night) -> None:
        async with night.scratches.alone():
            await night.rounds.tick()
        assert (night.reads, night.codes) == (0, [])

    async def test_the_key_at_keylocation_opens_too(self, night: Night) -> None:
        await night.mesh.home.set("tank/home", {"keylocation": f"file://{night.key}"})
        night.rule(drill_key_file=None)
        await night.rounds.tick()
        assert night.proven is not None


class TestWithoutAKey:
    async def test_it_is_received_and_said_to_be_closed(self, night: Night) -> None:
        night.rule(drill_key_file=None)
        await night.rounds.tick()
        assert (night.reads, night.proven) == (0, None)
        assert night.codes == ["drill_unopened"]
        night.mesh.clock.now += DAY
        await night.rounds.tick()
        assert len(night.mesh.workers.receives) == 1

    async def test_that_is_no_proof_so_it_is_overdue_in_the_end(self, night: Night) -> None:
        night.rule(drill_key_file=None)
        await night.rounds.tick()
        night.mesh.clock.now += 9 * DAY
        assert night.codes == ["drill_unopened", "drill_overdue"]
        assert night.level() is Level.WARNING


class TestFailing:
    async def test_files_that_cannot_be_read_are_critical_and_tried_again_the_next_day(
        self, night: Night
    ) -> None:
        night.seen = Seen(2, 200, 3, ("photos/1.jpg: Input/output error",))
        await night.rounds.tick()
        (problem,) = night.rounds.problems()
        assert problem.code == "drill_failed"
        assert "photos/1.jpg" in problem.text
        assert problem.try_ == "meshkeep restore drill tank/home --from cloud"
        assert night.level() is Level.CRITICAL
        await night.rounds.tick()
        assert night.reads == 1
        night.seen = Seen(3, 300, 3)
        night.mesh.clock.now += RETRY
        await night.rounds.tick()
        assert (night.reads, night.codes, night.level()) == (2, [], Level.OK)

    async def test_a_node_that_is_away_says_nothing_of_the_copy(self, night: Night) -> None:
        night.mesh.keepers["cloud"].port = 1
        await night.rounds.tick()
        assert night.codes == ["drill_failed"]
        assert night.level() is Level.WARNING

    async def test_a_wrong_key_is_critical_and_stays_through_a_restart(self, night: Night) -> None:
        night.key.write_bytes(b"another one\n")
        await night.rounds.tick()
        night.rounds = night.another()
        assert night.codes == ["drill_failed"]
        assert night.level() is Level.CRITICAL

    async def test_a_drill_by_hand_settles_it(self, night: Night) -> None:
        night.key.write_bytes(b"another one\n")
        await night.rounds.tick()

        async def ignore(_: object) -> None:
            return None

        await night.drill.run("tank/home", "cloud", PASSPHRASE, 40, ignore)
        assert night.codes == []

    async def test_a_key_that_others_may_read_is_not_used(self, night: Night) -> None:
        night.key.chmod(0o644)
        await night.rounds.tick()
        (problem,) = night.rounds.problems()
        assert "others may read it" in problem.text
        assert PASSPHRASE.decode() not in problem.text
        assert night.mesh.workers.receives == []

    async def test_a_pool_that_is_too_full_is_left_alone(self, night: Night) -> None:
        night.mesh.home.state.sizes["tank"] = 25_000
        await night.rounds.tick()
        assert "no room" in night.rounds.problems()[0].text
        assert night.mesh.workers.receives == []


class TestTelling:
    async def test_overdue_is_a_warning_and_one_line_for_all(self, night: Night) -> None:
        await night.rounds.tick()
        night.mesh.clock.now += 38 * DAY
        (problem,) = night.rounds.problems()
        assert problem.code == "drill_overdue"
        assert "last proven 38d ago, and is to be every 30d" in problem.text
        assert night.level() is Level.WARNING

    async def test_metrics_have_when_and_how_long_that_holds(self, night: Night) -> None:
        await night.rounds.tick()
        at = int(night.mesh.clock.now)
        assert list(night.rounds.facts()) == [
            DrillFacts("tank/home", "cloud", at, MONTH * 5 // 4, False, 300)
        ]

    async def test_a_copy_that_was_proven_by_hand_is_told_without_a_limit(self, night: Night) -> None:
        await night.rounds.tick()
        night.rule(drill=None, drill_key_file=None)
        (facts,) = night.rounds.facts()
        assert (facts.proven, facts.late_after) == (int(night.mesh.clock.now), None)


class TestTheKeyFile:
    def test_its_first_line(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_bytes(b"correct horse\nbattery\n")
        path.chmod(0o400)
        assert read_key(path, "passphrase") == b"correct horse"

    @pytest.mark.parametrize(
        ("content", "mode", "keyformat", "why"),
        [
            (b"x\n", 0o640, "passphrase", "others may read it"),
            (b"", 0o600, "passphrase", "it is empty"),
            (b"x" * 5000, 0o600, "passphrase", "too long"),
            (b"x" * 32, 0o600, "raw", "a raw key"),
        ],
    )
    def test_what_is_not_used(
        self, tmp_path: Path, content: bytes, mode: int, keyformat: str, why: str
    ) -> None:
        path = tmp_path / "key"
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(MeshkeepError) as caught:
            read_key(path, keyformat)
        assert why in caught.value.why

    def test_what_is_not_there_or_no_file(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(MeshkeepError) as caught:
                read_key(path, "passphrase")
            assert caught.value.code == "no_key_file"
