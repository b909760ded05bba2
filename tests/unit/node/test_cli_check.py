"""`meshkeep check` and `meshkeep metrics`, typed: against a real local API, and where nobody answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from node.api import Api, Request
from node.cli import main
from node.errors import Exit, MeshkeepError

LINE = "CRIT: tank/a has no hourly snapshots at all! | 'tank'=3%;80;95;0;100"
Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


class Agent:
    """Answers `check` and `metrics`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | MeshkeepError = {}
        self.asked: list[dict[str, Any]] = []

    def says(self, code: int, state: str, line: str = LINE) -> None:
        self.answer = {
            "schema": "meshkeep.check/1",
            "code": code,
            "state": state,
            "line": line,
            "checks": [],
        }

    async def handle(self, request: Request) -> dict[str, Any]:
        self.asked.append(request.args)
        if isinstance(self.answer, MeshkeepError):
            raise self.answer
        return self.answer


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    fake, api = Agent(), Api(tmp_path / "agent.sock")
    for verb in ("check", "metrics"):
        api.register(verb, fake.handle, access="group")
    await api.start()
    monkeypatch.setenv("MESHKEEP_SOCKET", str(api.path))
    yield fake
    await api.stop()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def _run(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, words)
        out, err = capsys.readouterr()
        return code, out, err

    return _run


class TestCheck:
    @pytest.mark.parametrize("what", ["snapshots", "capacity", "health"])
    async def test_one_line_and_nagios_code(self, agent: Agent, run: Run, what: str) -> None:
        agent.says(2, "CRITICAL")
        assert await run("check", what) == (2, LINE + "\n", "")
        assert agent.asked == [{"what": what}]

    @pytest.mark.parametrize(("code", "state"), [(0, "OK"), (1, "WARNING"), (2, "CRITICAL"), (3, "UNKNOWN")])
    async def test_all_of_them_with_every_code(self, agent: Agent, run: Run, code: int, state: str) -> None:
        agent.says(code, state)
        assert await run("check") == (code, LINE + "\n", "")
        assert agent.asked == [{}]

    @pytest.mark.parametrize("words", ["check --json", "check health --json", "--json check capacity"])
    async def test_json_has_the_same_code(self, agent: Agent, run: Run, words: str) -> None:
        agent.says(1, "WARNING")
        code, out, err = await run(*words.split())
        assert (code, err) == (1, "")
        assert json.loads(out) == agent.answer


class TestUnknown:
    async def test_no_agent(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MESHKEEP_SOCKET", str(tmp_path / "nobody.sock"))
        code, out, err = await run("check", "snapshots")
        assert (code, err) == (3, "")
        assert out.startswith("UNKNOWN - the agent is not running: nobody listens on ")
        assert out.endswith("(try: sudo systemctl start meshkeep-agent)\n")
        assert out.count("\n") == 1

    async def test_an_error_of_the_agent(self, agent: Agent, run: Run) -> None:
        agent.answer = MeshkeepError("no", code="x", exit=Exit.REFUSED, why="one|two\nthree")
        assert await run("check") == (3, "UNKNOWN - no: one/two three\n", "")
        code, out, _ = await run("check", "--json")
        told = json.loads(out)
        assert (code, told["code"], told["state"], told["error"]["exit"]) == (3, 3, "UNKNOWN", 7)

    async def test_an_agent_of_another_version(self, agent: Agent, run: Run) -> None:
        agent.answer = {"schema": "meshkeep.check/9"}
        code, out, _ = await run("check")
        assert (code, out[:9]) == (3, "UNKNOWN -")

    @pytest.mark.parametrize(
        "words", ["check weather", "check --loud", "check health --loud", "check health x"]
    )
    async def test_a_slip_of_the_keyboard_does_not_read_as_critical(
        self, agent: Agent, run: Run, words: str
    ) -> None:
        code, out, err = await run(*words.split())
        assert (code, out[:9], err) == (3, "UNKNOWN -", "")
        assert agent.asked == []


class TestMetrics:
    async def test_prints_the_exposition(self, agent: Agent, run: Run) -> None:
        agent.answer = {"schema": "meshkeep.metrics/1", "text": "# HELP a b\na 1\n"}
        assert await run("metrics") == (0, "# HELP a b\na 1\n", "")
        assert json.loads((await run("metrics", "--json"))[1]) == agent.answer

    async def test_no_agent_is_an_error_with_our_code(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MESHKEEP_SOCKET", str(tmp_path / "nobody.sock"))
        code, out, err = await run("metrics")
        assert (code, out) == (5, "")
        assert "the agent is not running" in err
