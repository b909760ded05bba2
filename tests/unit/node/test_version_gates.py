"""Old versions of OpenZFS are refused at the source and at the target, each by itself, and told of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.errors import Exit, MeshkeepError
from node.version_gates import VersionGates
from tests.fakes.pair import Pair, served

BAD, TOLD = ("2.3.1-1", "2.3.1-1"), ("2.3.8-1", "2.3.8-1")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served(Pair(tmp_path)) as found:
        await found.encrypted()
        await found.snap("a")
        yield found


async def test_a_source_sends_nothing_by_a_version_that_hurts_what_it_sends(pair: Pair) -> None:
    pair.home.versions = BAD
    error = await pair.refused()
    assert (error.code, error.exit) == ("zfs_encrypted_send_errors", Exit.REFUSED)
    assert "openzfs#12014" in (error.why or "")
    assert "apt" in error.hint
    assert pair.stored() == []
    assert "replica.receive" not in pair.asked


async def test_a_target_takes_nothing_by_a_version_that_hurts_what_it_has(pair: Pair) -> None:
    pair.cloud.versions = BAD
    error = await pair.refused()
    assert error.code == "zfs_no_append_only_receive"
    assert "the target's OpenZFS 2.3.1-1" in str(error)
    assert pair.stored() == []


async def test_nothing_is_restored_by_a_version_that_hurts_what_it_has(pair: Pair) -> None:
    await pair.replicate()
    pair.home.versions = "2.1.11-1", "2.1.11-1"
    with pytest.raises(MeshkeepError) as caught:
        await pair.restore(accept_unlisted=True)
    assert caught.value.code == "zfs_raw_receive_panics"
    assert "tank/back" not in pair.home.state.nodes


async def test_who_restores_needs_no_rights_for_others(pair: Pair) -> None:
    await pair.replicate()
    pair.home.versions = "2.2.10-1", "2.2.10-1"
    assert (await pair.restore(accept_unlisted=True))["newest"] == "a"


async def test_what_is_only_told_stops_nothing(pair: Pair) -> None:
    pair.home.versions = pair.cloud.versions = TOLD
    await pair.replicate()
    assert pair.stored() == ["a"]
    gates = VersionGates(pair.home)
    await gates.renew()
    assert {one.code for one in gates.problems} == {"zfs_local_root", "zfs_block_cloning_reads"}
    assert {one.level for one in await gates.findings()} == {"warn"}


async def test_a_good_version_is_said_to_be_one(pair: Pair) -> None:
    gates = VersionGates(pair.home)
    assert gates.problems == []
    (finding,) = await gates.findings()
    assert (finding.level, "2.3.9" in finding.text) == ("ok", True)


async def test_a_target_says_its_version(pair: Pair) -> None:
    await pair.replicate()
    state = await pair.link().call("::1", "replica.state", {"dataset": "tank/home"})
    assert state["zfs"] == "2.3.9-fake"
