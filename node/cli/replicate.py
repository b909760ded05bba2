"""replicate: keep copies of a dataset on other nodes."""

import time
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.adopt import adopt
from node.cli.base import flags, group
from node.cli.confirm import confirm
from node.cli.passphrase import try_key_first
from node.cli.progress import watch
from node.cli.seed import seed

__all__ = ["outcome", "replicate"]

replicate = group("replicate", "Keep copies of a dataset on other nodes.")
replicate.add_command(adopt)
replicate.add_command(seed)


@replicate.command("add")
@click.argument("dataset")
@click.argument("node")
@click.option("--no-wait", is_flag=True, help="Do not wait for the first copy.")
@click.option("-r", "--recursive", is_flag=True, help="With all datasets below it, those to come too.")
@click.option("--exclude", multiple=True, metavar="DATASET", help="Not this one, nor what is below it.")
@click.option(
    "--on-divergence",
    type=click.Choice(["conflict", "rotate"]),
    help="A copy that nothing leads on from waits for you, or is kept aside and a new one begun.",
)
@click.option(
    "--yes", is_flag=True, help="Do not ask for the passphrase; that it was never tried is only said."
)
def add(
    dataset: str,
    node: str,
    no_wait: bool,
    recursive: bool,
    exclude: tuple[str, ...],
    on_divergence: str | None,
    yes: bool,
) -> None:
    """Keep a copy of DATASET on NODE. It is renewed after each snapshot, raw if encrypted, and resumable."""
    if exclude and not recursive:
        raise click.UsageError("--exclude means nothing without -r")
    if not (yes or flags().json):
        try_key_first(dataset)
    args: dict[str, Any] = {"dataset": dataset, "node": node, "wait": not no_wait}
    if on_divergence is not None:
        args["on_divergence"] = on_divergence
    _streamed("replicate.add", args | ({"recursive": True, "exclude": list(exclude)} if recursive else {}))


@replicate.command("rotate")
@click.argument("dataset")
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rotate(dataset: str, node: str, yes: bool) -> None:
    """Where DATASET does not lead on from NODE's copy: that is kept aside there, whole, and a new copy is begun."""
    args: dict[str, Any] = {"dataset": dataset, "node": node}
    found = client.call("replicate.rotate", args)
    if not yes:
        for line in (found["text"], *(f"  {one}" for one in found["evidence"])):
            output.say(line)
    confirm(f"keep the copy of {dataset} on {node} aside, and send all of it anew", dataset, yes=yes)
    _streamed("replicate.rotate", args | {"newest": found["newest"]})


@replicate.command("accept-root")
@click.argument("dataset")
def accept_root(dataset: str) -> None:
    """You gave DATASET another encryption root, and mean it. Its targets then ask about the new key themselves."""
    result = client.call("replicate.accept-root", {"dataset": dataset})
    output.emit(result, [f"{dataset}  has the key of {result['root']}, as you say"], as_json=flags().json)


@replicate.command("run")
@click.argument("dataset")
@click.argument("node")
@click.option("--wait", is_flag=True, help="Wait for the outcome; the exit code is that of the outcome.")
def run(dataset: str, node: str, wait: bool) -> None:
    """Bring NODE's copy of DATASET up to date now."""
    _streamed("replicate.run", {"dataset": dataset, "node": node, "wait": wait})


def _streamed(verb: str, args: dict[str, Any]) -> None:
    label = f"{args['dataset']} → {args['node']}"
    result = watch(verb, args, label, silent=flags().quiet or flags().json)
    output.emit(result, [outcome(label, result, time.time())], as_json=flags().json)


def outcome(label: str, result: dict[str, Any], now: float) -> str:
    """What a replication came to, in a line."""
    parts = [f"{label}  {result.get('state', 'begun')}"]
    if result.get("as_of") is not None:
        parts.append(f"as of {output.ago(result['as_of'], now)} ago")
    if result.get("bytes"):
        parts.append(f"{output.size(result['bytes'])} sent")
    if result.get("resumed"):
        parts.append("resumed")
    if result.get("datasets"):
        parts.append(f"{len(result['datasets'])} datasets")
    return " · ".join(parts)


@replicate.command("list")
def list_() -> None:
    """The rules, and how far each copy is."""
    result = client.call("replicate.list")
    now = time.time()
    rows = [
        [
            row["dataset"],
            row["node"],
            str(row.get("state") or "-"),
            output.ago(row.get("as_of"), now),
            _behind(row),
            _last(row, now),
            str(row.get("next") or "-"),
        ]
        for row in result["rules"]
    ]
    header = ["DATASET", "NODE", "STATE", "AS OF", "BEHIND", "LAST RUN", "NEXT"]
    lines = output.table(header, rows) if rows else ["nothing is replicated"]
    output.emit(result, lines, as_json=flags().json)


def _behind(row: dict[str, Any]) -> str:
    if row.get("behind") is None:
        return "-"
    if row["behind"] and row.get("as_of") is None:
        return "all"
    return f"{row['behind']} snaps" if row["behind"] else "0"


def _last(row: dict[str, Any], now: float) -> str:
    if row.get("ended") is None:
        return "-"
    return f"{output.ago(row['ended'], now)} ago {row['outcome']} {output.span(row['ended'] - row['began'])}"


@replicate.command("pause")
@click.argument("dataset")
@click.argument("node")
def pause(dataset: str, node: str) -> None:
    """Send nothing more until it is resumed. A restart does not resume it; what the next run begins from is kept."""
    result = client.call("replicate.pause", {"dataset": dataset, "node": node})
    output.emit(result, [f"{dataset} → {node}  paused"], as_json=flags().json)


@replicate.command("resume")
@click.argument("dataset")
@click.argument("node")
def resume(dataset: str, node: str) -> None:
    """Go on where it was paused."""
    result = client.call("replicate.resume", {"dataset": dataset, "node": node})
    output.emit(result, [f"{dataset} → {node}  goes on"], as_json=flags().json)


@replicate.command("leftovers")
@click.option("--release", is_flag=True, help="Release all of it, what is in doubt too.")
def leftovers(release: bool) -> None:
    """Holds and bookmarks here for nodes that no rule names any more. What is certain is released by itself."""
    result = client.call("replicate.leftovers", {"release": release})
    rows = [
        [one["dataset"], one["target"], str(len(one["holds"])), str(len(one["bookmarks"])), one["why"]]
        for one in result["leftovers"]
    ]
    header = ["DATASET", "FOR NODE", "HOLDS", "BOOKMARKS", "WHY"]
    lines = output.table(header, rows) if rows else ["no rule left anything behind"]
    if release and result["leftovers"]:
        lines.append("released")
    output.emit(result, lines, as_json=flags().json)


@replicate.command("remove")
@click.argument("dataset")
@click.argument("node")
def remove(dataset: str, node: str) -> None:
    """Stop copying. What NODE has already it keeps."""
    result = client.call("replicate.remove", {"dataset": dataset, "node": node})
    output.emit(result, [f"{dataset} → {node}  removed; the copy stays"], as_json=flags().json)


@replicate.command("plan")
@click.argument("dataset")
@click.argument("node")
def plan(dataset: str, node: str) -> None:
    """What a run would do, and why. Changes nothing."""
    result = client.call("replicate.plan", {"dataset": dataset, "node": node})
    steps = [str(step.get("text", step)) if isinstance(step, dict) else str(step) for step in result["steps"]]
    lines = [f"{number:3}  {step}" for number, step in enumerate(steps, 1)] or ["nothing to do"]
    lines += [f"why  {reason}" for reason in result.get("reasons", [])]
    output.emit(result, lines, as_json=flags().json)
