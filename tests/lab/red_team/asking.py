"""Requests: every verb there is and is not, with arguments that no agent of ours sends."""

import asyncio
import errno
import json
import socket
from contextlib import suppress
from typing import Any

from .attack import CUT, DONE, Attacks, code_of, codes_of, together
from .thief import INTERFACE, PORT, Thief, announced

attack = Attacks("asking")

TAKING_AWAY = (
    "snapshot.destroy",
    "snapshot.release",
    "snapshot.hold",
    "prune.run",
    "replica.destroy",
    "replica.rename",
    "replica.rollback",
    "replicate.remove",
    "replicate.rotate",
    "storage.vouch",
    "terms.shorten",
    "terms.cancel",
    "terms.freed",
    "terms.ask",
    "key.approve",
    "key.refuse",
    "key.approve_afar",
    "config.reload",
    "evict",
    "invite.create",
    "init",
    "join",
    "share.add",
    "mount",
    "restore.dataset",
    "doctor.fix",
    "status",
    "metrics",
    "zfs.destroy",
    "__init__",
    "receive",
    "REPLICA.ABORT",
)
ODD_NAMES = (
    "tank/photos@a", "tank/photos#a", "tank/photos%recv", "../other", "tank/../../other", "tank/./x", "/tank", "tank/",
    "tank//x", "tank/pho*tos", "tank/photos\n", "tank/\0", "tank/päth", "tank/\ud800", "-r", "tank/$(reboot)", "..",
)  # fmt: skip
NO_NAMES: tuple[Any, ...] = ("", None, 5, True, ["tank/photos"], {"tank": "photos"})
NO_GUIDS: tuple[Any, ...] = (0, -1, 1 << 64, "1", 1.5, True, [], None)


@attack("vault_refuses")
async def verbs_that_take_away(thief: Thief) -> str:
    """Every verb of the local API and some of no API: destroy, roll back, rename, shorten, approve, evict."""
    return await codes_of(*(thief.ask(verb, {"dataset": thief.dataset, "name": "a"}) for verb in TAKING_AWAY))


@attack("vault_refuses")
async def quota_by_any_verb(thief: Thief) -> str:
    """A smaller quota, another root, another policy, by verbs that could be called so."""
    verbs = ("terms.quota", "terms.set", "storage.under", "storage.plan", "storage.keep", "vault.prepare")
    return await codes_of(*(thief.ask(verb, {"quota": 1, "under": "tank"}) for verb in verbs))


@attack("role_refuses")
async def verbs_of_other_roles(thief: Thief) -> str:
    """What a member answers and a vault does not: which guids are whose, opening a manifest."""
    return await codes_of(
        thief.ask("replica.recognise", {"dataset": "tank", "guids": [1]}),
        thief.ask("manifest.open", {"owner": thief.identity.id, "data": ""}),
    )


@attack("bad_floor", "shorter_floor")
async def shorten_by_lengthening(thief: Thief) -> str:
    """``terms.extend`` to an hour, to nothing, to less than nothing, to no number."""
    floors: tuple[Any, ...] = (3600, 86400, 0, -1, 1e30, "30d", None, True, 1 << 80, [1])
    return await codes_of(*(thief.ask("terms.extend", {"floor": floor}) for floor in floors))


@attack("only its own")
async def lengthen_for_another(thief: Thief) -> str:
    """A floor of a hundred years for the data of another, so that it fills its quota with what it no longer wants."""
    other = thief.member(thief.other).id
    before = await _floors(thief)
    await thief.ask("terms.extend", {"floor": 40 * 86400, "owner": other, "owners": [other]})
    after = await _floors(thief)
    return "only its own" if after[other] == before[other] and after != before else "another's too"


async def _floors(thief: Thief) -> dict[str, Any]:
    told = await thief.ask("terms.show")
    return {one["owner"]: one["floor"]["value"] for one in told["owners"]}


@attack("bad_name", "bad_request", CUT)
async def names_that_lead_out(thief: Thief) -> str:
    """Datasets called with @, #, %, .., newlines, NULs and halves of characters, in every verb that takes a name."""
    codes = []
    for name in (*ODD_NAMES, *NO_NAMES, "tank/" + "x" * 256, "x/" * 200 + "x"):
        for verb in ("replica.state", "replica.abort", "replica.rotate", "replica.wraps"):
            codes.append(
                await _ascii(thief, verb, {"dataset": name, "history": [], "newest": 1, "raw": True})
            )
        codes.append(await _ascii(thief, "replica.receive", announced(name, ("x", 1, None))))
    return together(codes)


