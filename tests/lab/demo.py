"""``make demo``: the three stories on three virtual hosts with real OpenZFS, kernel WireGuard and nfsd, and a table of
evidence at the end. Exits non-zero if any line of it is false."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .guest_agent import Result
from .host import Guest, Host
from .lab import Lab, find_deb
from .progress import LabError
from .story import (
    PASSPHRASE,
    admit,
    alive,
    encrypted_dataset,
    eventually,
    fill,
    meshkeep,
    node,
    replica,
    snapshots,
    status,
    sums,
)
from .template import disk_name

CANARY = "dear-diary-nobody-may-read-this"
POLICY = """
[policy.home]
hourly = 24
daily = 30
monthly = 6

[dataset."tank/home"]
policy = "home"
"""


@dataclass
class Evidence:
    """Lines of the table: what is claimed, what was seen, whether it holds."""

    lines: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, story: str, claim: str, seen: object, holds: bool) -> None:
        self.lines.append((story, claim, str(seen), holds))
        print(f"      {'✓' if holds else '✗ FALSE'} {claim}: {seen}", flush=True)

    def table(self) -> str:
        wide = shutil.get_terminal_size((120, 40)).columns
        claim = max(len(line[1]) for line in self.lines)
        seen = max(20, wide - claim - 16)
        rows = [f"{'':5}{'STORY':8}{'CLAIM':{claim}}  SEEN"]
        rows += [
            f"{'ok' if holds else 'FALSE':5}{story:8}{text:{claim}}  {what[:seen]}"
            for story, text, what, holds in self.lines
        ]
        return "\n".join(rows)

    @property
    def true(self) -> bool:
        return bool(self.lines) and all(holds for *_, holds in self.lines)


class Demo:
    """One run. Each story is a method; what it sees goes into the evidence."""

    def __init__(self, lab: Lab, deb: Path) -> None:
        self.lab = lab
        self.deb = deb
        self.home = lab["home"]
        self.laptop = lab["laptop"]
        self.evidence = Evidence()
        self.begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begun:5.0f} s] {text}", flush=True)

    def typed(self, host: Guest, *words: str, **options: Any) -> Any:
        """Show the command as a person would type it, then run it."""
        shown = " ".join(word if len(word) < 60 else word[:24] + "…" for word in words)
        self.say(f"  {host.name}# meshkeep {shown}")
        return meshkeep(host, *words, **options)

    # -- 1: a cheap cloud VM becomes a vault -------------------------------------------------------------------

    def rent_a_vault(self) -> None:
        self.say("story 1: one pasted cloud-init file makes a rented VM a vault; home is behind NAT")
        made = self.typed(self.home, "init", "--mesh", "demo", "--name", "home").value
        self.evidence.add(
            "1",
            "init made a mesh and 24 recovery words",
            made["mesh_id"][:16],
            len(made["recovery_words"]) == 24,
        )
        encrypted_dataset(self.home, "tank/home")
        fill(self.home, "/tank/home", files=60, megabytes=40, canary=CANARY)
        self.original = sums(self.home, "/tank/home")
        invite = self.typed(
            self.home, "invite", "--role", "vault", "--name", "cloud", "--cloud-init",
            "--package", self.lab.serve(self.deb), "--sha256", hashlib.sha256(self.deb.read_bytes()).hexdigest(),
            "--disk", "/dev/vdb",
        ).value  # fmt: skip
        self.say("  renting a fresh Debian 13 VM with that user-data (cold boot, real cloud-init)…")
        self.cloud = self.lab.start(Host("cloud", user_data=invite["user_data"]))
        dialled = self.typed(
            self.home, "invite", "dial", invite["id"], self.cloud.address, "--timeout", "900", timeout=1000
        )
        self.evidence.add(
            "1",
            "home dialled the waiting VM and admitted it",
            dialled.value["name"],
            dialled.value["role"] == "vault",
        )
        alive(self.home, "cloud")
        seen = {n["name"]: n for n in status(self.home)["nodes"]}
        self.evidence.add(
            "1", "status shows both", {k: v["state"] for k, v in seen.items()}, set(seen) == {"home", "cloud"}
        )
        self.evidence.add("1", "path to the vault", seen["cloud"]["path"], "direct" in seen["cloud"]["path"])
        kind = self.home.run("ip -d link show meshkeep0").stdout
        self.evidence.add(
            "1",
            "the tunnel is kernel WireGuard",
            "wireguard" if "wireguard" in kind else kind,
            "wireguard" in kind,
        )

    # -- 2: policy and replication -----------------------------------------------------------------------------

    def replicate(self) -> None:
        self.say("story 2: snapshots by policy, replicated raw, cut in the middle and resumed")
        self.home.put("/etc/meshkeep/meshkeep.toml", POLICY.encode())
        self.typed(self.home, "config", "reload")
        taken = eventually("a first snapshot by policy", lambda: snapshots(self.home, "tank/home"), 120)
        self.evidence.add(
            "2", "the policy took snapshots", ", ".join(taken), any("_monthly" in name for name in taken)
        )
        size = int(self.home.run("zfs get -Hp -o value referenced tank/home").stdout)
        self.typed(self.home, "replicate", "add", "tank/home", "cloud", "--no-wait")
        eventually("a part has arrived", lambda: self._sent() > 8 << 20, 120, every=0.2)
        before = self._sent()
        self.say(f"  cutting the network at {before >> 20} MiB of about {size >> 20} MiB…")
        self.lab.cut("home", "cloud")
        eventually(
            "home notices",
            lambda: (r := replica(self.home, "tank/home", "cloud")) and r["state"] != "running",
            180,
        )
        self.lab.heal()
        self.say("  healed")
        eventually("the replica is complete", lambda: self._protected(), 600)
        job = next(
            j for j in meshkeep(self.home, "replicate", "list").value["rules"] if j["dataset"] == "tank/home"
        )
        sent = job["bytes_total_sent"]
        self.evidence.add(
            "2",
            "resumed, nothing started over",
            f"{sent >> 20} MiB sent of {size >> 20} MiB, {job['resumed']} resumed",
            job["resumed"] >= 1 and sent < 1.5 * size,
        )
        before_guids = set(snapshots(self.cloud, self._stored()).values())
        self.home.run("echo later > /tank/home/notes/later.txt")
        later = self.typed(self.home, "snapshot", "take", "tank/home", "--name", "later").value
        guid = snapshots(self.home, "tank/home")["later"]
        eventually(
            "the later snapshot follows by itself",
            lambda: guid in snapshots(self.cloud, self._stored()).values(),
            180,
        )
        after = set(snapshots(self.cloud, self._stored()).values())
        self.evidence.add(
            "2",
            "later snapshots follow by themselves, incrementally",
            f"{later['snapshots'][0]} added to {len(before_guids)}",
            before_guids < after,
        )
        self.original = sums(self.home, "/tank/home")
        as_of = eventually("as of", lambda: (replica(self.home, "tank/home", "cloud") or {}).get("as_of"))
        self.evidence.add(
            "2",
            "protected on cloud as of",
            time.strftime("%H:%M:%S UTC", time.gmtime(as_of)),
            time.time() - as_of < 600,
        )

    def _sent(self) -> int:
        rules = meshkeep(self.home, "replicate", "list").value["rules"]
        return max((int(rule.get("bytes_done", 0)) for rule in rules), default=0)

    def _protected(self) -> bool:
        found = replica(self.home, "tank/home", "cloud")
        return bool(found and found["state"] == "ok" and found["as_of"])

    def _stored(self) -> str:
        listed = self.cloud.run("zfs list -Hp -o name").stdout.split()
        return next(name for name in listed if name.endswith("/tank/home"))

    # -- 3: the vault can neither read nor be made to forget ---------------------------------------------------

    def distrust_the_vault(self) -> None:
        self.say("story 3: the vault cannot read, and cannot be made to forget")
        stored = self._stored()
        key = self.cloud.run(f"zfs get -H -o value keystatus {stored}").stdout.strip()
        self.evidence.add("3", "keystatus on the vault", key, key == "unavailable")
        mounted = self.cloud.run(f"zfs mount {stored}", check=False)
        self.evidence.add("3", "mounting there fails", mounted.stderr.strip(), mounted.code != 0)
        self.cloud.run("zpool sync tank && sync")
        disk = (self.cloud.directory / disk_name(1)).read_bytes()
        diary, label = disk.count(CANARY.encode()), disk.count(b"tank")
        seen = f"{diary} times in {len(disk) >> 20} MiB (the pool's name: {label} times)"
        self.evidence.add("3", "the diary's text on the vault's disk", seen, diary == 0 and label > 0)
        held = snapshots(self.cloud, stored)
        for words in (
            ("snapshot", "destroy", "cloud:tank/home@later", "--yes"),
            ("snapshot", "take", "cloud:tank/home"),
            ("mount", "cloud:tank/home", "/mnt/cloud"),
        ):
            asked = self.typed(self.home, *words, check=False)
            self.evidence.add(
                "3",
                f"asked to {' '.join(words[:2])}",
                asked.value.get("message", asked.result.stderr.strip()),
                asked.code == 7,
            )
        self.home.run("zfs snapshot tank/home@one && zfs destroy tank/home@one")
        self.evidence.add(
            "3",
            "its snapshots are all still there",
            f"{len(held)} snapshots",
            snapshots(self.cloud, stored) == held,
        )

    # -- 4: mount home from the laptop -------------------------------------------------------------------------

    def mount_home(self) -> None:
        self.say("story 4: the laptop mounts home over the mesh")
        admit(self.home, self.laptop, ["--role", "admin", "--name", "laptop"])
        alive(self.laptop, "home")
        self.typed(self.home, "share", "add", "tank/home", "--to", "laptop")
        eventually(
            "the share is known",
            lambda: meshkeep(self.laptop, "mount", "home:tank/home", "/mnt/home", check=False).code == 0,
            120,
        )
        kind = self.laptop.run("stat -f -c %T /mnt/home; findmnt -no FSTYPE,OPTIONS -t nfs4 /mnt/home").stdout
        self.evidence.add(
            "4", "mounted by NFSv4", kind.split()[1] if len(kind.split()) > 1 else kind, "nfs4" in kind
        )
        read = sums(self.laptop, "/mnt/home")
        self.evidence.add(
            "4", "same sha256 of every file", f"{len(read.splitlines())} files", read == self.original
        )
        nat = self.lab.nat("home")
        stranger = self.lab.start(Host("stranger", nat="easy", lan="home", disks=0, meshkeep=False))
        refused = self._mount_as_stranger(stranger, nat.private if nat else "")
        self.evidence.add(
            "4",
            "a host on home's own LAN, outside the mesh, is refused",
            refused.stderr.strip(),
            refused.code != 0,
        )
        stranger.kill()
        self.typed(self.laptop, "umount", "/mnt/home")

    @staticmethod
    def _mount_as_stranger(stranger: Guest, address: str) -> Result:
        return stranger.run(
            "mkdir -p /mnt/x && "
            f"timeout 20 mount -t nfs4 -o retry=0,soft,timeo=30,retrans=1 {address}:/tank/home /mnt/x",
            check=False,
        )

    # -- 5: home burns -----------------------------------------------------------------------------------------

    def burn_home(self) -> None:
        self.say("story 5: home burns; a new host takes its place and gets everything back from the vault")
        old = node(self.laptop, "home")
        self.home.wipe()
        self.say("  power cut, disks wiped; a new machine in its place")
        self.home.boot()
        invite = self.typed(self.laptop, "invite", "--role", "admin", "--succeeds", "home").value
        self.home.put("/root/invite", invite["invite"].encode())
        self.typed(self.home, "join", "--invite-file", "/root/invite")
        alive(self.home, "cloud", "laptop")
        self.typed(
            self.home, "restore", "dataset", "tank/home", "--from", "cloud", "--to", "tank/home", "--wait"
        )
        self.home.run("zfs load-key tank/home && zfs mount tank/home", input=f"{PASSPHRASE}\n".encode())
        back = sums(self.home, "/tank/home")
        self.evidence.add(
            "5",
            "restored raw, the passphrase opens it, every sha256 equal",
            f"{len(back.splitlines())} files",
            back == self.original,
        )
        new = eventually(
            "the laptop sees the new home",
            lambda: (
                (n := node(self.laptop, "home"))
                and n["id"] != (old or {})["id"]
                and n["state"] == "alive"
                and n
            ),
        )
        self.evidence.add(
            "5", "status on the laptop shows the new home", f"{new['id']} (was {(old or {})['id']})", True
        )


def main() -> int:
    begun = time.monotonic()
    deb = find_deb()
    if deb is None:
        print("no package to demonstrate: run `make deb`", file=sys.stderr)
        return 1
    with Lab([Host("home", pool="tank", nat="easy"), Host("laptop", disks=0)], deb=deb) as lab:
        demo = Demo(lab, deb)
        stories: list[Callable[[], None]] = [
            demo.rent_a_vault, demo.replicate, demo.distrust_the_vault, demo.mount_home, demo.burn_home,
        ]  # fmt: skip
        for story in stories:
            story()
    print(f"\n{demo.evidence.table()}\n\n{time.monotonic() - begun:.0f} s in all")
    return 0 if demo.evidence.true else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LabError, TimeoutError, AssertionError) as error:
        print(f"\nthe demo stopped: {error}", file=sys.stderr)
        sys.exit(1)
