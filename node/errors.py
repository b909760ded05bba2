"""What a person is told when something cannot be done: what, why, what to try, and the exit code."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    CONFIG = 4
    NO_AGENT = 5
    NO_PEER = 6
    REFUSED = 7
    NOT_PERMITTED = 8
    NOT_FOUND = 9


class MeshkeepError(Exception):
    """An error to show. `code` is stable (snake_case), `hint` a command that is safe to paste, or empty."""

    def __init__(
        self, what: str, *, code: str, exit: Exit = Exit.FAILED, why: str = "", hint: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.code = code
        self.exit = exit

    def as_json(self) -> dict[str, str | int]:
        """The form it takes on the socket and under ``--json``."""
        return {
            "code": self.code,
            "exit": int(self.exit),
            "message": self.what,
            "why": self.why,
            "try": self.hint,
        }

    @classmethod
    def from_json(cls, raw: dict[str, object]) -> "MeshkeepError":
        """The inverse of `as_json`; missing fields become empty."""
        number = raw.get("exit", 1)
        return cls(
            str(raw.get("message", "failed")),
            code=str(raw.get("code", "failed")),
            exit=Exit(number) if isinstance(number, int) and number in list(Exit) else Exit.FAILED,
            why=str(raw.get("why", "")),
            hint=str(raw.get("try", "")),
        )