async def _ascii(thief: Thief, verb: str, args: dict[str, Any]) -> str:
    """As JSON that has only ASCII, so that what cannot be encoded goes over the wire too."""
    answer = await thief_says(thief, frame(json.dumps({"verb": verb, "args": args}).encode()))
    if answer is None:
        return CUT
    return str(answer["error"]["code"]) if "error" in answer else DONE


@attack("bad_name")
async def snapshots_with_odd_names(thief: Thief) -> str:
    """Snapshots of good datasets called with @, /, % and too long."""
    names = ("a@b", "a/b", "a%b", "x" * 250, "é", "a#b", "\n")
    return await codes_of(*(thief.offer(announced(thief.dataset, (name, 1, None)), b"") for name in names))


@attack("bad_name", "no_replica")
async def the_place_of_another(thief: Thief) -> str:
    """A dataset called as the place where another's replica lies on the vault."""
    other = thief.member(thief.other).id
    names = (f"{other}/data/letters", f"tank/meshkeep/{other}/data/letters", f"meshkeep/{other}/data/letters")
    args = ({"dataset": name, "newest": 1, "history": [], "raw": True} for name in names)
    return await codes_of(*(thief.ask("replica.rotate", one) for one in args))


@attack("not_yours")
async def read_anothers(thief: Thief) -> str:
    """The replicas, archived keys and manifest of another, by its id."""
    other = {"owner": thief.member(thief.other).id, "dataset": "data/letters", "to_guid": 1}
    return await codes_of(
        *(thief.ask(verb, other) for verb in ("replica.send", "replica.wraps", "manifest.get"))
    )


@attack("only its own")
async def list_anothers(thief: Thief) -> str:
    """The list of all replicas, with every argument that could widen it."""
    other = thief.member(thief.other).id
    told = await thief.ask("replica.list", {"owner": other, "owners": [other], "all": True, "caller": other})
    owners = {one["owner"] for one in told["replicas"]}
    return "only its own" if owners == {thief.identity.id} else f"lists {sorted(owners)}"


@attack("bad_request")
async def guids_that_are_none(thief: Thief) -> str:
    """Guids of 0, below it, beyond 64 bits, as text, as lists."""
    codes = []
    for guid in NO_GUIDS:
        codes.append(await code_of(thief.offer(announced(thief.dataset, ("x", guid, None)), b"")))
        if guid is not None:
            codes.append(await code_of(thief.offer(announced(thief.dataset, ("x", 1, guid)), b"")))
        codes.append(await code_of(thief.ask("replica.rotate", {"dataset": thief.dataset, "newest": guid})))
    return together(codes)


@attack("bad_request")
async def steps_that_do_not_follow(thief: Thief) -> str:
    """No steps, a hundred thousand, the same twice, and such that do not lead on from each other."""
    many = announced(thief.dataset, *((f"s{n}", n + 1, n or None) for n in range(10_000)))
    loose = (("x", 5, None), ("y", 7, 6)), (("x", 5, None), ("y", 5, 5)), (("x", 5, None), ("x", 6, 5))
    none: dict[str, Any] = {"dataset": thief.dataset, "raw": True}
    odd = [
        none,
        none | {"steps": 5},
        none | {"steps": []},
        none | {"steps": ["x"]},
        none | {"steps": {"0": {}}},
    ]
    asked = [many, *(announced(thief.dataset, *one) for one in loose), *odd]
    return await codes_of(*(thief.offer(one, b"") for one in asked))


@attack("bad_request", "target_full")
async def sizes_without_end(thief: Thief) -> str:
    """Streams announced with less than no bytes, with more than the pool has, and with 2**64."""
    newest = await _newest(thief)
    sizes: tuple[Any, ...] = (-1, 1 << 64, 1.5, "1", 1 << 62, (1 << 64) - 1)
    asked = (announced(thief.dataset, ("x", 5, newest), size=size) for size in sizes)
    return await codes_of(*(thief.offer(one, b"") for one in asked))


