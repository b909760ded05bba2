"""The user that receives streams may add to what is stored and do nothing else to it."""

from pathlib import Path

from tests.fakes.pair import HOME, ROOT, Pair, served


async def test_it_is_given_what_a_receive_needs_and_no_more(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    await pair.encrypted()
    await pair.snap("a", "b")
    async with served(pair):
        await pair.replicate()
    assert pair.cloud.allowed == [("meshkeep", ("create", "mount", "receive:append"), f"{ROOT}/{HOME}")]
