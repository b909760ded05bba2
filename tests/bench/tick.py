"""One round of the scheduler over many snapshots with nothing to do, beside sanoid's.

sanoid runs as the program it is, with a `zfs` on its PATH that prints a list. SANOID names another one than the
Debian package's.
"""

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy.naming import snapshot_name
from policy.rules import KINDS, Assignment, Kind, Policy, Resolution, resolve
from policy.tick import Inventory, Tick, plan_tick
from tests.bench.measure import OURS, Row, Taken, cpu, peak, rows
from zfs import listing

PER_DATASET: dict[Kind, int] = {"hourly": 48, "daily": 46, "monthly": 6}
PERIOD: dict[Kind, int] = {"hourly": 3600, "daily": 86400, "monthly": 31 * 86400}
ROOT = Path(__file__).resolve().parents[2]


def tick(quick: bool) -> list[Row]:
    """Reading the list and deciding, each as a process from start to end; and the decision alone."""
    datasets = [f"tank/data{number}" for number in range(100 if quick else 1000)]
    now = int(time.time())
    text = inventory(datasets, now)
    runs = 3 if quick else 5
    decided = decide(text, datasets, now)
    assert not decided.take
    assert not decided.destroy
    found, resolution = Inventory(tuple(listing.snapshots(text))), _resolution(datasets)
    size = f"{len(datasets):,} datasets, {len(found.snapshots):,} snapshots"
    alone = cpu(lambda: plan_tick(found, resolution, now), runs)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "list").write_text(text)
        words = [
            sys.executable,
            "-m",
            "tests.bench.tick",
            str(directory / "list"),
            str(len(datasets)),
            str(now),
        ]
        taken = [Taken(OURS, cpu(lambda: subprocess.run(words, check=True, cwd=ROOT), runs))]
        memory = [Taken(OURS, tuple(peak(words, os.environ, ROOT) for _ in range(runs)))]
        sanoid = Path(os.environ.get("SANOID", "/usr/sbin/sanoid"))
        if sanoid.exists():
            oracle = _sanoid(sanoid, directory, datasets, text)
            taken.append(Taken("sanoid", cpu(oracle.run, runs)))
            memory.append(Taken("sanoid", tuple(oracle.peak() for _ in range(runs))))
        else:
            print(f"there is no {sanoid} to compare with: apt install sanoid")
    return [
        *rows(f"policy: list read and decided, {size}", "CPU ms", taken),
        *rows(f"policy: list read and decided, {size}", "MiB peak", memory),
        *rows(f"policy: decided, {size}", "CPU ms", [Taken(OURS, alone)]),
    ]


def inventory(datasets: list[str], now: int) -> str:
    """What ``zfs list`` would print: every kind complete, and the newest half an hour ahead.

    So nothing falls due while this runs, whatever the clock, which sanoid reads for itself.
    """
    lines = []
    number = 0
    for dataset in datasets:
        for kind, count in PER_DATASET.items():
            for back in range(count):
                number += 1
                at = now + 1800 - back * PERIOD[kind]
                lines.append(
                    f"{dataset}@{snapshot_name(kind, at)}\t{number}\t{10**7 + at // 60}\t{at}\t0\t0\n"
                )
    return "".join(lines)


def decide(text: str, datasets: list[str], now: int) -> Tick:
    """All of a tick but asking ZFS."""
    return plan_tick(Inventory(tuple(listing.snapshots(text))), _resolution(datasets), now)


def _resolution(datasets: list[str]) -> Resolution:
    hourly, daily, monthly = (PER_DATASET[kind] for kind in ("hourly", "daily", "monthly"))
    policy = Policy(name="bench", hourly=hourly, daily=daily, monthly=monthly)
    return resolve([Assignment("tank", policy, recursion="each")], datasets)


@dataclass(frozen=True, slots=True)
class _Sanoid:
    """Runs it once, cache expired, as its timer does; it must not want to change anything."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path

    def run(self) -> None:
        self._expire()
        done = subprocess.run(self.words, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"sanoid failed: {done.stderr[:500]}")
        self._check()

    def peak(self) -> float:
        """Like `run`: the most memory that it had, in MiB."""
        self._expire()
        most = peak(self.words, self.environment, self.directory)
        self._check()
        return most

    def _expire(self) -> None:
        (self.directory / "cache/snapshots.txt").unlink(missing_ok=True)

    def _check(self) -> None:
        asked = self.directory / "asked"
        if asked.exists():
            raise RuntimeError(f"sanoid did not find everything as it should be: {asked.read_text()[:500]}")


def _sanoid(program: Path, directory: Path, datasets: list[str], text: str) -> _Sanoid:
    (directory / "get").write_text(
        "".join(
            f"{fields[0]}\tcreation\t{fields[3]}\t-\n"
            for line in text.splitlines()
            if (fields := line.split("\t"))
        )
    )
    stubs = directory / "bin"
    stubs.mkdir()
    stub = stubs / "zfs"
    stub.write_text(
        f'#!/bin/sh\ncase "$1" in\nget) exec cat {directory}/get ;;\n*) echo "$@" >> {directory}/asked ;;\nesac\n'
    )
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    counts = "".join(f"{kind} = {PER_DATASET.get(kind, 0)}\n" for kind in KINDS)
    sections = "".join(f"[{name}]\nuse_template = p\n" for name in datasets)
    (directory / "sanoid.conf").write_text(
        f"{sections}[template_p]\n{counts}autosnap = yes\nautoprune = yes\n"
    )
    words = [str(program), "--configdir", str(directory), "--cache-dir", f"{directory}/cache"]
    words += ["--run-dir", f"{directory}/run", "--take-snapshots", "--prune-snapshots"]
    environment = os.environ | {"PATH": f"{stubs}:{os.environ['PATH']}", "TZ": "UTC"}
    return _Sanoid(tuple(words), environment, directory)


if __name__ == "__main__":
    file, count, at = sys.argv[1:]
    result = decide(Path(file).read_text(), [f"tank/data{number}" for number in range(int(count))], int(at))
    sys.exit(bool(result.take or result.destroy))