async def _newest(thief: Thief) -> int:
    told = await thief.ask("replica.state", {"dataset": thief.dataset})
    return int(told["snapshots"][-1]["guid"])


@attack("diverged", "no_base")
async def bases_that_are_not_there(thief: Thief) -> str:
    """Increments onto nothing, onto an older snapshot, and onto a guid that nobody has."""
    oldest = int((await thief.ask("replica.state", {"dataset": thief.dataset}))["snapshots"][0]["guid"])
    return await codes_of(
        thief.offer(announced(thief.dataset, ("x", 5, 99)), b""),
        thief.offer(announced(thief.dataset, ("x", 5, oldest)), b""),
        thief.offer(announced(thief.dataset, ("x", 5, None)), b""),
        thief.offer(announced("tank/new", ("x", 5, 99)), b""),
    )


@attack("partial_state", "no_partial")
async def resume_what_was_not_begun(thief: Thief) -> str:
    """A stream that says it goes on with one, where there is none."""
    newest = await _newest(thief)
    return await codes_of(
        thief.offer(announced(thief.dataset, ("x", 5, newest)) | {"resuming": True}, b""),
        thief.offer(announced("tank/new", ("x", 5, None)) | {"resuming": True}, b""),
    )


@attack("would_overwrite", "already_here")
async def overwrite_by_name_or_guid(thief: Thief) -> str:
    """Another snapshot under the name of a stored one, and a stored one once more."""
    stored = (await thief.ask("replica.state", {"dataset": thief.dataset}))["snapshots"]
    newest = int(stored[-1]["guid"])
    return await codes_of(
        thief.offer(announced(thief.dataset, (stored[0]["name"], 5, newest)), b""),
        thief.offer(announced(thief.dataset, ("x", int(stored[0]["guid"]), newest)), b""),
    )


@attack("plaintext_to_vault")
async def announce_plaintext(thief: Thief) -> str:
    """A stream that is not raw, onto a replica and as a new one."""
    newest = await _newest(thief)
    return await codes_of(
        thief.offer(announced(thief.dataset, ("x", 5, newest), raw=False), b""),
        thief.offer(announced("tank/new", ("x", 5, None), raw=False), b""),
    )


@attack(DONE)
async def abort_what_is_whole(thief: Thief) -> str:
    """``replica.abort`` of a replica with no partly received stream, twenty times, and of what is not there."""
    names = [thief.dataset] * 20 + ["tank", "tank/deep", "tank/nothing"]
    return await codes_of(*(thief.ask("replica.abort", {"dataset": name}) for name in names))


@attack("not_diverged", "stale", "no_replica", "bad_request")
async def rotate_what_leads_on(thief: Thief) -> str:
    """Renaming a replica away that the source's own history leads on from, a placeholder, or by half a request."""
    newest = await _newest(thief)
    whole = {"dataset": thief.dataset, "newest": newest, "history": [newest], "raw": True}
    return await codes_of(
        thief.ask("replica.rotate", whole),
        thief.ask("replica.rotate", whole | {"newest": 5}),
        thief.ask("replica.rotate", whole | {"dataset": "tank"}),
        thief.ask("replica.rotate", whole | {"dataset": "tank/deep"}),
        thief.ask("replica.rotate", whole | {"history": ["all"]}),
        thief.ask("replica.rotate", whole | {"raw": "yes"}),
    )


@attack("too_many_aside")
async def rotate_until_it_is_refused(thief: Thief) -> str:
    """Lying about the own history, so that a replica is kept aside again and again and a new one begun each time."""
    dataset, data = "tank/rotated", thief.stream("tank/rotated@a")
    guid = thief.guid("tank/rotated@a")
    for _ in range(10):
        newest = int((await thief.ask("replica.state", {"dataset": dataset}))["snapshots"][-1]["guid"])
        args = {"dataset": dataset, "newest": newest, "history": [], "raw": True}
        code = await code_of(thief.ask("replica.rotate", args))
        if code != DONE:
            return code
        await asyncio.sleep(1.1)  # two in one second would have one name
        await thief.push(data, guid, None, dataset=dataset, name="a")
    return "without end"


