"""jobs: what is on its way to other nodes, and what keeps the rest waiting."""

import time
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.progress import watch as watched
from node.cli.replicate import outcome

__all__ = ["jobs"]

AT_REST = ("ok", "nothing to send", "paused")

jobs = group("jobs", "What is on its way to other nodes: list, show, watch, cancel.")


@jobs.command("list")
@click.option("--all", "all_", is_flag=True, help="Those too that have nothing to do.")
def list_(all_: bool) -> None:
    """Jobs that run, wait, or need a person. One job is one dataset on its way to one node."""
    result = client.call("jobs.list")
    shown = [job for job in result["jobs"] if all_ or job["state"] not in AT_REST]
    rows = [[job["job"], job["dataset"], job["node"], job["state"], _how_far(job)] for job in shown]
    idle = len(result["jobs"]) - len(shown)
    lines = output.table(["JOB", "DATASET", "NODE", "STATE", "HOW FAR"], rows) if rows else ["nothing runs"]
    if idle:
        lines.append(f"{idle} more with nothing to do: --all")
    output.emit(result, lines, as_json=flags().json)


def _how_far(job: dict[str, Any]) -> str:
    if job["state"] != "running" or not job.get("bytes_total"):
        return (job.get("error") or {}).get("message", "") or "-"
    share = min(1.0, job["bytes_done"] / job["bytes_total"])
    parts = [f"step {job['step']}/{job['steps']}", f"{share * 100:.0f}%", f"{output.size(job['rate'])}/s"]
    if job.get("eta_seconds"):
        parts.append(f"ETA {output.span(job['eta_seconds'])}")
    return "  ".join(parts)


@jobs.command("show")
@click.argument("job")
@click.argument("node", required=False)
def show(job: str, node: str | None) -> None:
    """All about one job: JOB is its id, or a dataset with the NODE it goes to."""
    result = client.call("jobs.show", _named(job, node))
    output.emit(result, _details(result, time.time()), as_json=flags().json)


def _details(job: dict[str, Any], now: float) -> list[str]:
    rows = [
        ("state", job["state"]),
        ("as of", f"{output.ago(job['as_of'], now)} ago" if job["as_of"] is not None else "never"),
        ("behind", "-" if job["behind"] is None else f"{job['behind']} snapshots"),
        ("late after", output.span(job["late_after"])),
        (
            "last run",
            "-" if job["ended"] is None else f"{output.ago(job['ended'], now)} ago: {job['outcome']}",
        ),
        ("next", job["next"] or "under way"),
        ("seen", f"{job['node']} answered {output.ago(job['target_seen'], now)} ago"),
        ("base pins", output.size(job["base_pins"])),
        ("rule", f"{job['rule']} to {job['node']}"),
        *((key.replace("_", " "), str(value)) for key, value in job["options"].items() if value),
    ]
    lines = [f"{job['dataset']} → {job['node']}   job {job['job']}"]
    lines += [f"  {label:15} {text}" for label, text in rows]
    if error := job.get("error"):
        lines += [f"  {'trouble':15} {error['message']}"]
        lines += [f"  {'':15} {line}" for line in str(error.get("why", "")).splitlines()]
        lines += [f"  {'try':15} {error['try']}"] if error.get("try") else []
    return lines


@jobs.command("watch")
@click.argument("job")
@click.argument("node", required=False)
def watch(job: str, node: str | None) -> None:
    """Follow a job until its run ends. Ctrl-C leaves it running."""
    found = client.call("jobs.show", _named(job, node))
    label = f"{found['dataset']} → {found['node']}"
    if not (flags().quiet or flags().json):
        output.say("Ctrl-C leaves the job running.")
    result = watched("jobs.watch", {"job": found["id"]}, label, silent=flags().quiet or flags().json)
    output.emit(result, [outcome(label, result, time.time())], as_json=flags().json)


@jobs.command("cancel")
@click.argument("job")
@click.argument("node", required=False)
def cancel(job: str, node: str | None) -> None:
    """End the run that is under way. What has arrived stays; the next snapshot or `replicate run` goes on with it."""
    result = client.call("jobs.cancel", _named(job, node))
    line = (
        f"{result['dataset']} → {result['node']}  cancelled; goes on with the next snapshot or replicate run"
    )
    output.emit(result, [line], as_json=flags().json)


def _named(job: str, node: str | None) -> dict[str, Any]:
    return {"job": job, "node": node} if node else {"job": job}
