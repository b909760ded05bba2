"""status: one screen of who is there and what is protected where, as of when."""

import time
from collections.abc import Iterator
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags

__all__ = ["screen", "status"]


@click.command(cls=Command)
def status() -> None:
    """Who is in the mesh and how it is reached; what is protected on whom, as of when."""
    result = client.call("status")
    output.emit(result, screen(result, time.time()), as_json=flags().json)


def screen(result: dict[str, Any], now: float) -> Iterator[str]:
    """The lines people see; `now` in epoch seconds."""
    if not result.get("mesh"):
        yield f"this host is in no mesh · v{result.get('version', '?')}"
    else:
        yield _headline(result)
        yield ""
        yield from output.table(
            ["NODE", "ADDRESS", "PATH", "ROLE", "SEEN"],
            [_node(node, result["node"], now) for node in result["nodes"]],
        )
    if result.get("datasets"):
        yield ""
        yield from output.table(
            ["DATASET", "SNAPSHOTS", "PROTECTED ON", "AS OF", "STATE"],
            [_dataset(dataset, result["node"], now) for dataset in result["datasets"]],
        )
    for problem in result.get("problems", []):
        yield ""
        yield f"warning  {problem['text']}"
        if problem.get("try"):
            yield f"    try  {problem['try']}"


def _headline(result: dict[str, Any]) -> str:
    nodes, problems = result["nodes"], result.get("problems", [])
    away = sum(node["state"] not in ("self", "alive") for node in nodes)
    count = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}{f', {away} away' if away else ''}"
    health = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "no problems"
    parts = [result["mesh"], count, f"{result['node']} (this node)", f"v{result['version']}", health]
    return " · ".join(parts)


def _node(node: dict[str, Any], own: str, now: float) -> list[str]:
    here = node["name"] == own
    path = node.get("path") or ("-" if node["state"] == "alive" else "")
    if node["state"] != "alive":
        path = f"{node['state']} {path}".strip()
    seen = node.get("seen")
    return [
        node["name"],
        node["address"],
        "this node" if here else path,
        node["role"],
        "now" if here else "never" if seen is None else f"{output.ago(seen, now)} ago",
    ]


def _dataset(dataset: dict[str, Any], own: str, now: float) -> list[str]:
    replicas = dataset.get("replicas", [])
    held = [replica for replica in replicas if replica.get("as_of") is not None]
    states = list(dict.fromkeys(str(replica["state"]) for replica in replicas))
    if len(states) > 1:
        states = [f"{replica['node']}: {replica['state']}" for replica in replicas]
    newest = dataset.get("newest")
    count = str(dataset.get("snapshots", 0))
    return [
        dataset["name"] if dataset.get("node") in (None, own) else f"{dataset['node']}:{dataset['name']}",
        count if newest is None else f"{count}  last {output.ago(newest, now)}",
        ", ".join(replica["node"] for replica in held) or "nobody",
        ", ".join(_as_of(replica, now) for replica in held) or "-",
        ", ".join(states) or "-",
    ]


def _as_of(replica: dict[str, Any], now: float) -> str:
    proven = replica.get("proven")
    text = f"{replica['node']} {output.ago(replica['as_of'], now)}"
    return text if proven is None else f"{text} (proven {output.ago(proven, now)} ago)"
