"""The one screen: nodes with their paths, datasets with where and as of when they are protected, problems. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replication.ledger import Head, heard, told

SCHEMA = "meshkeep.status/1"
LATE_AFTER = 24 * 3600
"""Seconds without protection after which a replica is late, unless its rule says otherwise."""


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One node as this one sees it. `seen` in epoch seconds."""

    name: str
    id: str
    role: str
    address: str
    state: str
    path: str
    seen: int | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to act on; `try_` is a command that is safe to paste, or empty."""

    code: str
    text: str
    try_: str = ""

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text, "try": self.try_}


def dataset_line(
    name: str, node: str, snapshots: int, newest: int | None, replicas: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One entry of ``datasets``; replicas are {"node", "as_of", "state"}, perhaps with "late_after" and "proven"."""
    return {
        "name": name,
        "node": node,
        "snapshots": snapshots,
        "newest": newest,
        "replicas": [_replica(one) for one in replicas],
    }


def _replica(one: Mapping[str, Any]) -> dict[str, Any]:
    """`late_after` is said only where a rule has its own, `proven` (epoch seconds) once a drill has read the copy."""
    found = {"node": one["node"], "as_of": one["as_of"], "state": one["state"]}
    limit, proven = one.get("late_after"), one.get("proven")
    if limit not in (None, LATE_AFTER):
        found["late_after"] = limit
    if proven is not None:
        found["proven"] = proven
    return found


def report_body(
    datasets: Sequence[Mapping[str, Any]], limit: int, heads: Mapping[str, Head] | None = None
) -> bytes:
    """What a node tells the others of its datasets, at most *limit* bytes: canonical JSON, signed by the mesh.

    With the heads of the lists of what it sent, in at most half of it. Where not all datasets fit, those with replicas
    go first, and the others are left out.
    """
    sent = told(heads, limit // 2) if heads else {}
    said = sorted(datasets, key=lambda line: (not line["replicas"], line["name"]))
    while len(body := _report(said, sent)) > limit:
        said = said[: len(said) * limit // len(body)]
    return body


def _report(datasets: Sequence[Mapping[str, Any]], sent: Mapping[str, Any]) -> bytes:
    body = {"datasets": list(datasets), **({"sent": sent} if sent else {})}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def read_heads(body: bytes) -> dict[str, Head]:
    """The heads in another node's report, with short hashes. What is malformed is left out."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return heard(document.get("sent")) if isinstance(document, dict) else {}


def read_report(body: bytes, node: str) -> list[dict[str, Any]]:
    """The datasets of another node's report, shown under its current name. What is malformed is left out."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # the latter of brackets nested too deep
        return []
    entries = document.get("datasets") if isinstance(document, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        raw = entry.get("replicas")
        replicas = [
            {
                "node": str(one["node"]),
                "as_of": _number(one.get("as_of")),
                "state": str(one.get("state", "")),
                "late_after": _number(one.get("late_after")),
                "proven": _number(one.get("proven")),
            }
            for one in (raw if isinstance(raw, list) else [])
            if isinstance(one, dict) and isinstance(one.get("node"), str)
        ]
        found.append(
            dataset_line(
                entry["name"],
                node,
                _number(entry.get("snapshots")) or 0,
                _number(entry.get("newest")),
                replicas,
            )
        )
    return found


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def late(datasets: Iterable[Mapping[str, Any]], now: int) -> list[Problem]:
    """A problem for every replica that has not been protected for as long as its rule allows."""
    problems = []
    for dataset in datasets:
        for replica in dataset["replicas"]:
            as_of = replica["as_of"]
            if as_of is not None and now - as_of > replica.get("late_after", LATE_AFTER):
                hours = (now - as_of) // 3600
                problems.append(
                    Problem(
                        "replica_late",
                        f"{dataset['name']} of {dataset['node']} is {hours} h behind on {replica['node']}",
                        f"meshkeep replicate run {dataset['name']} {replica['node']} --wait",
                    )
                )
    return problems


def screen(
    *,
    mesh: str,
    node: str,
    version: str,
    nodes: Sequence[NodeLine],
    datasets: Sequence[Mapping[str, Any]],
    problems: Sequence[Problem],
) -> dict[str, Any]:
    """The whole of ``meshkeep status --json``."""
    return {
        "schema": SCHEMA,
        "mesh": mesh,
        "node": node,
        "version": version,
        "nodes": [
            {
                "name": line.name,
                "id": line.id,
                "role": line.role,
                "address": line.address,
                "state": line.state,
                "path": line.path,
                "seen": line.seen,
            }
            for line in nodes
        ],
        "datasets": list(datasets),
        "problems": [problem.as_json() for problem in problems],
    }
