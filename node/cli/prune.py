"""prune: destroy what the policies do not keep, by hand."""

import time
from collections.abc import Mapping
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags
from node.cli.confirm import confirm
from node.errors import Exit

__all__ = ["prune"]


@click.command("prune", cls=Command)
@click.argument("dataset", required=False)
@click.option("-r", "--recursive", is_flag=True, help="And all below DATASET.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be destroyed; changes nothing.")
@click.option("-v", "--verbose", is_flag=True, help="Show every snapshot, with the reason.")
@click.option("--plan", metavar="ID", help="Run exactly what -n has shown.")
@click.option("--force", is_flag=True, help="Also where prune_defer says to wait.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(
    dataset: str | None,
    recursive: bool,
    dry_run: bool,
    verbose: bool,
    plan: str | None,
    force: bool,
    yes: bool,
) -> int:
    """Destroy the snapshots that the policies do not keep, of DATASET or of all that have a policy.

    That also runs where autoprune is off, and where the agent waits because unusually many would go.
    """
    if plan is not None:
        if dataset or dry_run or force or recursive:
            raise click.UsageError("--plan runs what was shown, nothing else", click.get_current_context())
        return _run(plan)
    if recursive and dataset is None:
        raise click.UsageError("--recursive needs a DATASET", click.get_current_context())
    found = client.call("prune.plan", {"dataset": dataset, "recursive": recursive, "force": force})
    lines = plan_lines(found, time.time(), verbose=verbose)
    if dry_run or found["plan"] is None:
        output.emit(found, lines, as_json=flags().json)
        return int(Exit.PARTIAL if found["failed"] else Exit.OK)
    if not flags().json:
        for line in lines[:-1]:
            output.say(line)
    count = sum(len(one["destroy"]) for one in found["datasets"])
    confirm(f"destroy {_many(count)}", found["plan"], yes=yes)
    return max(_run(found["plan"]), int(Exit.PARTIAL if found["failed"] else Exit.OK))


def _run(plan: str) -> int:
    result = client.call("prune.run", {"plan": plan})
    lines = [f"{_many(len(result['destroyed']))} destroyed"]
    lines += [f"{one['snapshot']}  stays: {one['reason']}" for one in result["failed"]]
    output.emit(result, lines, as_json=flags().json)
    return int(Exit.PARTIAL if result["failed"] else Exit.OK)


def plan_lines(found: Mapping[str, Any], now: float, *, verbose: bool) -> list[str]:
    """The table; the last line says how to run it."""
    shown = [one for one in found["datasets"] if one["destroy"] or one["spared"]]
    rows = [
        [
            one["dataset"],
            str(len(one["destroy"])),
            f"at least {output.size(one['frees_at_least'])}" if one["destroy"] else "-",
            str(one["keep"]),
            "; ".join(_remarks(one)),
        ]
        for one in shown
    ]
    lines = output.table(["DATASET", "WOULD DESTROY", "FREES", "KEEP", ""], rows) if rows else []
    if verbose:
        for one in shown:
            lines += [f"  {row['snapshot']}  goes: {row['reason']}" for row in one["destroy"]]
            lines += [f"  {row['snapshot']}  stays: {row['reason']}" for row in one["spared"]]
    lines += [f"{one['dataset']}  {one['reason']} (--force)" for one in found["deferred"]]
    lines += [f"{one['dataset']}  cannot be looked at: {one['reason']}" for one in found["failed"]]
    if found["plan"] is None:
        return [*lines, "nothing is due to go"]
    minutes = output.span(found["valid_until"] - now)
    how = f"sudo meshkeep prune --plan {found['plan']}"
    return [
        *lines,
        f"plan {found['plan']} · run it: {how}      (valid {minutes}, refused if snapshots change)",
    ]


def _remarks(one: Mapping[str, Any]) -> list[str]:
    found = []
    if one["spared"]:
        count = len(one["spared"])
        found.append(
            f"{count} more {'is' if count == 1 else 'are'} kept only because: {_causes(one['spared'])}"
        )
    if not one["autoprune"]:
        found.append("autoprune is off: only this command prunes")
    if one["waiting"]:
        found.append("unusually many: the agent waits for this command")
    return found


def _causes(spared: list[Mapping[str, Any]]) -> str:
    """The reasons behind the first one, which says why it would go: ``held``, ``needed by cloud``."""
    causes = dict.fromkeys(cause for one in spared for cause in one["reason"].split(", ")[2:] or ["a rule"])
    shown = list(causes)[:3]
    return ", ".join(shown) + (" and others" if len(causes) > 3 else "")


def _many(count: int) -> str:
    return f"{count} snapshot{'' if count == 1 else 's'}"
