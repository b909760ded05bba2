"""policy: what the rules are, what they come to, and what other rules would do. Changes nothing."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group

__all__ = ["place", "plan_lines", "policy"]

SHORT = 10
"""So many lines of each kind are shown without --verbose."""

LATEST = 32_503_680_000
"""The year 3000, the latest that can be asked about."""

policy = group("policy", "Which snapshots are taken and kept, and why.")


@policy.command("list")
def list_() -> None:
    """The policies, and how many datasets have each."""
    result = client.call("policy.list")
    rows = [
        [row["name"], str(row["datasets"]), row["keep"], _switches(row), place(row["at"])]
        for row in result["policies"]
    ]
    lines = (
        output.table(["POLICY", "DATASETS", "KEEP", "", "FROM"], rows) if rows else ["there are no policies"]
    )
    lines += [f"a rule is for {name}, which does not exist" for name in result.get("unmatched", ())]
    output.emit(result, lines, as_json=flags().json)


@policy.command("show")
@click.argument("name")
def show(name: str) -> None:
    """All values of the policy NAME, and where each is set."""
    result = client.call("policy.show", {"policy": name})
    lines: list[str] = []
    for found in result["policies"]:
        lines.append(f"{name}  from {place(found['at'])}, for {_many(found['datasets'], 'dataset')}")
        rows = [
            [f"  {key}", _value(one["value"]), place(one["at"]) if one["at"] else "default"]
            for key, one in found["values"].items()
        ]
        lines += output.table(["  VALUE", "", "SET AT"], rows)
    output.emit(result, lines, as_json=flags().json)


@policy.command("explain")
@click.argument("dataset")
def explain(dataset: str) -> None:
    """Which policy DATASET has and why, what that comes to now, and what comes next."""
    result = client.call("policy.explain", {"dataset": dataset})
    output.emit(result, explain_lines(result, time.time()), as_json=flags().json)


@policy.command("test")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Show all, with reasons.")
def test(file: Path, verbose: bool) -> None:
    """What the rules in FILE would do with what is there now, against the rules in force. Changes nothing.

    FILE is a TOML file, a sanoid.conf (by .conf), or a directory of either.
    """
    from node.paper import form_of, read_texts

    form = form_of(file)
    result = client.call("policy.test", {"form": form, "texts": read_texts(file, form)})
    output.emit(result, test_lines(result, verbose=verbose), as_json=flags().json)


@policy.command("plan")
@click.option("--sanoid-conf", type=click.Path(path_type=Path), help="Decide by a sanoid.conf.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Decide by a TOML file, or a directory of them."
)
@click.option(
    "--inventory",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What there is, as JSON. Without it, the agent is asked what it would do now.",
)
@click.option("--timezone", metavar="ZONE", help="Of the times of day in a sanoid.conf; default: UTC.")
@click.option("--at", type=click.IntRange(0, LATEST), metavar="EPOCH", help="When, in seconds; default: now.")
@click.option("-v", "--verbose", is_flag=True, help="Show all, with reasons.")
def plan(
    sanoid_conf: Path | None,
    config: Path | None,
    inventory: Path | None,
    timezone: str | None,
    at: int | None,
    verbose: bool,
) -> None:
    """What would be taken and destroyed, and why. Changes nothing; on paper it needs no agent."""
    if inventory is None:
        if sanoid_conf or config or timezone or at is not None:
            raise _usage(
                "deciding on paper needs --inventory; for what is there now: meshkeep policy test FILE"
            )
        result = client.call("policy.plan")
    else:
        if (sanoid_conf is None) == (config is None):
            raise _usage("--inventory needs --sanoid-conf or --config, one of the two")
        if timezone is not None and sanoid_conf is None:
            raise _usage("--timezone is for a sanoid.conf; a TOML file says it itself, in [snapshots]")
        zone = "UTC" if timezone is None else _known_zone(timezone)
        result = _on_paper(sanoid_conf, config, inventory, int(time.time()) if at is None else at, zone)
    output.emit(result, plan_lines(result, verbose=verbose), as_json=flags().json)


def _known_zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; no key at all; a folder of zones
        raise _usage(f'"{name}" is no time zone known here; write it like "Europe/Berlin"') from None
    return name


def _on_paper(
    sanoid_conf: Path | None, config: Path | None, inventory: Path, at: int, timezone: str
) -> dict[str, Any]:
    import json
    from collections import Counter
    from dataclasses import replace

    from node.paper import Form, read_texts, resolve_texts
    from node.storage import node_roots
    from policy.explain import plan_body, waits
    from policy.inventory import InventoryError, read
    from policy.tick import plan_tick

    form: Form = "toml" if sanoid_conf is None else "sanoid"
    where = sanoid_conf or config
    assert where is not None
    texts = read_texts(where, form)
    try:
        paper = read(json.loads(inventory.read_bytes()))
    except InventoryError as error:
        raise _bad_inventory(inventory, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _bad_inventory(inventory, f"it is not JSON: {error}") from None
    except OSError as error:
        raise _bad_inventory(inventory, f"it cannot be read: {error.strerror}") from None
    resolution = resolve_texts(form, texts, paper.datasets, node_roots(paper.datasets), timezone)
    decided = plan_tick(paper.inventory, resolution, at)
    counts = Counter(snapshot.dataset for snapshot in paper.inventory.snapshots)
    decided = replace(decided, warnings=(*decided.warnings, *waits(decided, counts, resolution)))
    return {"schema": "meshkeep.policy-plan/1", **plan_body(decided)}


def _bad_inventory(file: Path, why: str) -> Exception:
    from node.errors import Exit, MeshkeepError

    return MeshkeepError(
        f"the inventory {file} makes no sense", code="bad_inventory", exit=Exit.USAGE, why=why
    )


def _usage(text: str) -> click.UsageError:
    return click.UsageError(text, click.get_current_context())


# -- text --------------------------------------------------------------------------------------------------------


def plan_lines(result: Mapping[str, Any], *, verbose: bool) -> list[str]:
    """A plan as a table with reasons, its beginning unless `verbose`."""
    takes, prunes = result["take"], result["prune"]
    rows = [
        ["take", one["dataset"] + (" and all below" if one["recursive"] else ""), one["type"], one["reason"]]
        for one in _cut(takes, verbose)
    ]
    rows += [["destroy", one["snapshot"], "", one["reason"]] for one in _cut(prunes, verbose)]
    lines = output.table(["WOULD", "WHAT", "TYPE", "WHY"], rows) if rows else []
    lines += [f"warning  {one['text']}" for one in result["warnings"]]
    shown = len(rows) < len(takes) + len(prunes)
    lines.append(
        f"{len(takes)} to take, {len(prunes)} to destroy" + ("; all of them: --verbose" if shown else "")
    )
    return lines


def test_lines(result: Mapping[str, Any], *, verbose: bool) -> list[str]:
    """The plan by the other rules, and how it differs."""
    lines = plan_lines(result, verbose=verbose)
    changed, difference = result["changed"], result["difference"]
    if changed:
        rows = [
            [one["dataset"], one["was"] or "none", one["becomes"] or "none"] for one in _cut(changed, verbose)
        ]
        lines += ["", *output.table(["DATASET", "POLICY NOW", "THEN"], rows)]
        lines += _more(changed, rows)
    lines.append("")
    texts = (
        ("take_more", "would be taken, and would not by the rules in force"),
        ("take_less", "would not be taken, and would by the rules in force"),
        ("prune_more", "would be destroyed, and would stay by the rules in force"),
        ("prune_less", "would stay, and would be destroyed by the rules in force"),
    )
    lines += [f"{len(difference[key])} {text}" for key, text in texts if difference[key]]
    if not any(difference[key] for key, _ in texts):
        lines.append("now, the rules in force would do the same")
    if verbose:
        lines += [f"  {name}" for name in difference["prune_more"]]
    lines += [
        f"{dataset}: {count} at once is unusual; they would wait for: sudo meshkeep prune {dataset}"
        for dataset, count in result["waiting"].items()
    ]
    return lines


def explain_lines(result: Mapping[str, Any], now: float) -> list[str]:
    """One dataset, as a person reads it."""
    if result["policy"] is None:
        return [f"policy   none     {result['reason']}"]
    rule = f", {place(result['rule_at'])}" if result["rule_at"] else ""
    rows = [
        ("policy", f"{result['policy']}     {result['reason']}{rule}"),
        ("keep", f"{result['keep']}     set at {place(result['policy_at'])}"),
        ("now", _counts(result)),
        ("next", _next(result, now)),
        *(("going", f"{_at(one['snapshot'])} ({one['reason']})") for one in result["going"][:SHORT]),
        *(("", f"and {len(result['going']) - SHORT} more") for _ in result["going"][SHORT : SHORT + 1]),
        *(("pinned", _pinned(one)) for one in result["pinned"]),
        *(("not ours", f"{one['count']} named {one['pattern']}: left alone") for one in result["others"]),
    ]
    if result["deferred"]:
        rows.append(("deferred", result["deferred"]))
    if result["waiting"]:
        text = f"{result['waiting']} at once is unusual; look, then: sudo meshkeep prune {result['dataset']}"
        rows.append(("waiting", text))
    return [f"{label:8} {text}" for label, text in _once(rows)]


def _once(rows: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """A label only where it changes."""
    last = ""
    for label, text in rows:
        yield ("" if label == last else label), text
        last = label or last


def _counts(result: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{one['present']} {one['type']}" for one in result["kinds"]) or "none of ours"
    going = len(result["going"])
    off = "" if result["autoprune"] else " (autoprune is off)"
    return f"{kinds} → {result['kept']} kept, {going} due to go{off}"


def _next(result: Mapping[str, Any], now: float) -> str:
    due = [
        f"{one['type']} {_when(one['next_due'], now)}"
        for one in result["kinds"]
        if one["next_due"] is not None
    ]
    return " · ".join(due) or "none is taken"


def _when(at: int, now: float) -> str:
    if at <= now:
        return "now"
    days = 86400 if at - now >= 86400 else 0
    return time.strftime("%Y-%m-%d %H:%M" if days else "%H:%M", time.localtime(at))


def _pinned(one: Mapping[str, Any]) -> str:
    tags = f" by {', '.join(one['tags'])}" if one.get("tags") else ""
    return f"{_at(one['snapshot'])} ({one['reason'].replace('held', f'held{tags}', 1)})"


def _at(full: str) -> str:
    return "@" + full.partition("@")[2]


def place(at: Mapping[str, Any] | None) -> str:
    """``FILE:LINE``, or "-"."""
    return "-" if at is None else f"{at['file']}:{at['line']}"


def _switches(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} off" for key in ("autosnap", "autoprune") if not row[key])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items()) or "-"
    return str(value) if value != "" else "-"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cut(found: list[Any], verbose: bool) -> list[Any]:
    return found if verbose else found[:SHORT]


def _more(found: list[Any], shown: list[Any]) -> list[str]:
    more = len(found) - len(shown)
    return [f"and {more} more: --verbose"] if more else []
