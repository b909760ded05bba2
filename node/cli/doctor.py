"""doctor: one page of what is wrong on this host, why, and what to try; --fix mends what is certain and safe."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from mesh.hosts import HostsError
from node import client
from node.cli import output
from node.cli.base import Command, flags
from node.commands import Commands
from node.doctor import AgentSays, Finding, HostDoctor, Level, exit_level
from node.doctor_verbs import as_said
from node.errors import Exit, MeshkeepError

__all__ = ["doctor", "page"]

ASK_S = 60.0
_WORDS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "unknown": "?"}


@click.command(cls=Command)
@click.option("--fix", is_flag=True, help="Mend what is certain and safe. Never destroys a snapshot.")
def doctor(fix: bool) -> int:
    """Look at this host and say what is wrong, why, and what to try. Works without an agent, as far as that goes.

    Exit codes: 0 nothing is broken, 1 something is, 3 some of it was mended and some was not.
    """
    if fix and os.geteuid() != 0:
        raise MeshkeepError(
            f"this needs root (you are uid {os.geteuid()})",
            code="needs_root",
            exit=Exit.NOT_PERMITTED,
            hint="sudo meshkeep doctor --fix",
        )
    before = _look()
    fixed, failed = _mend(before) if fix else ([], [])
    after = _look() if fixed or failed else before
    result = {
        "schema": "meshkeep.doctor/1",
        "findings": [one.as_json() for one in after],
        "before": [one.as_json() for one in before if one.fix] if fix else [],
        "fixed": fixed,
        "not_fixed": failed,
        "problems": exit_level(after),
    }
    lines = list(page(after))
    if fix:
        lines += ["", *(f"fixed  {one}" for one in fixed), *(f"not fixed  {one}" for one in failed)]
        lines += [] if fixed or failed else ["there was nothing to mend by itself"]
    output.emit(result, lines, as_json=flags().json)
    if not exit_level(after):
        return int(Exit.OK)
    return int(Exit.PARTIAL if fixed else Exit.FAILED)


def page(findings: Sequence[Finding]) -> Iterator[str]:
    """What people see: what is broken first."""
    order = {"fail": 0, "warn": 1, "unknown": 2, "ok": 3}
    for one in sorted(findings, key=lambda one: order[one.level]):
        yield f"{_WORDS[one.level]:<5} {one.check:<11} {one.text}"
        if one.why and one.level != "ok":
            yield f"{'why':>17}  {one.why}"
        if one.fix:
            yield f"{'try':>17}  sudo meshkeep doctor --fix"
        elif one.hint and one.level != "ok":
            yield f"{'try':>17}  {one.hint}"


def _look() -> list[Finding]:
    answer: dict[str, Any] = {}
    try:
        answer = client.call("doctor", timeout=ASK_S)
        told = as_said(answer)
    except MeshkeepError as error:
        why = "; ".join(one for one in (error.why, "what only the agent knows was not looked at") if one)
        level: Level = "unknown" if error.exit is Exit.NOT_PERMITTED else "fail"
        told = [Finding("agent", level, error.what, why, error.hint)]
    roots = answer.get("roots")
    agent = AgentSays(
        running=bool(answer),
        joined=bool(answer["joined"]) if "joined" in answer else None,
        roots=tuple(str(one) for one in roots) if isinstance(roots, list) else (),
    )
    return [*_host(agent), *told]


def _host(agent: AgentSays) -> list[Finding]:
    return asyncio.run(HostDoctor(Commands(), now=time.time()).look(agent))


def _mend(before: Sequence[Finding]) -> tuple[list[str], list[str]]:
    """What was mended, and what could not be. The agent mends its own."""
    wanted = list(dict.fromkeys(one.fix for one in before if one.fix))
    ours = [one for one in wanted if not one.startswith("agent:")]
    theirs = [one for one in wanted if one.startswith("agent:")]
    fixed: list[str] = []
    failed: list[str] = []
    if theirs:
        try:
            fixed += [str(one) for one in client.call("doctor.fix", {"what": theirs})["fixed"]]
        except MeshkeepError as error:
            failed.append(error.what)
    for one in ours:
        try:
            fixed += asyncio.run(HostDoctor(Commands(), now=time.time()).fix([one]))
        except (MeshkeepError, HostsError, OSError) as error:
            failed.append(f"{one}: {error}")
    return fixed, failed
