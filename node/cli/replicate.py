"""replicate: keep copies of a dataset on other nodes."""

import time
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.progress import watch

__all__ = ["outcome", "replicate"]

replicate = group("replicate", "Keep copies of a dataset on other nodes.")


@replicate.command("add")
@click.argument("dataset")
@click.argument("node")
@click.option("--no-wait", is_flag=True, help="Do not wait for the first copy.")
def add(dataset: str, node: str, no_wait: bool) -> None:
    """Keep a copy of DATASET on NODE. It is renewed after each snapshot, raw if encrypted, and resumable."""
    _streamed("replicate.add", {"dataset": dataset, "node": node, "wait": not no_wait})


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
        ]
        for row in result["rules"]
    ]
    lines = output.table(["DATASET", "NODE", "STATE", "AS OF"], rows) if rows else ["nothing is replicated"]
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
