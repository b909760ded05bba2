"""What the demo and the story tests do with hosts: run meshkeep there, wait for a state, fingerprint a tree."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .guest_agent import Result
from .host import Guest

T = TypeVar("T")
PASSPHRASE = "correct horse battery staple"
ENCRYPTED = "-o encryption=aes-256-gcm -o keyformat=passphrase -o keylocation=prompt -o pbkdf2iters=100000"


@dataclass(frozen=True)
class Answer:
    """What one command of meshkeep answered: its exit code, and its JSON from stdout or, for an error, stderr."""

    code: int
    value: dict[str, Any]
    result: Result


def meshkeep(host: Guest, *words: str, check: bool = True, timeout: float = 600) -> Answer:
    """Run ``meshkeep WORDS --json``. With `check` another code than 0 raises CommandFailed."""
    result = host.run(["meshkeep", *words, "--json"], check=check, timeout=timeout)
    return answer_of(result)


def answer_of(result: Result) -> Answer:
    """The last JSON document of a finished command."""
    said = result.stdout if result.code == 0 else result.stderr
    value: dict[str, Any] = {}
    for line in reversed(said.strip().splitlines() or [""]):
        if line.startswith("{"):
            value = json.loads(line)
            break
    else:
        if said.strip().startswith("{"):
            value = json.loads(said)
    return Answer(result.code, value, result)


def status(host: Guest) -> dict[str, Any]:
    return meshkeep(host, "status").value


def eventually(what: str, ask: Callable[[], T | None], timeout: float = 120, every: float = 0.5) -> T:
    """Ask until there is an answer that is true. Raises TimeoutError that says what did not come."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        pause.wait(every)


def node(host: Guest, name: str) -> dict[str, Any] | None:
    """The living node of that name as `host` sees it."""
    return next((n for n in status(host)["nodes"] if n["name"] == name), None)


def replica(host: Guest, dataset: str, target: str) -> dict[str, Any] | None:
    """What `host` says of the replica of `dataset` on `target`."""
    for entry in status(host)["datasets"]:
        if entry["name"] == dataset:
            for one in entry["replicas"]:
                if one["node"] == target:
                    return dict(one)
    return None


def alive(host: Guest, *names: str, timeout: float = 120) -> None:
    """Wait until `host` sees all of them alive, and has a session of its own with each."""

    def reached(name: str) -> bool:
        seen = node(host, name)
        return bool(seen and seen["state"] == "alive" and seen["path"].startswith(("direct", "this node")))

    eventually(f"{host.name} reaches {', '.join(names)}", lambda: all(map(reached, names)), timeout)


def encrypted_dataset(host: Guest, dataset: str) -> None:
    host.run(f"zfs create {ENCRYPTED} {shlex.quote(dataset)}", input=f"{PASSPHRASE}\n".encode())


def fill(host: Guest, directory: str, *, files: int, megabytes: int, canary: str = "") -> None:
    """Small files, one large one of random bytes, and a text that must never be found in the clear elsewhere."""
    where = shlex.quote(directory)
    host.run(
        f"cd {where} && mkdir -p photos notes && "
        f"for n in $(seq {files}); do head -c $((n * 37)) /dev/urandom > photos/$n.jpg; done && "
        f"head -c {megabytes}M /dev/urandom > photos/large.raw && "
        f"for n in $(seq 50); do echo {shlex.quote(canary)}-$n; done > notes/diary.txt && sync"
    )


def sums(host: Guest, directory: str) -> str:
    """sha256 of every file, sorted by name."""
    return host.run(
        f"cd {shlex.quote(directory)} && find . -type f -print0 | sort -z | xargs -0 sha256sum"
    ).stdout


def snapshots(host: Guest, dataset: str) -> dict[str, int]:
    """Name to guid, oldest first."""
    listed = host.run(
        ["zfs", "list", "-Hp", "-d1", "-t", "snapshot", "-o", "name,guid", "-s", "createtxg", dataset]
    )
    rows = (line.split("\t") for line in listed.stdout.splitlines())
    return {name.partition("@")[2]: int(guid) for name, guid in rows}


def admit(issuer: Guest, guest: Guest, words: Sequence[str]) -> Answer:
    """Invite, let the new host wait, dial it. Returns what the dial answered."""
    invite = meshkeep(issuer, "invite", *words).value
    guest.put("/root/invite", invite["invite"].encode())
    joining = guest.spawn(["meshkeep", "join", "--invite-file", "/root/invite", "--wait", "--json"])
    dialled = meshkeep(issuer, "invite", "dial", invite["id"], guest.address, timeout=300)
    joining.wait(300, check=True)
    return dialled
