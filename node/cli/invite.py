"""invite: one-time admission of one node, and the user-data that makes a fresh VM use it."""

import time
from collections.abc import Iterator
from typing import Any

import click

from node import client
from node.cli import output, values
from node.cli.base import Group, flags
from node.cli.progress import watch

__all__ = ["invite"]

DAY = 86400


@click.group(cls=Group, invoke_without_command=True)
@click.option(
    "--role",
    type=click.Choice(["admin", "member", "vault", "client"]),
    default="member",
    show_default=True,
    help="What the new node may do.",
)
@click.option("--name", type=values.name, help="The new node's name.")
@click.option(
    "--ttl", type=values.duration, default="1h", show_default=True, help="How long the invite lives."
)
@click.option("--succeeds", metavar="NODE", help="The new node takes the place of this one.")
@click.option("--under", metavar="DATASET", help="Where a vault puts what it stores.")
@click.option("--quota", type=values.size, help="How much a vault stores for one node.")
@click.option("--floor", type=values.duration, help="How long a vault keeps whatever it got.")
@click.option("--cloud-init", is_flag=True, help="Print user-data for a fresh Debian 13 VM.")
@click.option("--package", metavar="URL", help="With --cloud-init: where the VM gets the .deb.")
@click.option("--sha256", metavar="HEX", help="With --package: its checksum.")
@click.option("--disk", metavar="DEV", help="With --cloud-init: the empty disk for the pool.")
@click.option(
    "--pool", metavar="NAME", default="tank", show_default=True, help="With --cloud-init: the pool."
)
@click.pass_context
def invite(ctx: click.Context, /, cloud_init: bool, **options: Any) -> None:
    """Make a one-time invite for one node. Whoever holds it can join once, in that role, until it ends."""
    if ctx.invoked_subcommand is not None:
        return
    vm = {key: options.pop(key) for key in ("package", "sha256", "disk", "pool")}
    if cloud_init:
        _invite_vm(options, vm)
        return
    if vm["package"] or vm["sha256"] or vm["disk"]:
        raise click.UsageError("--package, --sha256 and --disk belong to --cloud-init", ctx)
    result = client.call("invite.create", _wish(options))
    output.emit(result, _sheet(result), as_json=flags().json)


def _wish(options: dict[str, Any]) -> dict[str, Any]:
    floor = options.pop("floor")
    return {**options, "floor_days": None if floor is None else -(-floor // DAY)}


def _invite_vm(options: dict[str, Any], vm: dict[str, Any]) -> None:
    """The plan is checked before an invite exists that nobody would use."""
    from node.cloudinit import BadValue, Machine, user_data

    try:
        machine = Machine(
            package=vm["package"],
            sha256=vm["sha256"],
            disk=vm["disk"],
            pool=vm["pool"],
            stores_only=options["role"] == "vault",
        )
    except BadValue as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    if options["role"] == "vault" and options["under"] is None:
        options["under"] = vm["pool"]
    result = client.call("invite.create", _wish(options))
    text = user_data(machine, invite=result["invite"])
    answer = {key: result[key] for key in ("id", "invite", "expires")}
    output.emit({**answer, "user_data": text}, [text.rstrip("\n")], as_json=flags().json)
    if not flags().json and not flags().quiet:
        output.say(f"invite {result['id']} ends in {output.span(result['expires'] - time.time())}; then:")
        output.say(f"  sudo meshkeep invite dial {result['id']} ADDRESS-OF-THE-VM")


def _sheet(result: dict[str, Any]) -> Iterator[str]:
    left = output.span(result["expires"] - time.time())
    yield f"invite {result['id']} for one {result['role']} · single use · ends in {left}"
    yield ""
    yield f"  {result['invite']}"
    yield ""
    yield "on the new machine:  sudo meshkeep join --invite-file -      and paste it, then Ctrl-D"
    yield "if only this host can dial: there  sudo meshkeep join --wait --invite-file -"
    yield f"                            here   sudo meshkeep invite dial {result['id']} ADDRESS"


@invite.command("list")
def list_() -> None:
    """The invites of this node that are known, and what became of them."""
    result = client.call("invite.list")
    now = time.time()
    rows = [
        [
            row["id"],
            row["role"],
            row.get("name") or "-",
            row["state"],
            f"in {output.span(row['expires'] - now)}"
            if row["expires"] > now
            else f"{output.ago(row['expires'], now)} ago",
            row.get("used_by") or "-",
        ]
        for row in result["invites"]
    ]
    lines = output.table(["ID", "ROLE", "NAME", "STATE", "ENDS", "USED BY"], rows) if rows else ["no invites"]
    output.emit(result, lines, as_json=flags().json)


@invite.command("revoke")
@click.argument("id_", metavar="ID")
def revoke(id_: str) -> None:
    """Make an invite worthless. A node that has joined by it stays: see `evict`."""
    result = client.call("invite.revoke", {"id": id_})
    output.emit(result, [f"revoked {id_}"], as_json=flags().json)


@invite.command("dial")
@click.argument("id_", metavar="ID")
@click.argument("address", metavar="ADDRESS[:PORT]")
@click.option(
    "--timeout", type=values.duration, default="120s", show_default=True, help="Give up after this long."
)
def dial(id_: str, address: str, timeout: int) -> None:
    """Call a new node that waits (`join --wait`), and admit it. For a host that cannot be dialled itself."""
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    args = {"id": id_, "address": host, "port": port, "timeout": timeout}
    result = watch("invite.dial", args, "invite dial", silent=flags().quiet or flags().json)
    text = f'"{result["name"]}" has joined as {result["role"]} ({result["address"]})'
    output.emit(result, [text], as_json=flags().json)


def split_address(text: str) -> tuple[str, int | None]:
    """``1.2.3.4``, ``1.2.3.4:51821``, ``vm.example``, ``2001:db8::1``, ``[2001:db8::1]:51821``.

    Raises ValueError. An IPv6 address with a port needs the brackets.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise ValueError(f"{text!r} has no port behind the colon")
    else:
        host, port = text, ""
    if not host:
        raise ValueError(f"{text!r} is no address")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    return host, int(port) if port else None
