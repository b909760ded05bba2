"""Before ZFS is asked for what its version is known to break: refused or told. Each side checks its own."""

import time
from collections.abc import Iterable

from mesh.link_errors import Refusal
from node.doctor import Finding
from node.errors import Exit, MeshkeepError
from node.status import Problem
from replication.steps import Incremental, Plan, Resume
from zfs import errors
from zfs.door import Zfs
from zfs.known_bugs import Trouble, Use, refusal, troubles
from zfs.model import Bookmark

FRESH = 3600.0
"""Seconds for which the versions are believed: the module changes with a restart only, the programs by an upgrade."""


class VersionGates:
    """What is known against this host's OpenZFS."""

    def __init__(self, zfs: Zfs) -> None:
        self._zfs = zfs
        self._seen: tuple[float, str, tuple[Trouble, ...]] | None = None

    async def look(self) -> tuple[Trouble, ...]:
        """All of it. Raises ZfsError where ZFS does not tell its version."""
        now = time.monotonic()
        if self._seen is None or now > self._seen[0] + FRESH:
            userland, module = await self._zfs.version()
            self._seen = now, module, troubles(userland, module)
        return self._seen[2]

    async def renew(self) -> None:
        """Look, for `problems`. Raises ZfsError."""
        await self.look()

    async def module(self) -> str:
        """The version of the kernel module, as peers are told. Empty where it is not known."""
        try:
            await self.look()
        except errors.ZfsError:
            return ""
        return self._seen[1] if self._seen is not None else ""

    @property
    def problems(self) -> list[Problem]:
        """For `status`, of the last look."""
        return [_problem(one) for one in (self._seen[2] if self._seen is not None else ())]

    async def findings(self) -> list[Finding]:
        """For `doctor`. Raises ZfsError."""
        found = await self.look()
        told = [
            Finding("zfs", "fail" if one.severity == "refuse" else "warn", one.text, hint=one.advice)
            for one in found
        ]
        return told or [
            Finding("zfs", "ok", f"no bug is known of OpenZFS {await self.module()} that would matter here")
        ]

    async def check_sending(self, decided: Plan, what: str) -> None:
        """*what* is what cannot be done, for people. Raises MeshkeepError, ZfsError."""
        uses: list[Use] = ["send_raw" if decided.raw else "send_plain"]
        if decided.raw and any(_from_bookmark(step) for step in decided.steps):
            uses.append("bookmark_base")
        await self._check(uses, what)

    async def check_restoring(self, raw: bool, what: str) -> None:
        """As `check_sending`, for what is received here from a copy."""
        await self._check(["receive_raw" if raw else "receive_plain"], what)

    async def refuse_receiving(self, raw: bool) -> None:
        """For a peer's stream. Raises Refusal, ZfsError."""
        known = await self.look()
        found = refusal(known, "store") or refusal(known, "receive_raw" if raw else "receive_plain")
        if found is not None:
            raise Refusal(f"zfs_{found.code}", f"the target's {found.text}", f"on the target: {found.advice}")

    async def _check(self, uses: Iterable[Use], what: str) -> None:
        known = await self.look()
        for use in uses:
            found = refusal(known, use)
            if found is not None:
                raise MeshkeepError(
                    what, code=f"zfs_{found.code}", exit=Exit.REFUSED, why=found.text, hint=found.advice
                )


def _from_bookmark(step: object) -> bool:
    return isinstance(step, Incremental | Resume) and isinstance(step.base, Bookmark)


def _problem(one: Trouble) -> Problem:
    return Problem(f"zfs_{one.code}", one.text, one.advice)
