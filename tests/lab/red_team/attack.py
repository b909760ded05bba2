"""An attack: a function with a name, what it tries, and how it may end. `tried` runs one and says how it did."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.frames import FrameError
from mesh.link_errors import LinkTimeout, PeerBroke, PeerRefused, PeerUnreachable

if TYPE_CHECKING:
    from .thief import Thief

DONE = "done"
"""The vault did what was asked: it must not have cost what it held before."""

CUT, UNREACHABLE, TIMEOUT = "cut", "unreachable", "no answer"
SECONDS = 240.0
"""What one attack may take."""

Try = Callable[["Thief"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Attack:
    """`expects` are the codes with which it may end; it is lost if it ends with another."""

    name: str
    group: str
    tries: str
    expects: frozenset[str]
    run: Try


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table."""

    name: str
    code: str
    as_expected: bool


class Attacks:
    """Those of one group, in the order in which they are tried."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.all: list[Attack] = []

    def __call__(self, *expects: str) -> Callable[[Try], Try]:
        """Register a function. Its docstring says what it tries."""

        def register(run: Try) -> Try:
            name: str = run.__name__  # type: ignore[attr-defined]
            tries = " ".join((run.__doc__ or "").split())
            self.all.append(Attack(name, self.group, tries, frozenset(expects), run))
            return run

        return register


async def code_of(work: Awaitable[object]) -> str:
    """How a request or a stream ended: DONE, or the code with which it was refused."""
    try:
        await work
    except PeerRefused as refused:
        return refused.code
    except LinkTimeout:
        return TIMEOUT
    except PeerUnreachable:
        return UNREACHABLE
    except (PeerBroke, FrameError):
        return CUT
    return DONE


async def codes_of(*works: Awaitable[object]) -> str:
    """Of all of them, one after the other; the distinct ones with a comma between."""
    return together([await code_of(work) for work in works])


def together(codes: list[str]) -> str:
    return ", ".join(sorted(set(codes)))


async def tried(attack: Attack, thief: "Thief") -> Outcome:
    """Never raises for what an attack came to."""
    try:
        async with asyncio.timeout(SECONDS):
            code = await attack.run(thief)
    except TimeoutError:
        code = "it hangs"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a row of the table
        code = f"{type(error).__name__}: {error}"
    return Outcome(attack.name, code, set(code.split(", ")) <= attack.expects)
