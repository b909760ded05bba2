"""restore: bring data back, a file from a snapshot here, a dataset or all of a host from replicas."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.passphrase import optional_passphrase
from node.cli.progress import watch
from node.cli.replicate import outcome
from node.cli.restore_file import file_
from node.cli.restore_wrap import wrap
from node.cli.values import located, maybe_moment
from node.errors import Exit

__all__ = ["restore"]

_SHOWN = "mountpoint, canmount, sharenfs, sharesmb"

restore = group(
    "restore", "Bring data back: a file from a snapshot here; a dataset, or a whole host, from replicas."
)
restore.add_command(file_)
restore.add_command(wrap)


@restore.command("dataset")
@click.argument("dataset", metavar="[NODE:]DATASET")
@click.option("--from", "source", metavar="NODE", help="Who has the replica; default: who has the newest.")
@click.option(
    "--at",
    metavar="SNAPSHOT|TIME",
    help='As of this snapshot, or the newest by then: "2026-11-20 14:00", "2026-11-20", "3d". Default: the newest.',
)
@click.option("--to", "target", metavar="DATASET", required=True, help="The new dataset; it must not exist.")
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be fetched, and change nothing.")
@click.option("--properties", is_flag=True, help=f"Set the properties it had at home too, but not {_SHOWN}.")
@click.option("--property", "also", multiple=True, metavar="NAME", help="Set this one too, whichever it is.")
@click.option(
    "--recovery-words", "words", is_flag=True, help="Open the manifest with the mesh's recovery words."
)
@click.option("--older", is_flag=True, help="Take what there is, though the mesh has seen newer snapshots.")
@click.option(
    "--accept-unlisted",
    is_flag=True,
    help="Take snapshots that are not on the list of what was sent, as those are that are older than the list.",
)
@click.option("--wait", is_flag=True, help="Wait for the outcome; the exit code is that of the outcome.")
def dataset_(
    dataset: str,
    source: str | None,
    at: str | None,
    target: str,
    dry_run: bool,
    properties: bool,
    also: tuple[str, ...],
    words: bool,
    older: bool,
    accept_unlisted: bool,
    wait: bool,
) -> int:
    """Receive DATASET back, raw; its own key opens it. NODE: names the owner, if that is not this node.

    The properties come from the sealed manifest that lies beside the replicas. Exit code 3: not all could be set.
    """
    owner, name = located(dataset)
    args: dict[str, Any] = {"dataset": name, "owner": owner, "from": source, "at": at, "to": target}
    if (before := maybe_moment(at, time.time())) is not None:
        args["before"] = before
    args |= {key: True for key, given in (("older", older), ("accept_unlisted", accept_unlisted)) if given}
    if words:
        args["words"] = _recovery_words()
    if dry_run:
        found = client.call("restore.plan", args)
        output.emit(found, _plan_lines(found), as_json=flags().json)
        return int(Exit.OK)
    args["wait"] = wait
    if properties or also:
        args |= {"properties": properties, "property": list(also)}
    label = f"{source or name} → {target}"
    result = watch("restore.dataset", args, label, silent=flags().quiet or flags().json)
    line = outcome(f"{result.get('node') or source}:{name} → {target}", result, time.time())
    told = result.get("properties")
    following = [f"  next  {result['next']}"] if result.get("next") else []
    speaks = [f"  {text}" for text in _vouched_lines(result["vouched"])] if "vouched" in result else []
    lines = [line, *speaks, *(_properties_lines(told) if told else []), *following]
    output.emit(result, lines, as_json=flags().json)
    return int(Exit.PARTIAL if told and (told.get("error") or told.get("failed")) else Exit.OK)


def _recovery_words() -> list[str]:
    """From the terminal, unseen, or a line of stdin: they never stand in argv."""
    if sys.stdin.isatty():
        typed: str = click.prompt("the 24 recovery words", hide_input=True, err=True)
        return typed.split()
    return sys.stdin.readline().split()


def _properties_lines(told: Mapping[str, Any]) -> list[str]:
    """What was set, what was not, and what can be. Values may hold anything, and are shown so that they cannot."""
    if told["error"]:
        return [f"  {told['dataset']}: its properties are as they were: {told['error']}"]
    lines = [f"  {told['dataset']}: {name}={_shown(value)} set" for name, value in told["set"].items()]
    lines += [f"  {told['dataset']}: {name} not set: {why}" for name, why in told["failed"].items()]
    lines += [
        f"  {told['dataset']}: {name}={_shown(value)} at home (--property {name})"
        for name, value in told["left"].items()
    ]
    root = told["encryption_root"]
    if root not in (None, told["was"]):
        how = f"once both keys are loaded: zfs change-key -i {told['dataset']}"
        lines.append(f"  {told['dataset']}: at home it had its key from {root}; {how}")
    return lines


def _shown(value: str) -> str:
    return value if value.isprintable() and value.isascii() else ascii(value)


def _plan_lines(found: Mapping[str, Any]) -> list[str]:
    name, to = f"{found['node']}:{found['dataset']}@{found['snapshot']}", found["to"]
    if not found["steps"]:
        return [f"nothing to fetch: {to} is at {name} already"]
    began = "what is left of " if found["resumes"] or found["steps"] < found["snapshots"] else ""
    form = "raw" if found["encrypted"] else "in plaintext"
    size = f"{found['snapshots']} snapshots, at most {output.size(found['bytes_at_most'])}, {form}"
    return [
        f"would fetch {began}{name} ({size})",
        f"  as of    {output.clock(found['as_of'])}",
        f"  key      {_key_line(found['dataset'], found['key'])}",
        *(f"  vouched  {text}" for text in _vouched_lines(found["vouched"])),
        f"  after    {to} is there, read by nobody yet: it is not mounted, and no key is loaded",
    ]


def _vouched_lines(told: Mapping[str, Any]) -> list[str]:
    """Whether it is what was sent, and whether there is anything newer."""
    by = ", ".join(f"{one['node']} (told {output.clock(one['at'])})" for one in told["by"])
    listed = f"on the list of what was sent, from {told['list_from']}"
    lines = [
        listed if told["list"] == "listed" else "not all of it is on a list of what was sent: taken as it is"
    ]
    if told["left_out"]:
        lines.append(f"left out, for it is not on the list: @{', @'.join(told['left_out'])}")
    match told["age"]:
        case "witnessed":
            lines.append(f"witnessed: nothing newer was seen by {by}")
        case "stale":
            lines.append(f"not the newest: {output.clock(told['seen'])} was seen by {by or 'its list'}")
        case _:
            lines.append(f"unwitnessed: {told['why']}")
    return lines


def _key_line(dataset: str, key: Mapping[str, Any]) -> str:
    if not key["needed"]:
        return "none is needed"
    if key["kin"] is None:
        return f"the passphrase that {dataset} had when it was sent; nothing here tells whether you still have it"
    loaded = "its key is loaded" if key["loaded"] else "its key is not loaded"
    return f"that of {key['kin']}, which has snapshots in common with it ({loaded})"


@restore.command("host")
@click.option("--from", "source", metavar="NODE", help="Only what NODE keeps; default: the newest of all.")
@click.option("--owner", metavar="NODE", help="Only what was NODE's, of the hosts that this one succeeds.")
@click.option("--map", "mapping", multiple=True, metavar="OLD=NEW", help="Put pool or dataset OLD at NEW.")
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be restored, and change nothing.")
@click.option(
    "--apply-manifest",
    is_flag=True,
    help=f"Set the properties the datasets had, but not {_SHOWN}, and write the configuration's files; "
    "where there is one, beside it as NAME.restored. Nothing is loaded by that.",
)
@click.option("--property", "also", multiple=True, metavar="NAME", help="Set this one too, whichever it is.")
@click.option(
    "--recovery-words", "words", is_flag=True, help="Open the manifest with the mesh's recovery words."
)
@click.option("--older", is_flag=True, help="Take what there is, though the mesh has seen newer snapshots.")
@click.option(
    "--accept-unlisted",
    is_flag=True,
    help="Take snapshots that are not on the list of what was sent, as those are that are older than the list.",
)
def host(
    source: str | None,
    owner: str | None,
    mapping: tuple[str, ...],
    dry_run: bool,
    apply_manifest: bool,
    also: tuple[str, ...],
    words: bool,
    older: bool,
    accept_unlisted: bool,
) -> int:
    """Bring back everything this host had, or the host it succeeds: each dataset from who has the newest copy.

    What exists is left as it is. The same command goes on where it was interrupted. Exit code 3: not all is back.
    """
    args: dict[str, Any] = {"from": source, "owner": owner, "map": list(mapping), "plan": dry_run}
    if apply_manifest or also:
        args |= {"apply_manifest": apply_manifest, "property": list(also)}
    args |= {key: True for key, given in (("older", older), ("accept_unlisted", accept_unlisted)) if given}
    if words:
        args["words"] = _recovery_words()
    if dry_run:
        found = client.call("restore.host", args)
    else:
        found = watch("restore.host", args, "restore", silent=flags().quiet or flags().json)
    output.emit(found, _host_lines(found), as_json=flags().json)
    return int(Exit.PARTIAL if found["partial"] else Exit.OK)


def _host_lines(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            one["to"],
            f"{one['node']}:{one['dataset']}" if one["to"] != one["dataset"] else one["node"],
            output.clock(one["as_of"]),
            output.size(one["size"]),
            one["state"],
            one["why"],
        ]
        for one in found["outcomes"]
    ]
    lines = output.table(["DATASET", "FROM", "AS OF", "SIZE", "STATE", ""], rows)
    for one in found["outcomes"]:
        if one["vouched"] and (one["vouched"]["age"] != "witnessed" or one["vouched"]["left_out"]):
            lines += [f"  {one['to']}: {text}" for text in _vouched_lines(one["vouched"])[1:]]
            lines += _left_out_hint(one)
    lines += [f"{one['node']} is not believed: {one['why']}" for one in found["suspect"]]
    lines += [f"{one}  made as a place for what is below it" for one in found["made"]]
    lines += [
        f"{one['node']} did not answer, and may keep newer copies: {one['why']}" for one in found["silent"]
    ]
    lines += [f"{name}  no node that answered keeps a copy of it" for name in found["missing"]]
    lines += _manifest_lines(found)
    for one in found.get("keys", ()):  # an older agent says nothing of it
        lines.append(
            f"  {one['dataset']}: "
            + (one["why"] if one["inherits"] else f"keeps a key of its own: {one['why']}")
        )
    following = [one["next"] for one in found["outcomes"] if one["next"]]
    if any(one["written"] for one in found["files"]):
        following.append("meshkeep config check, then meshkeep config reload")
    return lines + [f"  next  {command}" for command in following]


def _left_out_hint(one: Mapping[str, Any]) -> list[str]:
    """How to have what was left out; no snapshot can be received below newer ones that are here."""
    if not one["vouched"]["left_out"]:
        return []
    aside = "" if one["state"] == "to restore" else f" --map {one['dataset']}={one['to']}-unlisted"
    return [f"  {one['to']}: to have those too: meshkeep restore host --accept-unlisted{aside}"]


def _manifest_lines(found: Mapping[str, Any]) -> list[str]:
    """What the manifest said, what became of that, and where there is none why."""
    lines = [
        f"manifest of {one['name']} ({one['hostname']}), made {output.clock(one['made'])}, "
        f"from {one['node']}, opened by {one['opened_by']}: {', '.join(one['files']) or 'no files'}"
        for one in found["manifest"]["found"]
    ]
    lines += [] if lines else ["no manifest could be had: properties and configuration are not known"]
    lines += [f"  {problem}" for problem in found["manifest"]["problems"]]
    for one in found["properties"]:
        lines += _properties_lines(one)
    for one in found["files"]:
        lines.append(f"  {one['file']}  {one['written']}" + (f" ({one['why']})" if one["why"] else ""))
    return lines


@restore.command("drill")
@click.argument("dataset")
@click.option("--from", "source", metavar="NODE", help="Whose copy; default: who has the newest.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="The file with the passphrase, - for stdin. Default: ask.",
)
@click.option("--no-key", is_flag=True, help="Only receive it: whether it opens stays unproven.")
@click.option("--all", "everything", is_flag=True, help="Read every file, not some at random.")
def drill(dataset: str, source: str | None, key_file: Path | None, no_key: bool, everything: bool) -> int:
    """Prove that a copy can be restored: receive its newest snapshot aside, open it, read files, destroy it again.

    Exit code 3: it was received, and not opened.
    """
    args: dict[str, Any] = {"dataset": dataset, "from": source, "all": everything}
    if not no_key:
        args["key"] = optional_passphrase(key_file)
    label = f"drill {source or dataset}"
    found = watch("restore.drill", args, label, silent=flags().quiet or flags().json)
    line = f"{found['node']}:{found['dataset']}@{found['snapshot']}  {found['state']}"
    if found["state"] == "proven":
        read = f"{found['files']} of {found['of']} files, {output.size(found['bytes_read'])}, read to the end"
        output.emit(found, [f"{line} · {read}"], as_json=flags().json)
        return int(Exit.OK)
    output.emit(found, [f"{line}: {found['why']}"], as_json=flags().json)
    return int(Exit.PARTIAL)
