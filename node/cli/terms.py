"""vault terms, extend, shorten, cancel: what a node promised to keep for others, and how that is changed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output, values
from node.cli.base import Command, flags
from node.cli.confirm import confirm
from node.cli.words import read_words

__all__ = ["cancel", "extend", "shorten", "terms"]

DAY = 86400
MOST = 20
"""Snapshots that are shown one by one before somebody says yes."""


@click.command("terms", cls=Command)
@click.argument("node", required=False)
@click.option("--shorten", "less", is_flag=True, help="Here, at the vault's own console: a shorter floor.")
@click.option("--floor", type=values.duration, help="With --shorten: how long it is, like 30d.")
@click.option("--owner", metavar="NODE", help="With --shorten: only of what this node stores here.")
@click.option("-n", "--dry-run", "dry", is_flag=True, help="With --shorten: only show what could go.")
@click.option("--yes", is_flag=True, help="With --shorten: do not ask.")
def terms(node: str | None, less: bool, floor: int | None, owner: str | None, dry: bool, yes: bool) -> None:
    """On what terms NODE (default: this host) keeps data for others; each value, whose it is, and since when."""
    if not less:
        if floor is not None or owner is not None or dry or yes:
            raise click.UsageError("--floor, --owner, -n and --yes belong to --shorten")
        result = client.call("terms.show", {"node": node} if node else {})
        output.emit(result, _sheet(result), as_json=flags().json)
        return
    if node is not None:
        raise click.UsageError("--shorten is for the vault's own console: log in there, and name no node")
    if floor is None:
        raise click.UsageError("--shorten needs --floor")
    args = {"floor": floor} | ({"owner": owner} if owner else {})
    plan = client.call("terms.freed", args)
    if dry:
        output.emit(plan, _freed(plan), as_json=flags().json)
        return
    for line in _freed(plan):
        output.say(line)
    name = owner or str(client.call("terms.show", {})["node"])
    confirm(f"keep what is stored here for {_span(floor)} only", name, yes=yes)
    result = client.call("terms.shorten", args)
    output.emit(result, _sheet(result), as_json=flags().json)


@click.command("extend", cls=Command)
@click.argument("node")
@click.option("--floor", type=values.duration, required=True, help="How long it keeps whatever it got: 180d.")
def extend(node: str, floor: int) -> None:
    """From now on NODE keeps what this host stores there for longer. It cannot be taken back from afar."""
    result = client.call("terms.extend", {"node": node, "floor": floor})
    output.emit(result, _sheet(result), as_json=flags().json)


@click.command("shorten", cls=Command)
@click.argument("node")
@click.option(
    "--floor", type=values.duration, required=True, help="How long it still has to keep things: 30d."
)
@click.option("--owner", metavar="NODE", help="Whose data; default: that of this host.")
@click.option("--recovery", is_flag=True, help="With the 24 recovery words, which are asked for.")
@click.option(
    "--words-file", type=click.Path(path_type=Path), metavar="FILE", help="Where they are, - for stdin."
)
def shorten(node: str, floor: int, owner: str | None, recovery: bool, words_file: Path | None) -> None:
    """Ask NODE, by the recovery key, to keep things for less long. It takes effect there after seven days.

    Every node shows it meanwhile, and any admin, or root on NODE, can cancel it.
    """
    args: dict[str, Any] = {"node": node, "floor": floor} | ({"owner": owner} if owner else {})
    if recovery or words_file is not None:
        args["words"] = read_words(words_file)
    result = client.call("terms.ask", args)
    line = (
        f"{result['node']} keeps what {result['owner']} stores there for {_span(result['floor'])} only, "
        f"{_span(result['notice'])} after it hears of this, unless somebody cancels it"
    )
    hint = f"  to cancel  meshkeep vault cancel {result['node']} --owner {result['owner']}"
    output.emit(result, [line, hint], as_json=flags().json)


@click.command("cancel", cls=Command)
@click.argument("node", required=False)
@click.option("--owner", metavar="NODE", help="About whose data; default: that of this host.")
def cancel(node: str | None, owner: str | None) -> None:
    """What the recovery key asked of NODE (default: this host) does not take effect."""
    args = ({"node": node} if node else {}) | ({"owner": owner} if owner else {})
    result = client.call("terms.cancel", args)
    line = f"void: what {result['node']} keeps for {result['owner']}, it keeps as long as before"
    if not result["here"]:
        line += f"; it follows as soon as {result['node']} hears of it"
    output.emit(result, [line], as_json=flags().json)


def _sheet(result: Mapping[str, Any]) -> Iterator[str]:
    keep = result["keep"]["value"]
    rows = [
        ["all", "stored below", result["root"]["value"] or "-", *_origin(result["root"])],
        ["all", "floor", _span(result["floor"]["value"]), *_origin(result["floor"])],
        ["all", "quota", _size(result["quota"]["value"]), *_origin(result["quota"])],
        ["all", "kept", _counts(keep), *_origin(result["keep"])],
    ]
    for one in result["owners"]:
        for word in ("floor", "quota", "reservation"):
            term = one[word]
            if word == "reservation" and term["value"] is None:
                continue
            value = _span(term["value"]) if word == "floor" else _size(term["value"])
            rows.append([one["node"], word, value, *_origin(term)])
    yield from output.table(["FOR", "TERM", "VALUE", "FROM", "SINCE"], rows)
    for one in result["owners"]:
        if one["waiting"]:
            yield ""
            yield from _waiting(result["node"], one, here=result["here"])


def _waiting(node: str, one: Mapping[str, Any], *, here: bool) -> Iterator[str]:
    waiting = one["waiting"]
    left = "once its clock is believed" if waiting["left"] is None else f"in {output.span(waiting['left'])}"
    yield f"{one['node']}: {_span(waiting['floor'])} only, {left}, by the recovery key"
    yield f"  to cancel  meshkeep vault cancel {'' if here else node + ' '}--owner {one['node']}"


def _freed(plan: Mapping[str, Any]) -> Iterator[str]:
    names = [f"{one['node']}:{name}" for one in plan["owners"] for name in one["snapshots"]]
    if plan["configured"] > plan["floor"]:
        yield f"the configuration here says {_span(plan['configured'])}, and that stays the least"
    if not names:
        yield "nothing could go that may not go now"
        return
    yield f"{len(names)} snapshots could go, a few in a round:"
    yield from (f"  {name}" for name in names[:MOST])
    if len(names) > MOST:
        yield f"  and {len(names) - MOST} more (-n --json has all)"


def _origin(term: Mapping[str, Any]) -> list[str]:
    if term["value"] is None:
        return ["-", "-"]
    since = term["since"]
    return [term["from"], "-" if since is None else f"{datetime.fromtimestamp(since):%Y-%m-%d}"]


def _span(seconds: int) -> str:
    return f"{seconds // DAY}d" if seconds % DAY == 0 else output.span(seconds)


def _size(count: int | None) -> str:
    return "none" if count is None else output.size(count)


def _counts(keep: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in keep.items() if count) or "the newest"
