"""Raw encrypted sends between two datasets of one machine of the lab: OpenZFS is the real one here."""

import io
import json
import re
import tarfile
from pathlib import Path

from tests.bench.measure import OURS, Row, Taken, rows
from tests.lab import Guest, Host, Lab

ROOT = Path(__file__).resolve().parents[2]
WHERE = "/opt/bench"
SOURCE, REPLICAS, TARGET = "tank/home", "tank/replicas", "tank/replicas/home"
MEGABYTES = 150
SETUP = f"""
set -e
echo passphrase > /root/key
zfs create -o encryption=on -o keyformat=passphrase -o keylocation=file:///root/key {SOURCE}
zfs create -o mountpoint=none {REPLICAS}
head -c {MEGABYTES}M /dev/urandom > /{SOURCE}/data
zfs snapshot {SOURCE}@a
zpool sync
"""
DRIVER = json.dumps({"source": SOURCE, "target": TARGET})
TOOLS = {
    OURS: f"env PYTHONPATH={WHERE} python3 {WHERE}/driver.py '{DRIVER}'",
    "zfs send -w | zfs recv -s": f"zfs send -w {SOURCE}@a | zfs recv -s -u {TARGET}",
    "syncoid": f"syncoid --quiet --no-sync-snap --sendoptions=w --recvoptions=u {SOURCE} {TARGET}",
}

WORKERS = "both workers, from their start to their end"
IMPORTS = "one Python that only imports what a worker does"
STARTED = f"env PYTHONPATH={WHERE} python3 -c 'import node.worker, zfs.libzfs'"


def guest(quick: bool) -> list[Row]:
    """From the command to its end: listing, planning and starting workers are in it, for syncoid too.

    Ours goes through TCP on loopback between two processes, the others through a pipe.
    """
    runs = 1 if quick else 3
    with Lab(hosts=[Host("bench", pool="tank", meshkeep=False)]) as lab:
        host = lab["bench"]
        host.run(f"mkdir -p {WHERE} && tar -x -C {WHERE}", input=_packed())
        host.run(SETUP)
        values: dict[str, list[float]] = {tool: [] for tool in (*TOOLS, WORKERS, IMPORTS)}
        for _ in range(runs + 1):
            for tool, command in TOOLS.items():
                host.run(f"zfs destroy -r {TARGET}; zpool sync", check=False)
                values[tool].append(_timed(host, command))
                _check(host, command)
                if tool == OURS:
                    steps = json.loads(host.run("cat /tmp/said").stdout)["steps"]
                    values[WORKERS].append(sum(step["seconds"] for step in steps))
            values[IMPORTS].append(_timed(host, STARTED))
    # The first round warms the caches of the guest, and of the emulator, which translates what it runs.
    taken = {tool: Taken(tool, tuple(seconds[1:])) for tool, seconds in values.items()}
    size = f"{MEGABYTES} MB raw, a first send within one machine"
    return [
        *rows(size, "s", [taken[tool] for tool in TOOLS]),
        *rows(f"{size}: of ours", "s", [taken[OURS], taken[WORKERS], taken[IMPORTS]]),
    ]


def _timed(host: Guest, command: str) -> float:
    script = f"TIMEFORMAT=took=%R\ntime {{ {command} > /tmp/said; }}\n"
    said = host.run("bash -e -o pipefail -s", input=script.encode()).stderr
    match = re.search(r"took=([\d.]+)", said)
    if match is None:
        raise RuntimeError(f"{command!r} took no time: {said}")
    return float(match[1])


def _check(host: Guest, command: str) -> None:
    """The snapshot is there, or its time is worth nothing."""
    guids = host.run(f"zfs list -Hp -t snapshot -d 1 -o guid {SOURCE} {TARGET}").stdout.split()
    if len(guids) != 2 or guids[0] != guids[1]:
        raise RuntimeError(f"{command!r} did not bring the snapshot: {host.run('cat /tmp/said').stdout}")


def _packed() -> bytes:
    """What the workers need, and the lab's driver of one replication."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted([*ROOT.glob("zfs/*.py"), *ROOT.glob("replication/*.py")]):
            tar.add(path, path.relative_to(ROOT))
        for name in ("node/__init__.py", "node/worker.py"):
            tar.add(ROOT / name, name)
        tar.add(ROOT / "tests/lab/data_plane_driver.py", "driver.py")
    return buffer.getvalue()
