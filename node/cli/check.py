"""check: a Nagios plugin. One line with performance data, and Nagios's exit codes instead of ours."""

from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import Group, flags
from node.errors import MeshkeepError

__all__ = ["check"]

UNKNOWN = 3
TIMEOUT = 20.0
"""Seconds without a word of the agent, which itself gives ZFS ten."""


class _Plugin(Group):
    """Whatever cannot be asked is UNKNOWN: our code for a usage error would read as critical."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _unknown(error.format_message()) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _unknown(error.format_message()) from None


@click.group("check", cls=_Plugin, invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def check(ctx: click.Context) -> int | None:
    """Snapshots, capacity, health and replication for Nagios and its kin: all of them, or one.

    Exits with 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN), unlike all other commands.
    """
    return _check(None) if ctx.invoked_subcommand is None else None


@check.command("snapshots")
def snapshots() -> int:
    """Whether the newest snapshots are as fresh as their policies want."""
    return _check("snapshots")


@check.command("capacity")
def capacity() -> int:
    """Whether a pool is too full."""
    return _check("capacity")


@check.command("health")
def health() -> int:
    """Whether pools and their devices are well, and when they were last scrubbed."""
    return _check("health")


@check.command("replication")
def replication() -> int:
    """Whether every copy on another node is as fresh as its rule wants."""
    return _check("replication")


def _check(what: str | None) -> int:
    try:
        result = client.call("check", {"what": what} if what else {}, timeout=TIMEOUT)
        code, line = int(result["code"]), str(result["line"])
    except MeshkeepError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        raise _unknown(f"{why} (try: {error.hint})" if error.hint else why, error) from None
    except (KeyError, ValueError):
        raise _unknown("the agent's answer makes no sense; is it of another version?") from None
    output.emit(result, [line], as_json=flags().json)
    return code


def _unknown(why: str, error: MeshkeepError | None = None) -> click.exceptions.Exit:
    """Said on standard output, where the monitoring reads it."""
    line = f"UNKNOWN - {' '.join(why.replace('|', '/').split())}"
    result: dict[str, Any] = {
        "schema": "meshkeep.check/1",
        "code": UNKNOWN,
        "state": "UNKNOWN",
        "line": line,
        "checks": [],
    }
    if error is not None:
        result["error"] = error.as_json()
    output.emit(result, [line], as_json=flags().json)
    return click.exceptions.Exit(UNKNOWN)
