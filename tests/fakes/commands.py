"""A runner for tests: records what was run and answers as told; what nothing is told about succeeds."""

from collections.abc import Callable, Sequence

from node.commands import Result

Answer = Result | Exception | Callable[[], Result]


class Recording:
    def __init__(self) -> None:
        self.ran: list[str] = []
        self._answers: list[tuple[str, Answer]] = []

    def on(self, start: str, answer: Answer) -> None:
        """Answer commands that start so; what was told last counts."""
        self._answers.insert(0, (start, answer))

    async def run(self, argv: Sequence[str], timeout: float = 30) -> Result:
        line = " ".join(argv)
        self.ran.append(line)
        for start, answer in self._answers:
            if line.startswith(start):
                if isinstance(answer, Exception):
                    raise answer
                return answer if isinstance(answer, Result) else answer()
        return Result(0)