@attack("kept_aside")
async def add_to_what_is_kept_aside(thief: Thief) -> str:
    """Storing into, dropping from and renaming the old replica that was kept aside."""
    told = (await thief.ask("replica.list"))["replicas"]
    aside = next(one["dataset"] for one in told if one["dataset"].startswith("tank/rotated.rotated-"))
    return await codes_of(
        thief.offer(announced(aside, ("x", 5, None)), b""),
        thief.ask("replica.abort", {"dataset": aside}),
        thief.ask("replica.rotate", {"dataset": aside, "newest": 5, "history": [], "raw": True}),
    )


@attack("bad_request", DONE)
async def questions_about_everything(thief: Thief) -> str:
    """The states of a thousand datasets with the longest names, of more than may be asked, and of none."""
    long = {f"tank/{n:04}{'x' * 180}": None for n in range(1000)}
    return await codes_of(
        thief.ask("replica.states", {"datasets": long}, 40),
        thief.ask("replica.states", {"datasets": long | {"one": None}}),
        thief.ask("replica.states", {"datasets": {}}),
        thief.ask("replica.states", {"datasets": [thief.dataset]}),
        thief.ask("replica.states", {"datasets": {thief.dataset: 5}}),
    )


@attack("bad_manifest")
async def manifests_that_are_none(thief: Thief) -> str:
    """A manifest that is too large, that is not sealed, that is no text."""
    data: tuple[Any, ...] = ("A" * 400_000, "AAAA", "", None, 5)
    return await codes_of(*(thief.ask("manifest.put", {"data": one}) for one in data))


@attack("bad_request", CUT)
async def frames_that_are_none(thief: Thief) -> str:
    """Frames longer than may be, of no JSON, of lists, nested a million deep, with a key twice, endless numbers."""
    bodies = (
        b"\xff\xff\xff\xff", frame(b"not json"), frame(b"[]"), frame(b"[" * 1_000_000), frame(b'{"verb":1,"verb":2}'),
        frame(b'{"verb": "replica.list", "args": []}'), frame(b"{}"), frame(b'{"verb": NaN}'), frame(b"\xff\xfe{}"),
        frame(b'{"verb": "replica.list", "args": {"n": ' + b"9" * 1_000_000 + b"}}"),
    )  # fmt: skip
    codes = []
    for body in bodies:
        answer = await thief_says(thief, body)
        codes.append(CUT if answer is None else str(answer["error"]["code"]) if "error" in answer else DONE)
    return together(codes)


@attack("bad_request", DONE)
async def objects_that_are_none(thief: Thief) -> str:
    """``mesh.push`` and ``mesh.sync`` with what is no signed object, and no list."""
    item = {"oid": "00", "kind": "trust", "node": "x", "version": 0, "data": "AAAA"}
    lists: tuple[Any, ...] = (
        5,
        "text",
        [5],
        [{}],
        [item],
        [item | {"data": "!"}],
        [item | {"version": -1}],
        {},
    )
    codes = [await code_of(thief.ask("mesh.push", {"items": one})) for one in lists]
    return together([*codes, *[await code_of(thief.ask("mesh.sync", {"digest": one})) for one in lists]])


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


async def thief_says(thief: Thief, data: bytes) -> dict[str, Any] | None:
    """Raw bytes from a port that only root has; the frame that comes back, None where there is none."""
    return await asyncio.to_thread(_say, thief.own_address, thief.address(thief.vault), data)


def _say(source: str, target: str, data: bytes) -> dict[str, Any] | None:
    with low_socket(source, target) as sock:
        sock.settimeout(40)
        with suppress(OSError):
            sock.sendall(data)
        answer = b""
        with suppress(ConnectionError):
            while piece := sock.recv(1 << 16):
                answer += piece
                if len(answer) >= 4 and len(answer) >= 4 + int.from_bytes(answer[:4], "big"):
                    break
        reset(sock)
    told: dict[str, Any] | None = json.loads(answer[4:]) if len(answer) > 4 else None
    return told


def low_socket(source: str, target: str) -> socket.socket:
    """Connected to the agent there from a port below 1024."""
    for port in range(1023, 600, -1):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
        sock.settimeout(10)
        try:
            sock.bind((source, port))
            sock.connect((target, PORT))
        except OSError as error:
            sock.close()
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
            continue
        return sock
    raise OSError("no port is free")


def reset(sock: socket.socket) -> None:
    """Closed so that its port is free at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
