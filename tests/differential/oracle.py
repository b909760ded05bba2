"""Runs the real sanoid on a world: with a stub `zfs` and `zpool` on its PATH, a clock that stands still, and UTC.

SANOID names another sanoid than the installed one; its sanoid.defaults.conf is looked for beside it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.differential.world import Outcome, World

STUBS = Path(__file__).parent / "stubs"
INSTALLED = Path("/usr/sbin/sanoid")
DEFAULTS = Path("/usr/share/sanoid/sanoid.defaults.conf")

_TAKING = re.compile(r"taking snapshot (.+)@autosnap_[\d:_-]+_(\w+?)(dst)?( \(zfs recursive\))?")
_PRUNING = re.compile(r"INFO: pruning (.+) \.\.\. ")


@dataclass(frozen=True, slots=True)
class Run:
    """How one run went: its exit code, what it wrote, and which `zfs snapshot` and `zfs destroy` it called."""

    code: int
    stdout: str
    stderr: str
    calls: tuple[str, ...]
    world: World

    def said(self) -> Outcome:
        """What it says it does. What it would do to datasets that do not exist is left out: zfs would refuse."""
        take, prune = set(), set()
        for line in self.stdout.splitlines():
            if found := _TAKING.fullmatch(line):
                take.add((found[1], found[2], bool(found[4])))
            elif found := _PRUNING.fullmatch(line):
                prune.add(found[1])
        return self._outcome(take, prune)

    def did(self) -> Outcome:
        """What it called `zfs` for."""
        take, prune = set(), set()
        for call in self.calls:
            if found := re.fullmatch(r"snapshot( -r)? (.+)@autosnap_[\d:_-]+_(\w+)", call):
                take.add((found[2], found[3], bool(found[1])))
            elif found := re.fullmatch(r"destroy (.+)", call):
                prune.add(found[1])
        return self._outcome(take, prune)

    def _outcome(self, take: set[tuple[str, str, bool]], prune: set[str]) -> Outcome:
        return Outcome(
            frozenset(
                (dataset, kind, recursive)
                for dataset, kind, recursive in take
                if dataset in self.world.datasets
            ),
            frozenset(prune),
        )


class Oracle:
    """The real sanoid, with a directory to keep its world in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._program = Path(os.environ.get("SANOID", INSTALLED))
        self._defaults = self._program.parent / "sanoid.defaults.conf"
        if not self._defaults.exists():
            self._defaults = DEFAULTS

    @cached_property
    def version(self) -> tuple[int, ...]:
        """Such as (2, 3, 0)."""
        shown = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"version (\d+)\.(\d+)\.(\d+)", shown.stdout)
        if found is None:
            raise RuntimeError(f"{self._program} does not say its version: {shown.stdout}{shown.stderr}")
        return tuple(map(int, found.groups()))

    def plan(self, world: World) -> Outcome:
        """What sanoid says it would take and destroy. It must come to the end of its run."""
        run = self.run(world, "--cron", "--readonly")
        if run.code != 0:
            raise RuntimeError(f"sanoid ended with {run.code}: {run.stderr}")
        return run.said()

    def run(self, world: World, *options: str, timezone: str = "UTC") -> Run:
        """One run, with --verbose. Nothing says that it comes to its end."""
        place = self._directory / "run"
        shutil.rmtree(place, ignore_errors=True)
        _write(place, world)
        shutil.copy(self._defaults, place / "sanoid.defaults.conf")
        # --force-prune: not to look for a `zfs send` among the processes of this host.
        command = [
            *("faketime", "-f", str(world.now), "perl", str(self._program)),
            *("--verbose", "--force-prune", f"--configdir={place}"),
            *(f"--cache-dir={place}/cache", f"--run-dir={place}/run", *options),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment(place, timezone)
        )
        calls = (place / "calls").read_text().splitlines() if (place / "calls").exists() else []
        return Run(done.returncode, done.stdout, done.stderr, tuple(calls), world)

    def _environment(self, place: Path, timezone: str) -> dict[str, str]:
        path = f"{STUBS}:/usr/bin:/bin"
        # A fixed order of Perl's hashes, so that a failure comes again.
        fixed = {"PERL_HASH_SEED": "0", "LC_ALL": "C", "FAKETIME_FMT": "%s"}
        return {"PATH": path, "TZ": timezone, "WORLD": str(place), **fixed}


def _write(place: Path, world: World) -> None:
    place.mkdir(parents=True)
    (place / "sanoid.conf").write_text(world.conf, newline="")
    (place / "datasets").write_text(_lines(sorted(world.datasets)))
    (place / "snapshots").write_text(_lines([f"{name}\tcreation\t{at}\t-" for name, at in world.snapshots]))
    (place / "pools").mkdir()
    for pool, capacity in world.pools.items():
        (place / "pools" / pool).write_text(f"{capacity}%\n")


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
